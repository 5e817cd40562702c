"""Do many live snapshots make reading slow? Random reads of the same data in one layer and under many snapshots."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterable
from pathlib import Path

from tests.bench import fio
from tests.bench.figures import Comparison, Fact, Results, Series
from tests.bench.pool import Pool, running

from openvstorage.client import Grant
from openvstorage.edge.nbd import NbdClient
from openvstorage.vpool.backends.layers.depth import STRIDE, best_depth

CHAPTER = "live snapshots"
LARGE_CHAPTER = "live snapshots of a large vDisk"
AT_LEAST = 0.8
#: Most reads find nothing in any of ten layers, and a read that copies nothing costs so little that each layer counts.
LARGE_AT_LEAST = 0.3
MIB = 1024**2
CHUNK = 64 * 1024
#: Between two snapshots one of so many chunks is overwritten.
SHARE = 64
#: Of a large vDisk one of so many chunks has data.
SPREAD = 64
SETTLE_SECONDS = 120.0
DEPTH = """
WITH RECURSIVE line(guid, parent) AS (
    SELECT layer.guid, layer.parent_guid FROM layer JOIN vdisk ON vdisk.backend_ref = layer.guid WHERE vdisk.guid = ?
    UNION ALL SELECT layer.guid, layer.parent_guid FROM layer JOIN line ON layer.guid = line.parent
) SELECT count(*) FROM line
"""
HEAD = "SELECT layer.ordinal, layer.guid FROM layer JOIN vdisk ON vdisk.backend_ref = layer.guid WHERE vdisk.guid = ?"

BELOW = "SELECT ordinal FROM layer WHERE guid = (SELECT parent_guid FROM layer WHERE guid = ?)"


def measure(work: Path, *, snapshots: int, size: int, rounds: int, seconds: int) -> Results:
    """Compare random reads of a vDisk without snapshots with those of one with many, both full of data.

    :param work: an empty directory on the file system to measure.
    :param size: bytes of each vDisk.
    :param rounds: measurements of each, in turn.
    :param seconds: length of each.
    """
    with running(work / "depth") as pool:
        results = _compare(pool, CHAPTER, AT_LEAST, snapshots, range(0, size, CHUNK), rounds, seconds)
        results.facts += _without_a_pause(pool, snapshots)
    return results


def measure_large(work: Path, *, snapshots: int, size: int, rounds: int, seconds: int) -> Results:
    """The same for a vDisk so large that finding the data takes memory: it holds little data, but all over.

    Takes the parameters of :func:`measure`.
    """
    with running(work / "large") as pool:
        chunks = range(0, size, CHUNK * SPREAD)
        return _compare(pool, LARGE_CHAPTER, LARGE_AT_LEAST, snapshots, chunks, rounds, seconds)


def _compare(
    pool: Pool, chapter: str, at_least: float, snapshots: int, chunks: range, rounds: int, seconds: int
) -> Results:
    """Compare two vDisks of the same data, written in the same pieces in the same order; one had a snapshot taken
    between any two pieces.

    :param chunks: the offsets that have data.
    """
    size = chunks.stop
    flat, deep = "no snapshot", f"{snapshots} snapshots"
    results = Results()
    grants = {side: _written(pool, side, chunks, snapshots if side == deep else 0, snapshots) for side in (flat, deep)}
    daemons = {side: _daemon(pool, grant.vdisk_guid) for side, grant in grants.items()}
    for side in grants:
        _reads_per_second(grants[side], size, 32, seconds)  # what was just written is not where it will be for long
    for depth in (1, 32):
        speed = {side: Series(side, "reads/s") for side in grants}
        work_done = {side: Series(side, "µs") for side in grants}
        for number in range(rounds):
            for side in (flat, deep) if number % 2 else (deep, flat):
                before = _processor_seconds(daemons[side])
                speed[side].samples.append(_reads_per_second(grants[side], size, depth, seconds))
                used = _processor_seconds(daemons[side]) - before
                work_done[side].samples.append(used / (speed[side].samples[-1] * seconds) * 1e6)
        name = f"random reads of 4 KiB, {depth} at a time"
        results.comparisons += [
            Comparison(chapter, name, speed[flat], speed[deep], at_least=at_least),
            Comparison(chapter, f"{name}: processor time of the daemon", work_done[flat], work_done[deep]),
        ]
    for side, grant in grants.items():
        results.facts.append(Fact(chapter, f"{side}: layers that a read may pass", _depth(pool, grant.vdisk_guid)))
        results.facts.append(Fact(chapter, f"{side}: memory of the daemon", _memory(daemons[side]) // MIB, "MiB"))
    results.facts.append(Fact(chapter, "data in each vDisk", len(chunks) * CHUNK // MIB, "MiB"))
    return results


def _written(pool: Pool, name: str, chunks: range, snapshots: int, pieces: int) -> Grant:
    """Make a vDisk, fill it, and overwrite parts of it at random, if wanted with a snapshot before each part."""
    client = pool.client
    vdisk = client.vdisks.create(name.replace(" ", "-"), chunks.stop, pool.vpool)
    grant = client.grants.create(vdisk, "bench", "depth")
    with _opened(grant) as disk:
        _write(disk, chunks)
    chance = random.Random(0)  # the same pieces for every vDisk
    for number in range(pieces):
        if number < snapshots:
            client.snapshots.create(vdisk, f"{name}-{number}")
            _wait_for_merges(pool, vdisk)
        with _opened(grant) as disk:
            _write(disk, chance.sample(chunks, max(1, len(chunks) // SHARE)))
    _wait_for_merges(pool, vdisk)
    return grant


def _without_a_pause(pool: Pool, snapshots: int) -> list[Fact]:
    """Take snapshots as fast as they come, with a write before each, and see how soon the chain is short again."""
    client, size = pool.client, 256 * MIB
    vdisk = client.vdisks.create("without-a-pause", size, pool.vpool)
    grant = client.grants.create(vdisk, "bench", "depth")
    deepest = 0
    for number in range(snapshots):
        with _opened(grant) as disk:
            _write(disk, [number * CHUNK % size])
        client.snapshots.create(vdisk, str(number))
        deepest = max(deepest, _depth(pool, vdisk))
    began = time.monotonic()
    while _depth(pool, vdisk) > best_depth(snapshots) and time.monotonic() < began + SETTLE_SECONDS:
        time.sleep(0.1)
    what = f"{snapshots} snapshots without a pause"
    return [
        Fact(CHAPTER, f"{what}: deepest chain", deepest, "layers"),
        Fact(CHAPTER, f"{what}: chain soon after", _depth(pool, vdisk), "layers"),
        Fact(CHAPTER, f"{what}: it took", round(time.monotonic() - began, 1), "s"),
    ]


def _opened(grant: Grant) -> NbdClient:
    return NbdClient.connect(grant.host, grant.port, grant.export_name)


def _write(disk: NbdClient, offsets: Iterable[int]) -> None:
    """Write a chunk of noise at each offset, durably."""
    for offset in offsets:
        disk.submit_write(offset, os.urandom(CHUNK))
    disk.flush()


def _wait_for_merges(pool: Pool, vdisk: str) -> None:
    """Wait until a head that is to absorb the layers below it has done so, as it has when minutes lie between two
    snapshots."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while _is_due(pool, vdisk):
        if time.monotonic() > deadline:
            raise TimeoutError(f"a merge has not come to its end in {SETTLE_SECONDS:g} s")
        time.sleep(0.05)


def _is_due(pool: Pool, vdisk: str) -> bool:
    with pool.model() as connection:
        ordinal, guid = connection.execute(HEAD, (vdisk,)).fetchone()
        if ordinal == 0 or ordinal % STRIDE:
            return False
        (below,) = connection.execute(BELOW, (guid,)).fetchone()
    return bool(below > ordinal - STRIDE)


def _daemon(pool: Pool, vdisk: str) -> int:
    """:returns: pid of the vDisk's storage daemon."""
    with pool.model() as connection:
        return int(connection.execute("SELECT pid FROM export WHERE vdisk_guid = ?", (vdisk,)).fetchone()[0])


def _processor_seconds(pid: int) -> float:
    """:returns: what a process has used so far, in user and kernel mode (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> int:
    """:returns: bytes that a process has in memory (proc(5), statm)."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _depth(pool: Pool, vdisk: str) -> int:
    with pool.model() as connection:
        return int(connection.execute(DEPTH, (vdisk,)).fetchone()[0])


def _reads_per_second(grant: Grant, size: int, depth: int, seconds: int) -> float:
    return fio.random_requests(grant.uri, "read", size=size, depth=depth, seconds=seconds)
