"""Mishaps that are no crash at a step: a full disk, old copies, strangers, and a merge that only seemed finished.

Requires QEMU's storage daemon; the full disk requires the right to mount a tmpfs.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.support.audit import audit, calm
from tests.support.crash import daemons, in_child, kill, kill_daemons, until
from tests.support.crash_acts import disk, dropped, first, granted, revoked, snapped, snapshot, vdisk, written
from tests.support.crash_world import Disk, World, fits, look
from tests.support.engine import MIB, Engine, TaskFailed, connect, engine
from tests.support.qemus import bin_dirs
from tests.support.vpool_service import VpoolService

from openvstorage.edge.errors import RequestFailed
from openvstorage.vpool.backends.base import PoolFull
from openvstorage.vpool.exports.daemon import StorageDaemon
from openvstorage.vpool.exports.identity import Identity
from openvstorage.vpool.exports.qemu import QemuBuild
from openvstorage.vpool.exports.run_files import RunFiles
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.model.export import Export
from openvstorage.vpool.model.vdisk import VDisk
from openvstorage.vpool.operations import housekeeping
from openvstorage.vpool.pool import PoolDirectory, PoolError, claim

pytestmark = [pytest.mark.crash]

FULL = "the pool has no room left: delete snapshots or vDisks, or add disk space"


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data directory; storage daemons that a failed test left are ended."""
    yield tmp_path / "pool"
    kill_daemons(tmp_path / "pool")


# -- a full disk -----------------------------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48m", "none", path], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
    yield path
    kill_daemons(path / "pool")
    subprocess.run(["umount", "--lazy", path], check=True)


def write_until_full(grant: dict[str, Any], start: int) -> int:
    """Write and flush whole MiB until there is no room. :returns: how far it came."""
    with connect(grant) as nbd:
        at = start
        while True:
            try:
                nbd.write(at * MIB, bytes([at + 1]) * MIB)
                nbd.flush()
            except RequestFailed as error:
                if error.errno != errno.ENOSPC:
                    raise
                return at
            at += 1


def occupy(path: Path) -> None:
    """Take what room is left, to the last byte."""
    for size in (MIB, 4096, 1):
        with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
            while file.write(bytes(size)) == size:
                pass


@pytest.mark.parametrize("low_water", [8, 0], ids=["noticed-before", "noticed-by-the-tools"])
async def test_a_full_disk_loses_nothing_and_is_freed_by_deleting(small_disk: Path, low_water: int) -> None:
    async with engine(small_disk / "pool", stop_daemons=False, low_water_mib=low_water, ballast_mib=4) as vpool:
        await first(disk("a", "A..."), snapped("a", "s"), disk("b", "B" * 128))(vpool)
        guid = await vpool.create("big", 256 * MIB)
        grant = await vpool.grant(guid, "guest")
        reached = await asyncio.to_thread(write_until_full, grant, 0)
        assert reached > 8
        await expect_full(vpool, guid)
        reached = await asyncio.to_thread(write_until_full, grant, reached)  # whatever a refusal gave back
        occupy(small_disk / "of-another-program")
        await expect_full(vpool, guid)
    occupy(small_disk / "of-another-program")  # what the database's log took
    async with engine(small_disk / "pool", low_water_mib=low_water, ballast_mib=4) as vpool:
        occupy(small_disk / "of-another-program")
        assert await asyncio.to_thread(read_numbers, grant, reached) == list(range(1, reached + 1))
        await vpool.do("snapshot.delete", await vdisk(vpool, "a"), snapshot_guid=await snapshot(vpool, "a", "s"))
        await vpool.do("vdisk.delete", await vdisk(vpool, "b"))
        await calm(vpool)
        further = await asyncio.to_thread(write_until_full, grant, reached)
        assert further > reached, "the guest goes on with what was given back"
        (small_disk / "of-another-program").unlink()
        await vpool.revoke(grant)
        await vpool.do("vdisk.delete", guid)
        await calm(vpool)
        await vpool.snapshot(await vdisk(vpool, "a"), "again")
        await vpool.clone(await vdisk(vpool, "a"), "c")
        await calm(vpool)
        await audit(vpool)
        content = {"again": "A...", "(clone)": "A..."}
        assert fits(await look(vpool), World({"a": Disk("A...", content), "c": Disk("A...")}), wrote=False)


