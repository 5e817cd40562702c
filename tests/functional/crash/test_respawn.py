"""Storage daemons and the service ending while daemons are being started."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.audit import audit, calm
from tests.support.crash import in_child, kill, until
from tests.support.crash_acts import disk, first, granted
from tests.support.crash_world import Disk, World, fits, look
from tests.support.engine import Engine, engine
from tests.support.patience import PATIENCE
from tests.support.unserved import only_vdisk, port_of

from openvstorage.vpool.exports.daemon import StorageDaemon
from openvstorage.vpool.exports.qemu import QemuBuild
from openvstorage.vpool.model.export import Export
from openvstorage.vpool.model.vdisk import VDisk
from openvstorage.vpool.operations import housekeeping

pytestmark = [pytest.mark.crash]


async def test_a_daemon_that_dies_before_its_respawn_has_ended_is_started_again_at_once(data: Path) -> None:
    """Not only when the housekeeping comes by, for which guests would wait."""
    killed: list[int] = []

    async def again(operation: str, boundary: str) -> None:
        if (operation, boundary) == ("respawn", "serve") and len(killed) == 1:
            await die()

    async def die() -> None:
        daemon = vpool.context.fleet.get(guid)
        killed.append(daemon.identity.pid)
        kill(daemon.identity.pid)
        await daemon.exited().wait()

    async with engine(data, boundary=again) as vpool:
        guid = await vpool.create("a")
        grant = await vpool.grant(guid, "guest")
        await calm(vpool)
        await die()

        async def back() -> bool:
            daemon = vpool.context.fleet.get(guid)
            return len(killed) == 2 and daemon is not None and daemon.identity.pid not in killed

        await until(back, "the daemon after the next", housekeeping.ROUND_SECONDS / 2)
        await vpool.revoke(grant)


SLOW_START = """#!/bin/sh
sleep 1
exec {program} "$@"
"""


def test_a_daemon_that_was_just_starting_when_the_service_died_is_found(data: Path, tmp_path: Path) -> None:
    """It would keep the image locked and the port taken, and nobody would ever speak to it."""
    slow = tmp_path / "slow-storage-daemon"

    async def stage() -> None:
        async with engine(data) as vpool:
            await first(disk("a", "A..."), granted("a", "guest"))(vpool)
            slow.write_text(SLOW_START.format(program=vpool.context.fleet._build.storage_daemon))
            slow.chmod(0o700)

    async def die_starting() -> None:
        async def die(*_: object) -> None:
            os.kill(os.getpid(), signal.SIGKILL)

        StorageDaemon._wait_until_up = die  # type: ignore[method-assign,assignment]
        real = QemuBuild.probe

        async def probe(*arguments: Any) -> QemuBuild:
            return dataclasses.replace(await real(*arguments), storage_daemon=slow)

        QemuBuild.probe = probe  # type: ignore[method-assign,assignment]
        async with engine(data) as vpool:
            await calm(vpool)

    async def examine() -> int:
        async with engine(data) as vpool:
            await calm(vpool)
            await audit(vpool)
            assert fits(await look(vpool), World({"a": Disk("A...")}, frozenset({"a:guest"})), wrote=False)
            async with vpool.db.read() as session:
                return (await session.scalars(select(Export.port))).one()

    asyncio.run(stage())
    port = asyncio.run(port_of(data, asyncio.run(only_vdisk(data))))
    assert in_child(die_starting)
    assert asyncio.run(examine()) == port, "the port stays"


#: Dies in the middle of its first words for some starts; what it says is cut off after so many bytes.
SPEECHLESS = """#!{python}
import json, os, pathlib, socket, sys
starts = pathlib.Path({starts!r})
if len(starts.read_bytes()) >= {deaths}:
    os.execv({program!r}, [{program!r}, *sys.argv[1:]])
with starts.open("ab") as file:
    file.write(b".")
