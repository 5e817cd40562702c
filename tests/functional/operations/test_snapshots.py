"""Snapshots that go wrong in the middle, under a client that goes on writing."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from tests.support.crash import kill, until
from tests.support.engine import Engine, TaskFailed, connect, engine
from tests.support.patience import PATIENCE

from openvstorage.vpool.exports import hold, session
from openvstorage.vpool.exports.errors import DaemonGone, QmpInterrupted
from openvstorage.vpool.model.task import TaskStatus
from openvstorage.vpool.model.vdisk import VDisk
from openvstorage.vpool.operations import group, snapshot

KIB = 1024


class Fault(Exception):
    """Something that no code expects."""


def failing(times: int, real: Any, error: Exception) -> Any:
    """:returns: ``real``, which raises instead for the first ``times`` calls."""
    calls = 0

    async def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls <= times:
            raise error
        return await real(*args, **kwargs)

    return call


async def write(grant: dict[str, Any], offset: int, data: bytes) -> None:
    def work() -> None:
        with connect(grant) as nbd:
            nbd.write(offset, data)
            nbd.flush()

    await asyncio.to_thread(work)


async def die_and_come_back(vpool: Engine, vdisk: str) -> None:
    old = vpool.context.fleet.get(vdisk)
    kill(old.identity.pid)

    async def back() -> bool:
        return vpool.context.fleet.get(vdisk) not in (None, old)

    await until(back, "a new daemon serves the vDisk")


async def head_file(vpool: Engine, vdisk: str) -> Path:
    async with vpool.db.read() as session:
        ref = (await session.get_one(VDisk, vdisk)).backend_ref
    return Path(vpool.context.backend.files.path(ref))


async def test_a_snapshot_that_fails_after_its_switch_loses_no_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The daemon writes to the new layer by then: it must not be taken for unused."""
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a")
        grant = await vpool.grant(vdisk)
        await write(grant, 0, b"1" * KIB)
        monkeypatch.setattr(snapshot, "finish_snapshot", failing(1, snapshot.finish_snapshot, Fault()))
        with pytest.raises(TaskFailed, match="internal error"):
            await vpool.snapshot(vdisk)
        await write(grant, KIB, b"2" * KIB)
        await vpool.settle()
        assert (await head_file(vpool, vdisk)).exists()
        await die_and_come_back(vpool, vdisk)
        assert await vpool.read(vdisk, 0, 2 * KIB) == b"1" * KIB + b"2" * KIB


async def test_nobody_serves_a_vdisk_whose_head_is_not_decided(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither finished nor taken back: a daemon started now would write to the wrong layer."""
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a")
        grant = await vpool.grant(vdisk)
        await write(grant, 0, b"1" * KIB)
        monkeypatch.setattr(snapshot, "move_head", failing(2, snapshot.move_head, Fault()))  # in finish and in abort
        guid = await vpool.operations.submit("snapshot.create", {"label": "s"}, vdisk_guid=vdisk)
        task = await vpool.operations.wait(guid, PATIENCE)
        assert task is not None
        assert task.status == TaskStatus.STARTED
        await write(grant, KIB, b"2" * KIB)
        await die_and_come_back(vpool, vdisk)
        task = await vpool.operations.wait(guid, PATIENCE)
        assert task is not None
        assert task.status == TaskStatus.SUCCESS
        assert await vpool.read(vdisk, 0, 2 * KIB) == b"1" * KIB + b"2" * KIB


async def test_a_daemon_that_does_not_tell_its_head_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a")
        grant = await vpool.grant(vdisk)
        await write(grant, 0, b"1" * KIB)
        daemon = vpool.context.fleet.get(vdisk)
        lost = QmpInterrupted(vdisk=vdisk, command="blockdev-snapshot")
        backend = vpool.context.backend
        real = backend.switch

        async def switched_but_lost(*args: Any) -> None:
            await real(*args)
            monkeypatch.setattr(daemon, "head", failing(1, daemon.head, lost))
            raise lost

        monkeypatch.setattr(backend, "switch", switched_but_lost)
        taken = await vpool.snapshot(vdisk)
        await write(grant, 0, b"2" * KIB)
        await vpool.settle()
        assert vpool.context.fleet.get(vdisk) is not daemon
        assert await vpool.read(vdisk, 0, KIB) == b"2" * KIB
        clone = await vpool.clone(vdisk, "c", taken)
        assert await vpool.read(clone, 0, KIB) == b"1" * KIB


async def test_a_group_given_up_loses_no_write_and_leaves_nobody_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hold, "_RATE", 10_000)
    async with engine(tmp_path) as vpool:
        vdisks = [await vpool.create(name) for name in "abc"]
        grants = {vdisk: await vpool.grant(vdisk) for vdisk in vdisks}
        for grant in grants.values():
            await write(grant, 0, b"1" * KIB)
        real, count = group.switch_head, 0

        async def third_time_unlucky(*args: Any) -> None:
            nonlocal count
            count += 1
            if count == 3:
                raise DaemonGone(vdisk="c", pid=0)
            await real(*args)

        monkeypatch.setattr(group, "switch_head", third_time_unlucky)
        with pytest.raises(TaskFailed, match="given up"):
            await vpool.do("snapshot.create_atomic_group", vdisk_guids=vdisks, label="g")
        async with asyncio.timeout(45):  # a hold would take longer
            for grant in grants.values():
                await write(grant, 0, b"2" * 2048 * KIB)
        await vpool.settle()
        for vdisk in vdisks:
            assert (await head_file(vpool, vdisk)).exists()
            await die_and_come_back(vpool, vdisk)
            assert await vpool.read(vdisk, 0, KIB) == b"2" * KIB


async def test_a_daemon_that_hangs_does_not_hang_its_vdisk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_ANSWER_TIMEOUT", 3.0)
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a")
        grant = await vpool.grant(vdisk)
        await write(grant, 0, b"1" * KIB)
        hung = vpool.context.fleet.get(vdisk)
        os.kill(hung.identity.pid, signal.SIGSTOP)
        async with asyncio.timeout(PATIENCE):
            await vpool.snapshot(vdisk)
        await vpool.operations.ensure_served(vdisk)
        assert not hung.identity.alive()
        await write(grant, KIB, b"2" * KIB)
        assert await vpool.read(vdisk, 0, 2 * KIB) == b"1" * KIB + b"2" * KIB
