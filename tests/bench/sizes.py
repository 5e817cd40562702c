"""Does the size of a vDisk matter? The same calls for a small and for the largest one, in turn, and what they take."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

from tests.bench.figures import Comparison, Results, Series, Stopwatch
from tests.bench.pool import Pool, running

CHAPTER = "size of a vDisk"
AT_MOST = 1.3
GIB = 1024**3
SIZES = {"1 GiB": GIB, "64 TiB": 64 * 1024 * GIB}
WARM_UP = 3
STEPS = 8


def measure(work: Path, *, rounds: int, chance: random.Random) -> Results:
    """Compare a vDisk of 64 TiB with one of 1 GiB.

    :param work: an empty directory on the file system to measure.
    """
    watch = Stopwatch(SIZES)
    taken = {side: Series(side, "KiB") for side in SIZES}
    with running(work / "sizes") as pool:
        for number in range(rounds + WARM_UP):
            if number == WARM_UP:
                watch.clear()
            calls = {side: _calls(watch, side, pool, taken[side], number) for side in SIZES}
            for _ in range(STEPS):
                for side in chance.sample(list(SIZES), len(SIZES)):
                    next(calls[side])
    base, other = taken.values()
    space = Comparison(CHAPTER, "disk space of a new vDisk with a snapshot and a clone", base, other)
    return Results([*watch.comparisons(CHAPTER, at_most=AT_MOST), space])


def _calls(watch: Stopwatch, side: str, pool: Pool, taken: Series, number: int) -> Iterator[None]:
    client, name = pool.client, f"disk-{number}-{SIZES[side]}"
    vdisk = watch.time("create", side, lambda: client.vdisks.create(name, SIZES[side], pool.vpool))
    yield
    snapshot = watch.time("snapshot", side, lambda: client.snapshots.create(vdisk, name))
    yield
    clone = watch.time("clone", side, lambda: client.vdisks.clone(vdisk, f"{name}-clone", snapshot))
    yield
    taken.samples.append(pool.taken_by(vdisk, clone) / 1024)
    grant = watch.time("grant", side, lambda: client.grants.create(clone, "bench", name))
    yield
    watch.time("snapshot in use", side, lambda: client.snapshots.create(clone, name))
    yield
    watch.time("revoke", side, lambda: client.grants.revoke(grant.guid))
    yield
    watch.time("delete snapshot", side, lambda: client.snapshots.delete(vdisk, snapshot))
    yield
    watch.time("delete vDisk", side, lambda: client.vdisks.delete(clone))
    client.vdisks.delete(vdisk)
    yield
