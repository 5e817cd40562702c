"""One of two management addresses dies while Cinder works, then the other one instead: nothing fails."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from tests.support.cinder_world import FIRST, GIB, CinderWorld, eventually
from tests.support.gate import Gate

pytestmark = pytest.mark.timeout(600)

_WORKERS = 4


def life_of_a_volume(world: CinderWorld) -> int:
    """Make a volume, snapshot, volume from it and clone, grow, and delete it all; give the number of operations."""
    volume = world.make(FIRST)
    snapshot = world.snapshot(volume)
    copy = world.make(FIRST, 2, snapshot_id=snapshot)
    clone = world.make(FIRST, source_volume_id=volume)
    world.storage.extend_volume(clone, 2)
    world.await_volume(clone)
    vpool = world.vpools[FIRST]
    vdisks = [world.vdisk(each) for each in (volume, copy, clone)]
    assert [vpool.size(vdisk) for vdisk in vdisks] == [GIB, 2 * GIB, 2 * GIB]
    world.delete(volume, copy, clone)
    assert vpool.vdisks().keys() & set(vdisks) == set()
    return 9


def carries(gate: Gate, calls: int, workers: list[Future[int]]) -> None:
    """Wait until a gate has answered so many more calls, or work has ended, as it does only when it fails."""
    wanted = gate.passed + calls
    eventually(lambda: gate.passed >= wanted or any(worker.done() for worker in workers))


def test_operations_go_on_while_one_address_dies_and_then_the_other(world: CinderWorld) -> None:
    done = threading.Event()

    def work() -> int:
        operations = life_of_a_volume(world)
        while not done.is_set():
            operations += life_of_a_volume(world)
        return operations

    with ThreadPoolExecutor(_WORKERS) as pool:
        workers = [pool.submit(work) for _ in range(_WORKERS)]
        try:
            for dies, stays in (world.gates, reversed(world.gates), world.gates):
                dies.die()
                carries(stays, 100, workers)
                dies.live()
        finally:
            done.set()
        operations = sum(worker.result() for worker in workers)
    assert operations >= 9 * _WORKERS
