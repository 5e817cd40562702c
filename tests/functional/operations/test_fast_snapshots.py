"""Snapshots that follow each other faster than layers can be absorbed."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.engine import MIB, Engine, connect, engine

from openvstorage.vpool.backends.layers import backend as layers_backend
from openvstorage.vpool.backends.layers import lines
from openvstorage.vpool.backends.layers.depth import MAX_DEPTH, STRIDE, TOLERATED, best_depth
from openvstorage.vpool.model.vdisk import VDisk

CHUNK = 65536
SNAPSHOTS = MAX_DEPTH + STRIDE


async def line_of(vpool: Engine, vdisk: str) -> list[lines.Link]:
    async with vpool.db.read() as session:
        head = (await session.get_one(VDisk, vdisk)).backend_ref
        return await lines.chain(session, str(head))


async def fast_snapshots(vpool: Engine, vdisk: str, number: int) -> list[str]:
    """Snapshots with a write before each, and no pause in which anything could be merged."""
    vpool.operations._housekeeping._stopping = True  # its rounds hand out no merges
    grant = await vpool.grant(vdisk)
    taken = []
    with connect(grant) as nbd:
        for count in range(number):
            nbd.write(count * CHUNK, bytes([count + 1]) * 4096)
            nbd.flush()
            taken.append(await vpool.snapshot(vdisk, str(count)))
            assert len(await line_of(vpool, vdisk)) <= MAX_DEPTH + 1
    await vpool.revoke(grant)
    vpool.operations._housekeeping._stopping = False
    return taken


async def test_the_chain_stays_bounded_and_every_snapshot_right(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("storm")
        taken = await fast_snapshots(vpool, vdisk, SNAPSHOTS)
        for count in (0, SNAPSHOTS // 2, SNAPSHOTS - 1):
            grant = await vpool.grant(vdisk, mode="ro", consumer="look", snapshot_guid=taken[count])
            with connect(grant) as nbd:
                read = [nbd.read(at * CHUNK, 1)[0] for at in range(SNAPSHOTS)]
            assert read == [at + 1 if at <= count else 0 for at in range(SNAPSHOTS)]
            await vpool.revoke(grant)


async def test_the_head_catches_up_when_there_is_time(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("storm")
        number = 5 * STRIDE + 1
        await fast_snapshots(vpool, vdisk, number)
        assert len(await line_of(vpool, vdisk)) == number + 1 > best_depth(number) + TOLERATED
        await vpool.settle()
        line = await line_of(vpool, vdisk)
        assert len(line) == best_depth(line[0].ordinal)


async def test_a_large_layer_is_not_copied_into_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone's stride may reach below where it began: an image is not copied into each of its clones for that."""
    monkeypatch.setattr(layers_backend, "CHEAP_MERGE", 4 * MIB)
    async with engine(tmp_path) as vpool:
        image = await vpool.create("image")
        await vpool.write(image, 0, b"1" * 4096)
        await vpool.snapshot(image)
        await vpool.write(image, 0, b"2" * (8 * MIB))
        clone = await vpool.clone(image, "clone")
        for count in range(2):
            await vpool.write(clone, count * CHUNK, b"3" * 4096)
            await vpool.snapshot(clone)
        await vpool.settle()
        head = (await line_of(vpool, clone))[0]
        assert head.ordinal == STRIDE
        assert vpool.context.backend.files.allocated(head.guid) < MIB
        assert await vpool.read(clone, 0, 4096) == b"3" * 4096
        assert await vpool.read(clone, 7 * MIB, 4096) == b"2" * 4096
