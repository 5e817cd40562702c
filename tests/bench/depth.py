"""Do many live snapshots make reading slow? Random reads of the same data in one layer and under many snapshots."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.bench.figures import Comparison, Fact, Results, Series
from tests.bench.pool import Pool, running

from openvstorage.client import Grant

CHAPTER = "live snapshots"
AT_LEAST = 0.8
MIB = 1024**2
STRIDE = 8
CHUNK = 64 * 1024
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
    """Compare random reads of a vDisk without snapshots with those of one with many.

    Both hold the same amount of data, written in the same pieces in the same order; one had a snapshot taken between
    any two pieces.

    :param work: an empty directory on the file system to measure.
    :param size: bytes of each vDisk.
    :param rounds: measurements of each, in turn.
    :param seconds: length of each.
    """
    flat, deep = "no snapshot", f"{snapshots} snapshots"
    results = Results()
    with running(work / "depth") as pool:
        grants = {
            side: _written(pool, side, size, snapshots if side == deep else 0, snapshots) for side in (flat, deep)
        }
        for depth in (1, 32):
            series = {side: Series(side, "reads/s") for side in grants}
            for number in range(rounds):
                for side in (flat, deep) if number % 2 else (deep, flat):
                    series[side].samples.append(_reads_per_second(grants[side], size, depth, seconds, number))
            name = f"random reads of 4 KiB, {depth} at a time"
            results.comparisons.append(Comparison(CHAPTER, name, series[flat], series[deep], at_least=AT_LEAST))
        for side, grant in grants.items():
            results.facts.append(Fact(CHAPTER, f"{side}: layers that a read may pass", _depth(pool, grant.vdisk_guid)))
        results.facts.append(Fact(CHAPTER, "data in each vDisk", size // MIB, "MiB"))
    return results


def _written(pool: Pool, name: str, size: int, snapshots: int, pieces: int) -> Grant:
    """Make a vDisk, fill it, and overwrite parts of it at random, if wanted with a snapshot before each part."""
    client = pool.client
    vdisk = client.vdisks.create(name.replace(" ", "-"), size, pool.vpool)
    grant = client.grants.create(vdisk, "bench", "depth")
    _fio(grant, "--rw=write", "--bs=1M", "--iodepth=8", f"--size={size}", "--end_fsync=1")
    part = max(CHUNK, size // 64)
    for number in range(pieces):
        if number < snapshots:
            client.snapshots.create(vdisk, f"{name}-{number}")
            _wait_for_merges(pool, vdisk)
        seed = f"--randseed={number + 1}"
        _fio(grant, "--rw=randwrite", f"--bs={CHUNK}", "--iodepth=8", f"--size={size}", f"--io_size={part}", seed)
    _wait_for_merges(pool, vdisk)
    return grant


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


def _depth(pool: Pool, vdisk: str) -> int:
    with pool.model() as connection:
        return int(connection.execute(DEPTH, (vdisk,)).fetchone()[0])


def _reads_per_second(grant: Grant, size: int, iodepth: int, seconds: int, seed: int) -> float:
    report = _fio(
        grant,
        "--rw=randread",
        "--bs=4k",
        f"--iodepth={iodepth}",
        f"--size={size}",
        "--time_based",
        f"--runtime={seconds}",
        f"--randseed={seed + 1000}",
    )
    return float(report["jobs"][0]["read"]["iops"])


def _fio(grant: Grant, *options: str) -> dict[str, Any]:
    """Run fio against an export. :returns: its report."""
    with tempfile.NamedTemporaryFile("r") as report:
        command = ["fio", "--name=bench", "--ioengine=nbd", f"--uri={grant.uri}", *options]
        command += ["--output-format=json", f"--output={report.name}"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        text = report.read()
    if result.returncode:
        raise RuntimeError(f"fio failed: {result.stderr.strip() or text.strip()}")
    found: dict[str, Any] = json.loads(text[text.index("{") :])  # notes for people come first
    return found
