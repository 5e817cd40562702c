"""Steps run when what they need is done, at the same time where nothing forbids it, and stop at the first failure."""

import threading
from io import StringIO

import pytest
from rich.console import Console

from openvstorage.aio.steps import Step, run_steps


def console() -> Console:
    return Console(file=StringIO())


def test_a_step_waits_for_what_it_needs() -> None:
    order: list[str] = []

    def note(name: str) -> Step:
        return Step(name, name, lambda: order.append(name), {"a": (), "b": ("a",), "c": ("b", "a")}[name])

    run_steps([note("c"), note("b"), note("a")], console())
    assert order == ["a", "b", "c"]


def test_independent_steps_run_at_the_same_time() -> None:
    # Passes only if both are inside at once.
    meeting = threading.Barrier(2, timeout=20)

    def meet() -> None:
        meeting.wait()

    run_steps([Step("a", "a", meet), Step("b", "b", meet)], console())


def test_of_those_that_could_run_the_first_in_the_list_does() -> None:
    order: list[str] = []

    def note(name: str, *needs: str) -> Step:
        return Step(name, name, lambda: order.append(name), needs)

    # When "first" has ended, both could run; "urgent" could not before.
    run_steps([note("first"), note("urgent", "first"), note("other")], console(), workers=1)
    assert order == ["first", "urgent", "other"]


def test_after_a_failure_nothing_starts_and_the_first_error_is_raised() -> None:
    ran: list[str] = []

    def fail() -> None:
        raise RuntimeError("the disk is full")

    with pytest.raises(RuntimeError, match="the disk is full"):
        run_steps([Step("a", "a", fail), Step("b", "b", lambda: ran.append("b"), ("a",))], console())
    assert ran == []


def test_a_failure_makes_the_others_give_up() -> None:
    given_up = threading.Event()

    def fail() -> None:
        raise RuntimeError("the disk is full")

    # Ends at once if it is told, otherwise after a time that no test waits for.
    def wait() -> None:
        assert given_up.wait(60)

    with pytest.raises(RuntimeError, match="the disk is full"):
        run_steps([Step("a", "a", wait), Step("b", "b", fail)], console(), given_up.set)


def test_a_need_that_nothing_satisfies_is_refused() -> None:
    with pytest.raises(ValueError, match="misspelt"):
        run_steps([Step("a", "a", lambda: None, ("misspelt",))], console())


def test_outcomes_are_shown() -> None:
    shown = StringIO()
    run_steps([Step("a", "the database", lambda: "found")], Console(file=shown, width=100))
    assert "the database: found" in shown.getvalue()
