"""Clones, and the snapshots that are taken for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select
from tests.support.engine import MIB, Engine, TaskFailed, connect, engine

from openvstorage.vpool.model.vdisk import Snapshot


async def snapshots(vpool: Engine) -> list[str]:
    async with vpool.db.read() as session:
        return list(await session.scalars(select(Snapshot.guid)))


async def test_a_refused_clone_leaves_no_snapshot(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 2 * MIB)
        with pytest.raises(TaskFailed, match="Shrinking"):
            await vpool.clone(vdisk, "b", size=MIB)
        assert await snapshots(vpool) == []


async def test_a_clone_s_snapshot_stays_while_somebody_reads_it(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 2 * MIB)
        await vpool.write(vdisk, 0, b"1" * 4096)
        clone = await vpool.clone(vdisk, "b")
        (taken,) = await snapshots(vpool)
        reader = await vpool.grant(vdisk, consumer="reader", mode="ro", snapshot_guid=taken)
        await vpool.do("vdisk.delete", clone)
        await vpool.settle()
        with connect(reader) as nbd:
            assert nbd.read(0, 4096) == b"1" * 4096
        await vpool.revoke(reader)
        assert await snapshots(vpool) == [taken]
    async with engine(tmp_path) as vpool:
        assert await snapshots(vpool) == []


async def test_a_vtemplate_s_line_is_merged_too(tmp_path: Path) -> None:
    """Nobody writes to it, so that its layers are merged like those of a snapshot."""
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 2 * MIB)
        await vpool.write(vdisk, 0, b"1" * 4096)
        taken = await vpool.snapshot(vdisk)
        await vpool.write(vdisk, MIB, b"2" * 4096)
        await vpool.do("vdisk.set_as_template", vdisk)
        await vpool.do("snapshot.delete", vdisk, snapshot_guid=taken)
        made = await vpool.do("vdisk.create_from_template", vdisk, name="b")
        await vpool.settle()
        assert len(list((tmp_path / "layers").iterdir())) == 2
        copy = made["vdisk_guid"]
        assert await vpool.read(copy, 0, 4096) + await vpool.read(copy, MIB, 4096) == b"1" * 4096 + b"2" * 4096
