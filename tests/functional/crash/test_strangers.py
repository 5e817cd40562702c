"""Processes that are not ours, under the pid of a storage daemon."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.audit import calm
from tests.support.crash import daemons, in_child, kill
from tests.support.crash_acts import disk, first, granted, revoked, vdisk
from tests.support.crash_world import Disk, World, fits, look
from tests.support.engine import engine
from tests.support.unserved import claim_pid, port_of

from openvstorage.vpool.exports.run_files import RunFiles
from openvstorage.vpool.model.export import Export
from openvstorage.vpool.pool import PoolDirectory

pytestmark = [pytest.mark.crash]

IMPOSTOR = """
import fcntl, json, os, sys, time
with open(sys.argv[1], "r+") as file:
    file.truncate()
    file.write(str(os.getpid()))
    file.flush()
    fcntl.lockf(file, fcntl.LOCK_EX)
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["sleep", "impostor"])
def test_a_stranger_under_the_pid_of_a_daemon_is_left_alone(data: Path, kind: str) -> None:
    """Its vDisk is served all the same. The impostor even has the daemon's words and holds its pid file."""

    async def live() -> None:
        async with engine(data, stop_daemons=False) as vpool:
            await first(disk("a", "A..."), granted("a", "guest"))(vpool)

    async def examine(stranger: int) -> None:
        async with engine(data) as vpool:
            await calm(vpool)
            guid = await vdisk(vpool, "a")
            daemon = vpool.context.fleet.get(guid)
            assert daemon is not None
            assert daemon.identity.pid != stranger
            async with vpool.db.read() as session:
                port = (await session.get_one(Export, guid)).port
            assert port == old_port, "the port stays"
            assert fits(await look(vpool), World({"a": Disk("A...")}, frozenset({"a:guest"})), wrote=False)
            await revoked("a", "guest")(vpool)

    in_child(live)
    [left] = daemons(data)
    old_port = asyncio.run(port_of(data, left.vdisk))
    kill(left.identity.pid)
    files = RunFiles.of(PoolDirectory(data).run_dir(pool_guid(data)), left.vdisk, left.epoch)
    assert files.pid_file.exists(), "it could not tidy up"
    words = ["sleep", "600"]
    if kind == "impostor":
        group = json.dumps({"qom-type": "throttle-group", "id": f"tg-{left.vdisk}-{left.epoch}"})
        words = [sys.executable, "-c", IMPOSTOR, str(files.pid_file), "--object", group]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as stranger:
        try:
            if kind == "impostor":
                assert stranger.stdout is not None
                assert stranger.stdout.readline() == b"ready\n"
            else:
                files.pid_file.write_text(str(stranger.pid))
            asyncio.run(claim_pid(data, left.vdisk, stranger.pid, rebooted=kind == "impostor"))
            asyncio.run(examine(stranger.pid))
            assert stranger.poll() is None, "the stranger lives on"
        finally:
            stranger.send_signal(signal.SIGKILL)
    files.remove()


def pool_guid(data: Path) -> str:
    return str(json.loads((data / "pool.json").read_text())["guid"])
