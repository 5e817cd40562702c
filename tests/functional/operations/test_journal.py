"""What the journal does with operations that fail, and who may run them meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.engine import MIB, TaskFailed, engine
from tests.support.patience import PATIENCE

from openvstorage.vpool.backends.base import BackendError
from openvstorage.vpool.model.export import Grant
from openvstorage.vpool.model.task import OperationRow
from openvstorage.vpool.operations import tasks
from openvstorage.vpool.operations.create import CreateVDisk


async def test_what_is_being_taken_back_is_not_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An operation without locks, while the housekeeping looks for what is left to be finished."""
    async with engine(tmp_path) as vpool:
        taking_back, made = asyncio.Event(), 0
        go_on = asyncio.Event()

        async def make(_ref: str) -> None:
            nonlocal made
            made += 1
            raise BackendError("no")

        async def give_up(_operation: object) -> None:
            taking_back.set()
            await go_on.wait()

        monkeypatch.setattr(vpool.context.backend, "make", make)
        monkeypatch.setattr(CreateVDisk, "give_up", give_up)
        creating = asyncio.create_task(vpool.create("a"))
        await taking_back.wait()
        await vpool.settle()
        go_on.set()
        with pytest.raises(TaskFailed, match="no"):
            await creating
        assert made == 1


async def test_what_can_not_be_taken_back_now_is_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine(tmp_path) as vpool:
        with monkeypatch.context() as broken:

            async def fails(*_args: object) -> None:
                raise BackendError("no")

            broken.setattr(vpool.context.backend, "make", fails)
            broken.setattr(CreateVDisk, "abort", fails)
            guid = await vpool.operations.submit("vdisk.create", {"name": "a", "size": MIB})
            await vpool.operations.wait(guid, PATIENCE)
        await vpool.settle()
        async with vpool.db.read() as session:
            assert list(await session.scalars(select(OperationRow))) == []
        task = await vpool.operations.wait(guid, 0)
        assert task is not None
        assert task.finished_at is not None


async def test_a_refused_deletion_takes_nobody_s_grant(tmp_path: Path) -> None:
    async with engine(tmp_path, strict_compat=True) as vpool:
        vdisk = await vpool.create("a", MIB)
        await vpool.clone(vdisk, "b")
        grant = await vpool.grant(vdisk)
        with pytest.raises(TaskFailed, match="has clones"):
            await vpool.do("vdisk.delete", vdisk, force=True)
        async with vpool.db.read() as session:
            assert await session.scalar(select(Grant.guid)) == grant["guid"]


async def test_stopping_does_not_wait_for_a_layer_to_be_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with engine(tmp_path) as vpool:
        monkeypatch.setattr(tasks, "CLOSE_SECONDS", 10 * PATIENCE)
        vpool.context.tidy = lambda: None
        vdisk = await vpool.create("a", MIB)
        taken = []
        for letter in (b"1", b"2"):
            await vpool.write(vdisk, 0, letter * 4096)
            taken.append(await vpool.snapshot(vdisk))
        await vpool.do("snapshot.delete", vdisk, snapshot_guid=taken[0])
        copying, files = asyncio.Event(), vpool.context.backend.files

        async def slow(*_args: Any) -> None:
            copying.set()
            await files.tools.run("sleep", 3600)

        monkeypatch.setattr(files, "copy", slow)
        folding = asyncio.create_task(vpool.settle())
        await copying.wait()
        async with asyncio.timeout(PATIENCE):
            await vpool.operations.stop()
            await folding
        monkeypatch.undo()
    async with engine(tmp_path) as vpool:
        assert await vpool.read(vdisk, 0, 4096) == b"2" * 4096
