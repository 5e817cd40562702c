"""Random histories of vDisks, checked block by block against a model that keeps everything in memory."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.support.engine import Engine, connect, engine

from openvstorage.vpool.backends.layers import lines
from openvstorage.vpool.model.layer import Layer

BLOCK = 64 * 1024
BLOCKS = 24
Content = dict[int, int]


@dataclass
class Model:
    """What every vDisk and snapshot must read."""

    vdisks: dict[str, Content] = field(default_factory=dict)
    snapshots: dict[str, dict[str, Content]] = field(default_factory=dict)


async def step(engine: Engine, model: Model, chance: random.Random, number: int) -> None:
    """Do one random thing to the vPool and to the model."""
    if not model.vdisks:
        guid = await engine.create(f"disk-{number}", BLOCK * BLOCKS)
        model.vdisks[guid], model.snapshots[guid] = {}, {}
        return
    vdisk = chance.choice(list(model.vdisks))
    named = model.snapshots[vdisk]
    action = chance.choices(
        ["write", "snapshot", "clone", "rollback", "drop_snapshot", "delete", "settle"],
        [30, 24, 10, 6, 16, 3, 11],
    )[0]
    if action == "write":
        await write(engine, vdisk, model.vdisks[vdisk], chance)
    elif action == "snapshot":
        named[await engine.snapshot(vdisk, f"s{number}")] = dict(model.vdisks[vdisk])
    elif action == "clone" and len(model.vdisks) < 6:
        snapshot = chance.choice([*named, None])
        content = named[snapshot] if snapshot else model.vdisks[vdisk]
        guid = await engine.clone(vdisk, f"disk-{number}", snapshot)
        model.vdisks[guid], model.snapshots[guid] = dict(content), {}
    elif action == "rollback" and named:
        snapshot = chance.choice(list(named))
        keep = chance.random() < 0.5
        await engine.do("vdisk.rollback", vdisk, snapshot_guid=snapshot, timestamp=None, keep_newer=keep)
        model.vdisks[vdisk] = dict(named[snapshot])
        if not keep:
            order = list(named)
            for newer in order[order.index(snapshot) + 1 :]:
                del named[newer]
    elif action == "drop_snapshot" and named:
        snapshot = chance.choice(list(named))
        await engine.do("snapshot.delete", vdisk, snapshot_guid=snapshot)
        del named[snapshot]
    elif action == "delete" and len(model.vdisks) > 1:
        await engine.do("vdisk.delete", vdisk)
        del model.vdisks[vdisk], model.snapshots[vdisk]
    elif action == "settle":
        await engine.settle()


async def write(engine: Engine, vdisk: str, content: Content, chance: random.Random) -> None:
    grant = await engine.grant(vdisk)
    with connect(grant) as nbd:
        for _ in range(chance.randint(1, 3)):
            block, value = chance.randrange(BLOCKS), chance.randint(1, 255)
            nbd.write(block * BLOCK + 512, bytes([value]) * 4096)  # less than a cluster: sub-clusters matter
            content[block] = value
        nbd.flush()
    await engine.revoke(grant)


async def verify(engine: Engine, model: Model) -> None:
    for vdisk, content in model.vdisks.items():
        await compare(engine, vdisk, None, content)
        for snapshot, frozen in model.snapshots[vdisk].items():
            await compare(engine, vdisk, snapshot, frozen)


async def compare(engine: Engine, vdisk: str, snapshot: str | None, content: Content) -> None:
    grant = await engine.grant(vdisk, consumer="verify", mode="ro", snapshot_guid=snapshot)
    with connect(grant) as nbd:
        for block in range(BLOCKS):
            got = nbd.read(block * BLOCK + 512, 4096)
            assert got == bytes([content.get(block, 0)]) * 4096, f"vDisk {vdisk}, snapshot {snapshot}, block {block}"
    await engine.revoke(grant)


async def depths(engine: Engine) -> int:
    async with engine.db.read() as session:
        guids = list(await session.scalars(select(Layer.guid)))
        return max([len(await lines.chain(session, guid)) for guid in guids], default=0)


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_every_block_of_a_random_history_is_right(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    model = Model()
    async with engine(tmp_path) as vpool:
        for number in range(90):
            await step(vpool, model, chance, number)
        await verify(vpool, model)
        await vpool.settle()
        await verify(vpool, model)


async def test_a_hundred_snapshots_stay_shallow_and_right(tmp_path: Path) -> None:
    chance = random.Random(7)
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("deep", BLOCK * BLOCKS)
        content: Content = {}
        frozen: dict[str, Content] = {}
        grant = await vpool.grant(vdisk)
        with connect(grant) as nbd:
            for number in range(100):
                block = chance.randrange(BLOCKS)
                nbd.write(block * BLOCK + 512, bytes([number + 1]) * 4096)
                nbd.flush()
                content[block] = number + 1
                frozen[await vpool.snapshot(vdisk, str(number))] = dict(content)
                await vpool.settle()
        await vpool.revoke(grant)
        assert await depths(vpool) <= 23
        async with vpool.db.read() as session:
            head = (await session.get_one(vdisk_table(), vdisk)).backend_ref
            assert len(await lines.chain(session, str(head))) <= 12
        for snapshot, was in list(frozen.items())[::9]:
            await compare(vpool, vdisk, snapshot, was)


def vdisk_table() -> type:
    from openvstorage.vpool.model.vdisk import VDisk

    return VDisk


async def test_nothing_is_left_when_everything_is_deleted_in_any_order(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        base = await vpool.create("base")
        await vpool.write(base, 0, b"1" * 4096)
        first = await vpool.snapshot(base)
        clone = await vpool.clone(base, "clone", first)
        grandchild = await vpool.clone(clone, "grandchild")
        await vpool.do("vdisk.delete", base)  # its snapshot has a clone
        assert await vpool.read(grandchild, 0, 4096) == b"1" * 4096
        await vpool.do("vdisk.delete", clone)
        assert await vpool.read(grandchild, 0, 4096) == b"1" * 4096
        await vpool.do("vdisk.delete", grandchild)
        await vpool.settle()
        assert list((tmp_path / "layers").iterdir()) == []
