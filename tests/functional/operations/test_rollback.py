"""Rolling back a vDisk whose snapshots are in use."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.engine import TaskFailed, connect, engine


async def test_a_newer_snapshot_that_somebody_reads_is_not_removed_under_them(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a")
        first = await vpool.snapshot(vdisk)
        await vpool.write(vdisk, 0, b"1" * 4096)
        second = await vpool.snapshot(vdisk)
        reader = await vpool.grant(vdisk, consumer="reader", mode="ro", snapshot_guid=second)
        with pytest.raises(TaskFailed, match=f"Snapshot in use: revoke the grants of {second}"):
            await vpool.do("vdisk.rollback", vdisk, snapshot_guid=first)
        await vpool.do("vdisk.rollback", vdisk, snapshot_guid=first, keep_newer=True)
        await vpool.operations.ensure_served(vdisk)
        with connect(reader) as nbd:
            assert nbd.read(0, 4096) == b"1" * 4096
        await vpool.revoke(reader)
        await vpool.do("vdisk.rollback", vdisk, snapshot_guid=first)


async def test_the_old_rules_keep_a_newer_snapshot_that_has_clones(tmp_path: Path) -> None:
    async with engine(tmp_path, strict_compat=True) as vpool:
        vdisk = await vpool.create("a")
        first = await vpool.snapshot(vdisk)
        second = await vpool.snapshot(vdisk)
        await vpool.clone(vdisk, "b", second)
        with pytest.raises(TaskFailed, match="has 1 volumes cloned from it"):
            await vpool.do("vdisk.rollback", vdisk, snapshot_guid=first)