async def test_on_a_disk_without_a_free_byte_the_service_ends_starts_and_deletes(small_disk: Path) -> None:
    other = small_disk / "of-another-program"
    async with engine(small_disk / "pool", low_water_mib=8, ballast_mib=4) as vpool:
        guid = await vpool.create("a")
        occupy(other)
    for _ in range(2):
        occupy(other)
        async with engine(small_disk / "pool", low_water_mib=8, ballast_mib=4):
            occupy(other)
    occupy(other)
    async with engine(small_disk / "pool", low_water_mib=8, ballast_mib=4) as vpool:
        occupy(other)
        for number in range(20):  # a commit may still fit into what the log had reserved
            with pytest.raises((PoolFull, TaskFailed), match=FULL):
                await vpool.create(f"new-{number}")
        await vpool.do("vdisk.delete", guid)
        await calm(vpool)
        assert not list((small_disk / "pool" / "layers").iterdir())


async def expect_full(vpool: Engine, guid: str) -> None:
    """Whatever takes room is refused with a sentence, and nothing of it stays."""
    before = {path.name for path in (vpool.directory.layers).iterdir()}
    a = await vdisk(vpool, "a")
    with pytest.raises(TaskFailed, match=FULL):
        await vpool.create("new")
    with pytest.raises(TaskFailed, match=FULL):
        await vpool.snapshot(guid, "new")
    with pytest.raises(TaskFailed, match=FULL):
        await vpool.clone(a, "new", await snapshot(vpool, "a", "s"))
    await vpool.context.backend.sweep()
    assert {path.name for path in (vpool.directory.layers).iterdir()} == before


def read_numbers(grant: dict[str, Any], count: int) -> list[int]:
    with connect(grant) as nbd:
        blocks = [nbd.read(at * MIB, MIB) for at in range(count)]
    assert all(block == block[:1] * MIB for block in blocks)
    return [block[0] for block in blocks]


# -- who serves the directory, and which database --------------------------------------------------------------------


