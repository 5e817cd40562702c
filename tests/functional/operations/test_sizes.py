"""Sizes that change under a client, and never become smaller."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.engine import MIB, TaskFailed, connect, engine

from openvstorage.vpool.exports.errors import QmpInterrupted
from openvstorage.vpool.model.vdisk import VDisk
from openvstorage.vpool.operations import serving


async def test_what_a_guest_has_seen_is_not_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image is larger, but that could not be recorded: what the guest writes there must not be cut off later."""
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 2 * MIB)
        grant = await vpool.grant(vdisk)
        backend = vpool.context.backend

        async def fails(*_args: object) -> None:
            monkeypatch.undo()
            raise OSError

        monkeypatch.setattr(backend, "set_size", fails)
        guid = await vpool.operations.submit("vdisk.extend", {"size": 8 * MIB}, vdisk_guid=vdisk)
        await vpool.operations.wait(guid, 30)
        with connect(grant) as nbd:
            assert nbd.size == 8 * MIB
            nbd.write(7 * MIB, b"1" * 4096)
            nbd.flush()
        with pytest.raises(TaskFailed, match="Shrinking"):
            await vpool.do("vdisk.extend", vdisk, size=4 * MIB)
        await vpool.snapshot(vdisk)
        assert await vpool.read(vdisk, 7 * MIB, 4096) == b"1" * 4096
        async with vpool.db.read() as session:
            assert (await session.get_one(VDisk, vdisk)).size == 8 * MIB


async def test_an_extension_that_fails_lets_its_clients_in_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 2 * MIB)
        grant = await vpool.grant(vdisk)

        async def interrupted(*_args: object) -> None:
            await closed(*_args)
            raise QmpInterrupted(vdisk=vdisk, command="block_resize")

        closed = serving.close_head_exports
        with monkeypatch.context() as broken:
            broken.setattr(serving, "close_head_exports", interrupted)
            with pytest.raises(TaskFailed, match="interrupted"):
                await vpool.do("vdisk.extend", vdisk, size=8 * MIB)
        await vpool.operations.ensure_served(vdisk)
        with connect(grant) as nbd:
            assert nbd.size == 2 * MIB
