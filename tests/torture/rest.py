"""What is left with nothing running: rows, files, run files, processes, and what qemu-img says of each layer."""

from __future__ import annotations

import asyncio
import json
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.support.audit import audit, calm
from tests.support.engine import engine
from tests.torture.pool import Pool
from tests.torture.report import Report
from tests.torture.world import World

from openvstorage.vpool.pool import MARKER, PoolDirectory

__all__ = ["look"]

#: Seconds for what goes on by itself, such as a merge, to end.
CALM_SECONDS = 120.0


def calm_down(pool: Pool, report: Report) -> None:
    """Wait until the running service does nothing more. No grant is left."""
    deadline = time.monotonic() + CALM_SECONDS
    while True:
        operations = _rows(pool.data, "SELECT type, phase, error FROM operation")
        daemons = pool.daemons()
        if not operations and not daemons:
            return
        if time.monotonic() > deadline:
            text = f"after {CALM_SECONDS:.0f} s without grants: operations {operations}, daemons {daemons}"
            report.violated("hang", text)
            return
        time.sleep(0.2)


def look(pool: Pool, world: World, report: Report) -> None:
    """Look at everything. The service is stopped, and every grant was revoked before."""
    for pid, words in pool.processes():
        report.violated("left over", f"process {pid}: {words}")
    _look_at_rows(pool.data, world, report)
    _check_layers(pool, report)
    try:
        asyncio.run(_audit(pool))
    except AssertionError as error:
        report.violated("audit", str(error))
    report.count("at rest", "audits")
    directory = PoolDirectory(pool.data)
    run_dir = directory.run_dir(json.loads((pool.data / MARKER).read_text())["guid"])
    for path in run_dir.iterdir():
        report.violated("left over", f"{path.name} in the run directory")


def _look_at_rows(data: Path, world: World, report: Report) -> None:
    for table in ("operation", '"grant"', "export"):
        for row in _rows(data, f"SELECT * FROM {table}"):
            report.violated("left over", f"a row of {table}: {row}")
    for row in _rows(data, "SELECT kind, status FROM task WHERE finished_at IS NULL"):
        report.violated("left over", f"a task: {row}")
    vdisks = {row["name"] for row in _rows(data, "SELECT name FROM vdisk")}
    expected = {disk.name for disk in world.disks()}
    if vdisks != expected:
        report.violated(
            "left over", f"vDisks {sorted(vdisks - expected)} are there, {sorted(expected - vdisks)} missing"
        )
    snapshots = {row["guid"] for row in _rows(data, "SELECT guid FROM snapshot WHERE NOT for_clone")}
    known = {snap.guid for disk in world.disks() for snap in disk.snaps}
    if snapshots != known:
        text = f"snapshots {sorted(snapshots - known)} are there, {sorted(known - snapshots)} missing"
        report.violated("left over", text)


def _check_layers(pool: Pool, report: Report) -> None:
    tool = shutil.which("qemu-img", path=str(pool.qemu_dir) if pool.qemu_dir else None)
    assert tool is not None
    for path in sorted((pool.data / "layers").iterdir()):
        image = {"driver": "qcow2", "backing": None, "file": {"driver": "file", "filename": str(path)}}
        command = [tool, "check", "-q", "json:" + json.dumps(image)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
        report.count("at rest", "layers checked")
        if ended.returncode == 3:  # space that a kill left allocated
            report.count("at rest", "layers with leaked clusters")
        elif ended.returncode:
            report.violated("qemu-img check", f"{path.name}: {(ended.stdout + ended.stderr).strip()[:2000]}")


async def _audit(pool: Pool) -> None:
    """As the crash tests do: the engine opens the directory and ends what was begun; then everything has to agree."""
    settings: dict[str, Any] = {"edge_tls": pool.settings.tls}
    if pool.qemu_dir is not None:
        settings["qemu_dir"] = str(pool.qemu_dir)
    async with engine(pool.data, **settings) as opened:
        await calm(opened)
        await audit(opened)


def _rows(data: Path, query: str) -> list[dict[str, Any]]:
    database = sqlite3.connect(f"file:{data / 'model.sqlite3'}?mode=ro", uri=True, timeout=30)
    try:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(query)]
    finally:
        database.close()
