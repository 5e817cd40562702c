"""Who may write, when things go wrong: daemons that do not end or do not answer, deadlines, restarts."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.support.crash import kill, until
from tests.support.engine import MIB, Engine, TaskFailed, connect, engine

from openvstorage.vpool.exports.errors import NotFenced
from openvstorage.vpool.exports.identity import Identity
from openvstorage.vpool.model.export import Export, Grant
from openvstorage.vpool.operations import fleet, tasks
from openvstorage.vpool.operations.journal import Journal

KIB = 1024


async def write(grant: dict[str, Any], data: bytes) -> None:
    def work() -> None:
        with connect(grant) as nbd:
            nbd.write(0, data)
            nbd.flush()

    await asyncio.to_thread(work)


async def grants(vpool: Engine) -> list[str]:
    async with vpool.db.read() as session:
        return list(await session.scalars(select(Grant.guid)))


async def run_out(vpool: Engine, *guids: str) -> None:
    """Let the deadlines of grants pass."""
    async with vpool.db.write() as session:
        await session.execute(update(Grant).where(Grant.guid.in_(guids)).values(deadline=time.time() - 1))


async def test_a_daemon_that_survives_being_killed_is_never_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that waits for a hung disk: its client may still write, however often the revoke is tried."""
    monkeypatch.setattr(fleet, "STOP_TIMEOUT_SECONDS", 0.1)
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a")
        grant = await vpool.grant(vdisk, consumer="old")
        daemon = vpool.context.fleet.get(vdisk)

        async def hangs(*_args: object, **_more: object) -> None:
            await asyncio.Event().wait()

        async def not_dropped(name: str, timeout: float) -> None:
            raise NotFenced(vdisk=vdisk, name=name, timeout=timeout)

        with monkeypatch.context() as broken:
            broken.setattr(daemon, "kill", hangs)
            broken.setattr(daemon, "drop_export", not_dropped)
            with pytest.raises(TaskFailed, match="not fenced"):
                await vpool.revoke(grant)
            await write(grant, b"1" * KIB)  # it does live
            with pytest.raises(TaskFailed):
                await vpool.grant(vdisk, consumer="new")
        await vpool.settle()
        assert await grants(vpool) == []
        new = await vpool.grant(vdisk, consumer="new")
        await write(new, b"2" * KIB)


