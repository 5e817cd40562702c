"""What is read only is served by storage daemons of its own, from which nothing that is written can be reached."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.support.engine import MIB, Engine, connect, engine, serve_at_the_head

from openvstorage.edge.errors import EdgeError
from openvstorage.vpool.model.export import Export

OLD, NEW = b"o" * 4096, b"n" * 4096


def write(grant: dict[str, Any], data: bytes) -> None:
    with connect(grant) as nbd:
        nbd.write(0, data)


def read(grant: dict[str, Any]) -> bytes:
    with connect(grant) as nbd:
        return bytes(nbd.read(0, 4096))


async def all_served(vpool: Engine) -> dict[str, set[str]]:
    """Names by daemon."""
    return {guid: set(await daemon.exports()) for guid, daemon in vpool.context.fleet.serving().items()}


@pytest.mark.parametrize("of", ["snapshot", "head"])
async def test_nothing_writable_is_where_a_reader_gets_in(tmp_path: Path, of: str) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        writer = await vpool.grant(vdisk, client="host1")
        write(writer, OLD)
        snapshot = await vpool.snapshot(vdisk)
        write(writer, NEW)
        wanted = {"snapshot_guid": snapshot} if of == "snapshot" else {}
        reader = await vpool.grant(vdisk, client="host2", consumer="copy", mode="ro", **wanted)
        assert reader["port"] != writer["port"]
        assert read(reader) == (OLD if of == "snapshot" else NEW)
        with pytest.raises(EdgeError):
            connect({**writer, "port": reader["port"]}).close()
        with pytest.raises(EdgeError), connect(reader) as nbd:
            nbd.write(0, OLD)


async def test_reader_of_a_head_sees_what_is_written_and_lives_over_its_daemon(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        writer = await vpool.grant(vdisk)
        reader = await vpool.grant(vdisk, consumer="copy", mode="ro")
        with connect(reader) as nbd:
            for data in (OLD, NEW):
                await asyncio.to_thread(write, writer, data)
                assert await asyncio.to_thread(nbd.read, 0, 4096) == data
                vpool.context.fleet.get(vdisk)._process.kill()
            assert await asyncio.to_thread(nbd.read, 0, 4096) == NEW


async def test_reader_of_a_head_sees_it_grown(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        reader = await vpool.grant(vdisk, mode="ro")
        for in_use in (False, True):
            if in_use:
                await vpool.grant(vdisk)
            size = (16 + 8 * in_use) * MIB
            await vpool.do("vdisk.extend", vdisk, size=size)
            with connect(reader) as nbd:
                assert nbd.size == size


async def test_head_lets_no_reader_in_once_nobody_reads(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        writer = await vpool.grant(vdisk)
        reader = await vpool.grant(vdisk, consumer="copy", mode="ro")
        assert len((await all_served(vpool))[vdisk]) == 2
        await vpool.revoke(reader)
        assert await all_served(vpool) == {vdisk: {writer["export_name"]}}
        await vpool.revoke(writer)
        assert await all_served(vpool) == {}
        async with vpool.db.read() as session:
            assert await session.get(Export, vdisk) is None


async def test_writer_may_go_while_somebody_reads(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        writer = await vpool.grant(vdisk)
        reader = await vpool.grant(vdisk, consumer="copy", mode="ro")
        write(writer, OLD)
        with connect(reader) as nbd:
            await vpool.revoke(writer)
            assert await asyncio.to_thread(nbd.read, 0, 4096) == OLD


async def test_template_is_read_without_a_daemon_that_could_write(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        await vpool.write(vdisk, 0, OLD)
        await vpool.do("vdisk.set_as_template", vdisk)
        reader = await vpool.grant(vdisk, mode="ro")
        assert read(reader) == OLD
        assert list(await all_served(vpool)) != [vdisk]
        assert len(await all_served(vpool)) == 1


async def test_what_is_read_is_not_folded_before_it_is_read(tmp_path: Path) -> None:
    """Its room would only be free later, and be taken twice until then."""
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        snapshots = []
        for data in (OLD, NEW, OLD):
            await vpool.write(vdisk, 0, data)
            snapshots.append(await vpool.snapshot(vdisk))
        await vpool.write(vdisk, 0, NEW)
        copy = await vpool.grant(vdisk, consumer="copy", mode="ro", snapshot_guid=snapshots[1])
        await vpool.do("snapshot.delete", vdisk, snapshot_guid=snapshots[0])
        await vpool.settle()
        with connect(copy) as nbd:
            assert nbd.read(0, 4096) == NEW
        assert len(list((tmp_path / "layers").iterdir())) == 4
        await vpool.revoke(copy)
        await vpool.settle()
        assert len(list((tmp_path / "layers").iterdir())) == 3
        assert read(await vpool.grant(vdisk, mode="ro", snapshot_guid=snapshots[1])) == NEW


async def test_grant_of_an_older_version_stays_where_it_is_until_it_is_asked_for_anew(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        writer = await vpool.grant(vdisk)
        write(writer, OLD)
        snapshot = await vpool.snapshot(vdisk)
        asked = {"consumer": "copy", "mode": "ro", "snapshot_guid": snapshot}
        copy = await vpool.grant(vdisk, **asked)
        await serve_at_the_head(vpool, copy)
        at_the_head = {**copy, "port": writer["port"]}
        assert read(at_the_head) == OLD
        anew = await vpool.grant(vdisk, **asked)
        assert anew["guid"] == copy["guid"]
        assert read(anew) == OLD
        with pytest.raises(EdgeError):
            connect(at_the_head).close()
