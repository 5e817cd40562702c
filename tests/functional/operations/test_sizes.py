"""Sizes that change under a client, and never become smaller."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.support.engine import MIB, TaskFailed, connect, engine, serve_at_the_head
from tests.support.patience import PATIENCE

from openvstorage.edge.errors import TransportError
from openvstorage.vpool.backends.base import BackendError
from openvstorage.vpool.exports.daemon import StorageDaemon
from openvstorage.vpool.exports.errors import QmpError
from openvstorage.vpool.model.vdisk import VDisk


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
        await vpool.operations.wait(guid, PATIENCE)
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


async def test_a_client_that_comes_back_at_once_finds_its_export_grown(tmp_path: Path) -> None:
    """A refusal would cost a guest a second: QEMU then waits that long before it tries again."""
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 2 * MIB)
        grant = await vpool.grant(vdisk)
        for size in (4 * MIB, 6 * MIB, 8 * MIB):
            connected = threading.Event()
            client = asyncio.create_task(asyncio.to_thread(size_after_the_drop, grant, connected))
            assert await asyncio.to_thread(connected.wait, PATIENCE)
            await vpool.do("vdisk.extend", vdisk, size=size)
            assert await asyncio.wait_for(client, PATIENCE) == size


def size_after_the_drop(grant: dict[str, Any], connected: threading.Event) -> int:
    """Read until the connection breaks, connect again. :returns: the size that is served then."""
    with connect(grant) as nbd, contextlib.suppress(TransportError):
        connected.set()
        while True:
            nbd.read(0, 512)
    with connect(grant) as nbd:
        return nbd.size


async def test_a_copy_of_a_snapshot_does_not_notice_that_its_vdisk_grows(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 2 * MIB)
        await vpool.write(vdisk, 0, b"1" * 4096)
        guest = await vpool.grant(vdisk)
        copied = await vpool.grant(vdisk, consumer="copy", mode="ro", snapshot_guid=await vpool.snapshot(vdisk))
        with connect(copied) as copy:
            await vpool.do("vdisk.extend", vdisk, size=8 * MIB)
            assert copy.read(0, 4096) == b"1" * 4096
        with connect(guest) as nbd:
            assert nbd.size == 8 * MIB


@pytest.mark.parametrize("with_a_copy", [False, True], ids=["alone", "beside-a-copy"])
async def test_an_extension_that_fails_lets_its_clients_in_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_a_copy: bool
) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 2 * MIB)
        grant = await vpool.grant(vdisk)
        if with_a_copy:
            copy = await vpool.grant(vdisk, consumer="copy", mode="ro", snapshot_guid=await vpool.snapshot(vdisk))
            await serve_at_the_head(vpool, copy)

        async def broken(*_args: object) -> None:
            if with_a_copy:
                raise QmpError(command="block_resize", class_="GenericError", desc="the disk is broken")
            raise BackendError("the disk is broken")

        with monkeypatch.context() as patched:
            patched.setattr(*((StorageDaemon, "resize") if with_a_copy else (vpool.context.backend, "grow")), broken)
            with pytest.raises(TaskFailed, match="the disk is broken"):
                await vpool.do("vdisk.extend", vdisk, size=8 * MIB)
        await vpool.operations.ensure_served(vdisk)
        with connect(grant) as nbd:
            assert nbd.size == 2 * MIB