async def test_a_renewed_grant_is_not_reaped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Renewed after the housekeeping found it run out, before its turn came."""
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a")
        grant = await vpool.grant(vdisk, deadline_seconds=60)
        await run_out(vpool, grant["guid"])
        real = Journal.run

        async def renewed_before(journal: Journal, operation: Any, task_guid: str | None = None) -> Any:
            if operation.type == "revoke":
                monkeypatch.undo()
                again = await vpool.grant(vdisk, deadline_seconds=60)
                assert again["guid"] == grant["guid"]
            return await real(journal, operation, task_guid)

        monkeypatch.setattr(Journal, "run", renewed_before)
        await vpool.settle()
        assert await grants(vpool) == [grant["guid"]]
        await write(grant, b"1" * KIB)


async def test_one_grant_that_can_not_be_revoked_keeps_no_other_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet, "STOP_TIMEOUT_SECONDS", 0.1)
    async with engine(tmp_path) as vpool:
        made = [await vpool.grant(await vpool.create(name), deadline_seconds=60) for name in "abc"]
        stuck = made[0]
        daemon = vpool.context.fleet.get(stuck["vdisk_guid"])

        async def hangs(*_args: object, **_more: object) -> None:
            await asyncio.Event().wait()

        async def not_dropped(name: str, timeout: float) -> None:
            raise NotFenced(vdisk="", name=name, timeout=timeout)

        with monkeypatch.context() as broken:
            broken.setattr(daemon, "kill", hangs)
            broken.setattr(daemon, "drop_export", not_dropped)
            await run_out(vpool, *(grant["guid"] for grant in made))
            await vpool.settle()
            assert await grants(vpool) == [stuck["guid"]]
        await vpool.settle()
        assert await grants(vpool) == []


async def test_a_daemon_that_does_not_answer_at_a_restart_can_not_write_on(tmp_path: Path) -> None:
    """It is no longer under control, but its client is still connected."""
    async with engine(tmp_path, stop_daemons=False) as vpool:
        vdisk = await vpool.create("a")
        grant = await vpool.grant(vdisk, consumer="old")
        pid = vpool.context.fleet.get(vdisk).identity.pid
    identity = Identity.of(pid)
    os.kill(pid, signal.SIGSTOP)
    try:
        async with engine(tmp_path) as vpool:
            assert not identity.alive()
            await vpool.revoke(grant)
            assert await grants(vpool) == []
    finally:
        if identity.alive():
            os.kill(pid, signal.SIGKILL)


async def test_no_daemon_is_started_before_recovery_has_decided_what_it_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service dies right after a switch; at the next start the daemon dies while the journal is being read."""
    monkeypatch.setattr(tasks, "CLOSE_SECONDS", 0.1)
    switched = asyncio.Event()

    async def stay(operation: str, boundary: str) -> None:
        if (operation, boundary) == ("snapshot", "switch"):
            switched.set()
            await asyncio.Event().wait()

    async with engine(tmp_path, boundary=stay, stop_daemons=False) as vpool:
        vdisk = await vpool.create("a")
        grant = await vpool.grant(vdisk)
        await write(grant, b"1" * KIB)
        await vpool.operations.submit("snapshot.create", {"label": "s"}, vdisk_guid=vdisk)
        await switched.wait()
        await write(grant, b"2" * KIB)
    real = Journal.recover

    async def recover_after_a_death(journal: Journal) -> None:
        daemons = journal._context.fleet
        kill(daemons.get(vdisk).identity.pid)

        async def gone() -> bool:
            return vdisk not in daemons._daemons

        await until(gone, "the death is noticed")
        await asyncio.sleep(0.3)  # a respawn that does not wait would be there by now
        await real(journal)

    monkeypatch.setattr(Journal, "recover", recover_after_a_death)
    async with engine(tmp_path) as vpool:
        assert await vpool.read(vdisk, 0, KIB) == b"2" * KIB


async def test_a_failed_grant_leaves_no_port(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a")
        daemons = vpool.context.fleet

        async def fails(*_args: object, **_more: object) -> None:
            raise NotFenced(vdisk=vdisk, name="", timeout=0)

        monkeypatch.setattr(daemons, "launch", fails)
        with pytest.raises(TaskFailed):
            await vpool.grant(vdisk)

        async def free() -> bool:
            async with vpool.db.read() as session:
                return not daemons._listeners and await session.scalar(select(Export.port)) is None

        await until(free, "the port is given back")


async def test_a_copy_that_outlives_its_grant_writes_nothing_more(tmp_path: Path) -> None:
    """Such as a qemu-img of a cinder-volume that was killed, once the next one has revoked what that left."""
    (tmp_path / "image").write_bytes(b"o" * 32 * MIB)
    async with engine(tmp_path / "pool") as vpool:
        guid = await vpool.create("a", 32 * MIB)
        left = await vpool.grant(guid, "transfer-1")
        uri = f"nbd://{left['host']}:{left['port']}/{left['export_name']}"
        copy = await asyncio.create_subprocess_exec(
            *("qemu-img", "convert", "-n", "-r", "2M", "-f", "raw", "-O", "raw", tmp_path / "image", uri)
        )
        try:

            async def copying() -> bool:
                return await vpool.read(guid, 0, 512) == b"o" * 512

            await until(copying, "the copy has begun")
            await vpool.revoke(left)
            await vpool.write(guid, 0, b"n" * 32 * MIB)
            assert await asyncio.wait_for(copy.wait(), 60) != 0
        finally:
            if copy.returncode is None:
                copy.kill()
                await copy.wait()
        assert await vpool.read(guid, 0, 32 * MIB) == b"n" * 32 * MIB
