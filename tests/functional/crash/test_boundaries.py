"""SIGKILL of the service at each boundary of each operation, and what the next start makes of it.

A case is: set a scenario up in a child process, kill the child at the n-th boundary, let the guest write on, kill the
storage daemons too or not, start the vPool again (and kill that start too, or not), and audit. The boundaries are those
that the code declares: a test sees to it that none is missing.

``make test`` runs each boundary in one way or two; with ``CRASH_ALL=1`` in the environment it is all ways, the first
boundaries of the recovery included, on every QEMU at hand.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path

import pytest
from tests.support.crash_case import Case, Stage, Way
from tests.support.crash_scenarios import SCENARIOS, Scenario
from tests.support.qemus import bin_dirs

from openvstorage.vpool.operations.registry import TYPES

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]

ALL = bool(os.environ.get("CRASH_ALL"))
QEMUS = bin_dirs() if ALL else dict(itertools.islice(bin_dirs().items(), 1))
INTRICATE = {"snapshot-online", "group", "extend-online", "merge", "merge-online", "fold", "fold-under-readers"}


def ways(scenario: Scenario, at: int) -> list[Way]:
    """:returns: the ways in which a boundary is tried: killed once or again, without the daemons or with them.

    Where a daemon's own state and the model change together both ways count; elsewhere they take turns.
    """
    if ALL:
        return [Way(daemons, again) for daemons in (False, True) for again in (None, 0, 1, 2)]
    both = [Way(daemons=False, again=None), Way(daemons=True, again=0)]
    if scenario.name in INTRICATE:
        return both
    if scenario.boundaries()[at] == "task:submitted":
        return []  # nothing has begun: the same for every operation
    return [both[at % 2]]


@pytest.mark.parametrize("qemu", QEMUS.values(), ids=QEMUS.keys())
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_killed_at_any_boundary_the_next_start_makes_it_whole(scenario: Scenario, qemu: Path, directory: Path) -> None:
    stage = Stage(scenario, directory, qemu)
    asyncio.run(stage.make())
    passed, _ = Case(stage, None, Way(daemons=False, again=None)).run()
    assert passed == scenario.boundaries()
    recovered: set[str] = set()
    for at in range(len(passed)):
        for way in ways(scenario, at):
            case = Case(stage, at, way)
            before, after = case.run()
            assert before == passed[: at + 1], f"{case}: it took another way"
            recovered.update(after)
    assert scenario.all_boundaries() - set(passed) <= recovered


def test_no_boundary_is_forgotten() -> None:
    """The code says which boundaries there are; each is one at which some scenario is killed or recovers."""
    declared = {"task:submitted"}
    for type_, operation in TYPES.items():
        declared.add(f"{type_}:begin")
        declared.update(f"{type_}:{step.name}" for step in operation.steps)
        declared.update(f"{type_}:{step.name}:committed" for step in operation.steps if step.commit)
        if operation.steps:
            declared.add(f"{type_}:finish")
        if operation.steps and not operation.forward:
            declared.add(f"{type_}:abort")
    reached = set().union(*(scenario.all_boundaries() for scenario in SCENARIOS))
    assert declared - reached == set()
    assert reached - declared == set(), "a scenario names a boundary that the code does not have"
