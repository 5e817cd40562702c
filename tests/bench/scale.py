"""Does the number of vDisks matter? The same calls to a service with few and to one with many, in turn."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.bench.figures import Fact, Results, Stopwatch
from tests.bench.fill import GIB, fill, filled_name
from tests.bench.pool import Pool, running

from openvstorage.client import VDisk

CHAPTER = "number of vDisks"
AT_MOST = 1.3
WARM_UP = 5
#: The shortest call needs the most samples.
LOOK_UPS = 5


def measure(work: Path, *, few: int, many: int, rounds: int, chance: random.Random) -> Results:
    """Compare a pool of ``many`` vDisks with one of ``few``.

    :param work: an empty directory on the file system to measure.
    :param rounds: samples of each call on each side.
    """
    sides = {f"{number} vDisks": number for number in (few, many)}
    watch = Stopwatch(sides)
    with ExitStack() as stack:
        pools = {}
        for side, number in sides.items():
            data = work / f"vdisks-{number}"
            fill(data, number)
            pools[side] = stack.enter_context(running(data))
        for number in range(rounds + WARM_UP):
            if number == WARM_UP:
                watch.clear()
            _round(watch, pools, sides, f"new-{number}", chance)
        filled = Fact(CHAPTER, "vDisks in the large pool", _count(pools[f"{many} vDisks"]), "copies of one made by API")
    return Results(watch.comparisons(CHAPTER, at_most=AT_MOST), [filled])


def _round(watch: Stopwatch, pools: dict[str, Pool], sides: dict[str, int], name: str, chance: random.Random) -> None:
    """One of each call on each side, side by side; which side comes first is left to chance."""
    calls = {side: _calls(watch, side, pools[side], filled_name(chance.randrange(sides[side])), name) for side in sides}
    for _ in range(len(ACTIONS)):
        for side in chance.sample(list(sides), len(sides)):
            next(calls[side])


ACTIONS = (
    *["look up by name"] * LOOK_UPS,
    "create",
    "grant",
    "revoke",
    "snapshot",
    "clone",
    "delete snapshot",
    "delete vDisk",
)


def _calls(watch: Stopwatch, side: str, pool: Pool, filled: str, name: str) -> Iterator[None]:
    """A timed call at each step, in the order of :data:`ACTIONS`.

    :param filled: one of the vDisks that were there before.
    :param name: of the one that is made.
    """
    client = pool.client
    for _ in range(LOOK_UPS):
        vdisk = watch.time("look up by name", side, lambda: _found(pool, filled))
        yield
    made = watch.time("create", side, lambda: client.vdisks.create(name, GIB, pool.vpool))
    yield
    # a vDisk that nobody could write to has its snapshot for nothing: this one can be written to
    grant = watch.time("grant", side, lambda: client.grants.create(vdisk.guid, "bench", name))
    yield
    watch.time("revoke", side, lambda: client.grants.revoke(grant.guid))
    yield
    snapshot = watch.time("snapshot", side, lambda: client.snapshots.create(vdisk.guid, name))
    yield
    clone = watch.time("clone", side, lambda: client.vdisks.clone(vdisk.guid, f"{name}-clone", snapshot))
    yield
    watch.time("delete snapshot", side, lambda: client.snapshots.delete(vdisk.guid, snapshot))
    yield
    watch.time("delete vDisk", side, lambda: client.vdisks.delete(clone))
    client.vdisks.delete(made)
    yield


def _found(pool: Pool, name: str) -> VDisk:
    vdisk = pool.client.vdisks.find(name, pool.vpool)
    assert vdisk is not None
    return vdisk


def _count(pool: Pool) -> int:
    with pool.model() as connection:
        return int(connection.execute("SELECT count(*) FROM vdisk").fetchone()[0])