def test_a_second_service_on_the_same_directory_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with VpoolService(tmp_path / "data") as service:
        again = subprocess.run(
            [service._command, "serve", "--data", str(service.data), "--listen", "127.0.0.1:1"],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert again.returncode == 1
        assert "is served by another process already" in again.stderr
        assert "Traceback" not in again.stderr
        assert service._healthy(), "the first one goes on"


async def test_an_older_database_is_refused_and_if_accepted_removes_nothing(data: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    async with engine(data) as vpool:
        await disk("a", "A...")(vpool)
        await calm(vpool)
    copy_database(data, old)
    async with engine(data) as vpool:
        await first(written("a", 1, "B"), snapped("a", "s"), written("a", 2, "C"), disk("new", "N..."))(vpool)
        await calm(vpool)
    before = {path.stat().st_ino: path.read_bytes() for path in (data / "layers").iterdir()}
    copy_database(old, data)
    with pytest.raises(PoolError, match=r"the database is an older copy .* put the newest one back"):
        async with engine(data):
            pass
    assert {path.stat().st_ino: path.read_bytes() for path in (data / "layers").iterdir()} == before

    database = Database(PoolDirectory(data).database_url())
    await claim(PoolDirectory(data), database, accept_database=True)
    await database.close()
    async with engine(data) as vpool:
        await calm(vpool)
        after = {
            path.stat().st_ino: path.read_bytes()
            for name in ("layers", "lost+found")
            for path in (data / name).iterdir()
        }
        assert after == before, "every file is somewhere, as it was"
        assert len(list((data / "lost+found").iterdir())) == 2, "what the old database does not know was set aside"
        # its own layer has gone on after the copy was made, until it was frozen
        assert fits(await look(vpool), World({"a": Disk("AB..")}), wrote=False)
        await written("a", 3, "D")(vpool)
        await audit(vpool, {path.name: path.read_bytes() for path in (data / "lost+found").iterdir()})


def copy_database(source: Path, target: Path) -> None:
    """Copy the database with what belongs to it, and nothing else."""
    for path in target.glob("model.sqlite3*"):
        path.unlink()
    for path in source.glob("model.sqlite3*"):
        shutil.copy(path, target)


# -- strangers -------------------------------------------------------------------------------------------------------

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
    old_port = asyncio.run(claim_pid(data, left.vdisk, None))
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


async def claim_pid(data: Path, guid: str, pid: int | None, *, rebooted: bool = False) -> int:
    """Let the model have known the vDisk's daemon under a pid, in this boot or in one before.

    :returns: the port of its export.
    """
    database = Database(PoolDirectory(data).database_url())
    try:
        async with database.write() as session:
            if pid is not None:
                values: dict[str, object] = {"pid": pid}
                if rebooted:
                    values |= {"start_time": Identity.of(pid).start_time, "boot_id": "of the boot before"}
                await session.execute(update(Export).where(Export.vdisk_guid == guid).values(**values))
            return (await session.get_one(Export, guid)).port
    finally:
        await database.close()


# -- daemons ----------------------------------------------------------------------------------------------------------


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
    port = asyncio.run(claim_pid(data, asyncio.run(only_vdisk(data)), None))
    assert in_child(die_starting)
    assert asyncio.run(examine()) == port, "the port stays"


async def only_vdisk(data: Path) -> str:
    database = Database(PoolDirectory(data).database_url())
    try:
        async with database.read() as session:
            return (await session.scalars(select(VDisk.guid))).one()
    finally:
        await database.close()


async def test_a_service_that_is_stopped_while_it_starts_daemons_ends_in_order(data: Path) -> None:
    """Whatever a respawn was at, no transaction of it stays open that the rest of the end would wait for."""
    chance = random.Random(5)
    for _ in range(12):
        async with asyncio.timeout(20), engine(data, stop_daemons=False) as vpool:
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


# -- merges ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("qemu", bin_dirs().values(), ids=bin_dirs().keys())
@pytest.mark.parametrize("online", [False, True], ids=["offline", "online"])
@pytest.mark.parametrize("flushed", [False, True], ids=["not-flushed", "flushed"])
def test_a_merge_that_concluded_and_was_cut_off_is_not_believed(
    data: Path, qemu: Path, online: bool, flushed: bool
) -> None:
    """The image's header names the new base already, what was copied is still in memory; then all dies at once.

    With the flush only the model does not know of it yet.
    """
    setting_up = first(disk("a", "AAA."), snapped("a", "s"), written("a", 1, "B"))

    async def live() -> None:
        async with engine(data, qemu_dir=str(qemu), stop_daemons=False) as vpool:
            await calm(vpool)
            vpool.context.tidy = lambda: None
            await setting_up(vpool)
            if online:
                await granted("a", "guest")(vpool)
            await dropped("a", "s")(vpool)
            real = StorageDaemon.flush

            async def die(daemon: StorageDaemon) -> None:
                if flushed:
                    await real(daemon)
                os.kill(daemon.identity.pid, signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)

            StorageDaemon.flush = die  # type: ignore[method-assign]
            await vpool.settle()

    async def examine() -> None:
        async with engine(data, qemu_dir=str(qemu)) as vpool:
            await calm(vpool)
            await audit(vpool)
            grants = frozenset({"a:guest"} if online else ())
            assert fits(await look(vpool), World({"a": Disk("ABA.")}, grants), wrote=False)
            assert len(list((data / "layers").iterdir())) == 1, "the merge was done again"

    assert in_child(live), "the merge came to its flush"
    asyncio.run(examine())


async def test_a_snapshot_deleted_while_its_layer_is_folded_leaves_nothing(data: Path) -> None:
    vpool: Engine

    async def interfere(operation: str, boundary: str) -> None:
        if (operation, boundary) == ("fold", point):
            deleted.append(point)
            await dropped("a", "s2")(vpool)
            await vpool.context.backend.sweep()

    for point in ("begin", "copy", "stream", "swap:committed", "swap"):
        deleted: list[str] = []
        async with engine(data / point, boundary=interfere) as vpool:
            await first(
                disk("a", "A..."),
                snapped("a", "s0"),
                written("a", 1, "B"),
                snapped("a", "s1"),
                written("a", 2, "C"),
                snapped("a", "s2"),
                # the head leaves this line, so that nothing but its name keeps the layer of s2
                rolled_back("a", "s0"),
                dropped("a", "s1"),
            )(vpool)
            await calm(vpool)
            await audit(vpool)
            async with vpool.db.read() as session:
                assert len(list(await session.scalars(select(VDisk)))) == 1
            assert fits(await look(vpool), World({"a": Disk("A...", {"s0": "A..."})}), wrote=False), point
            assert deleted, point


def rolled_back(name: str, label: str) -> Any:
    """A vDisk rolled back, its newer snapshots kept."""

    async def make(vpool: Engine) -> None:
        guid = await snapshot(vpool, name, label)
        await vpool.do("vdisk.rollback", await vdisk(vpool, name), snapshot_guid=guid, keep_newer=True)

    return make
