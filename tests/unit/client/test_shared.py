"""Values that one thread fetches for all."""

import threading

import pytest
from tests.support.standin29_wire import FakeClock

from openvstorage.client.clock import SystemClock
from openvstorage.client.errors import Unreachable
from openvstorage.client.shared import Shared


def test_who_waited_for_a_failure_gets_it_and_who_comes_later_tries_again():
    shared: Shared[int] = Shared(SystemClock())
    began, go_on = threading.Event(), threading.Event()
    fetches, faults = [], []

    def fail():
        fetches.append(1)
        began.set()
        go_on.wait(10)
        raise Unreachable(endpoint="a", reason="timed out")

    def ask():
        try:
            shared.get(lambda value: True, fail)
        except Unreachable as error:
            faults.append(error)

    first = threading.Thread(target=ask)
    first.start()
    began.wait(10)
    asked = threading.Barrier(6)

    # Lets this test know that each of the others has asked before the failure comes.
    class Clock(SystemClock):
        def monotonic(self):
            now = super().monotonic()
            if not go_on.is_set():
                asked.wait(10)
            return now

    shared._clock = Clock()
    others = [threading.Thread(target=ask) for _ in range(5)]
    for thread in others:
        thread.start()
    asked.wait(10)
    go_on.set()
    for thread in [first, *others]:
        thread.join()
    assert len(fetches) == 1
    assert len(faults) == 6
    assert len({id(fault) for fault in faults}) == 6
    assert {str(fault) for fault in faults} == {"Cannot reach a: timed out"}
    assert shared.get(lambda value: True, lambda: 7) == 7


def test_a_value_is_fetched_again_when_it_is_no_longer_usable_or_was_dropped():
    shared: Shared[object] = Shared(FakeClock())
    first = shared.get(lambda value: True, object)
    assert shared.get(lambda value: True, object) is first
    second = shared.get(lambda value: False, object)
    assert second is not first
    shared.drop(first)
    assert shared.get(lambda value: True, object) is second
    shared.drop(second)
    assert shared.get(lambda value: True, object) is not second


def test_a_failure_is_not_kept():
    clock = FakeClock()
    shared: Shared[int] = Shared(clock)

    def fail():
        raise Unreachable(endpoint="a", reason="refused")

    with pytest.raises(Unreachable):
        shared.get(lambda value: True, fail)
    assert shared.get(lambda value: True, lambda: 7) == 7