words = dict(word.split("=", 1) for word in sys.argv[sys.argv.index("--chardev") + 1].split(",")[1:])
greeting = dict(QMP=dict(version=dict(qemu=dict(major=7, minor=2, micro=0), package=""), capabilities=[]))
said = json.dumps(greeting) + "\\n" + json.dumps({{"return": {{}}}}) + "\\n"
server = socket.socket(socket.AF_UNIX)
server.bind(words["path"])
server.listen()
connection, _ = server.accept()
connection.sendall(said.encode()[:{length}])
os._exit(1)
"""


@pytest.mark.parametrize("length", [0, 20, 100, 1000])
async def test_a_daemon_that_dies_at_its_first_words_is_started_again(data: Path, tmp_path: Path, length: int) -> None:
    """Not only when the housekeeping comes by, for which guests would wait."""
    starts, speechless = tmp_path / "starts", tmp_path / "speechless"
    starts.touch()
    async with engine(data) as vpool:
        await first(disk("a", "A..."), granted("a", "guest"))(vpool)
        await calm(vpool)
        fleet = vpool.context.fleet
        program = str(fleet._build.storage_daemon)
        values = {"python": sys.executable, "starts": str(starts), "deaths": 3, "program": program, "length": length}
        speechless.write_text(SPEECHLESS.format(**values))
        speechless.chmod(0o700)
        fleet._build = dataclasses.replace(fleet._build, storage_daemon=speechless)
        [daemon] = fleet.serving().values()
        kill(daemon.identity.pid)

        async def back() -> bool:
            return starts.read_bytes() == b"..." and set(fleet.serving().values()) - {daemon} != set()

        await until(back, "a daemon that speaks")
        await calm(vpool)
        await audit(vpool)
        assert fits(await look(vpool), World({"a": Disk("A...")}, frozenset({"a:guest"})), wrote=False)


async def test_whatever_a_respawn_fails_with_it_is_tried_again(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the respawn itself, with a word in the log, and not as a task that ended without anybody looking."""
    failed: list[Exception] = []
    lost: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: lost.append(context))

    async def fail(*_: object, **__: object) -> StorageDaemon:
        failed.append(AssertionError("of a library's own") if len(failed) % 2 else KeyError("unforeseen"))
        if len(failed) == 2:
            monkeypatch.undo()
        raise failed[-1]

    monkeypatch.setattr(housekeeping, "RESPAWN_PAUSE_SECONDS", 0.0)
    async with engine(data) as vpool:
        await first(disk("a", "A..."), granted("a", "guest"))(vpool)
        await calm(vpool)
        fleet = vpool.context.fleet
        [daemon] = fleet.serving().values()
        monkeypatch.setattr(StorageDaemon, "launch", fail)
        kill(daemon.identity.pid)

        async def back() -> bool:
            return set(fleet.serving().values()) - {daemon} != set()

        await until(back, "the next daemon", housekeeping.ROUND_SECONDS / 2)
        assert len(failed) == 2
        await calm(vpool)
        await audit(vpool)
    gc.collect()
    assert not lost


async def test_a_service_that_is_stopped_while_it_starts_daemons_ends_in_order(data: Path) -> None:
    """Whatever a respawn was at, no transaction of it stays open that the rest of the end would wait for."""
    chance = random.Random(5)
    for _ in range(12):
        async with asyncio.timeout(PATIENCE), engine(data, stop_daemons=False) as vpool:
            if not await vdisk_names(vpool):
                for name in ("a", "b", "c"):
                    await first(disk(name, "A..."), granted(name, f"guest of {name}"))(vpool)
            await calm(vpool)
            for daemon in vpool.context.fleet.serving().values():
                await asyncio.to_thread(kill, daemon.identity.pid)
            await asyncio.sleep(chance.random() * 0.15)
    async with engine(data) as vpool:
        await calm(vpool)
        await audit(vpool)


async def vdisk_names(vpool: Engine) -> list[str]:
    async with vpool.db.read() as session:
        return list(await session.scalars(select(VDisk.name)))
