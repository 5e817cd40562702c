"""Heads count references lazily: what a kill leaves behind is read right, and put in order before others need it."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.support.engine import MIB, Engine, connect, engine
from tests.support.qemus import bin_dirs

from openvstorage.vpool.backends.layers import backend
from openvstorage.vpool.model.layer import Layer, LayerState

BLOCK = b"kept".ljust(4096, b".")
DATA = {number * MIB: BLOCK for number in range(8)}


@pytest.fixture(params=bin_dirs().values(), ids=bin_dirs().keys())
async def vpool(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    async with engine(tmp_path, qemu_dir=str(request.param)) as made:
        yield made


async def layers(vpool: Engine, state: LayerState) -> list[str]:
    async with vpool.db.read() as session:
        return list(await session.scalars(select(Layer.guid).where(Layer.state == state)))


async def put(grant: dict[str, object], blocks: dict[int, bytes]) -> None:
    def run() -> None:
        with connect(grant) as nbd:
            for offset, block in blocks.items():
                nbd.write(offset, block)

    await asyncio.to_thread(run)


async def got(grant: dict[str, object]) -> dict[int, bytes]:
    def run() -> dict[int, bytes]:
        with connect(grant) as nbd:
            return {offset: nbd.read(offset, 4096) for offset in DATA}

    return await asyncio.to_thread(run)


async def kill_daemon(vpool: Engine, vdisk: str) -> None:
    """Kill it, and wait for the next one."""
    daemon = vpool.context.fleet.get(vdisk)
    await daemon.kill()
    while vpool.context.fleet.get(vdisk) in (None, daemon):
        await asyncio.sleep(0.01)
    await vpool.operations.ensure_served(vdisk)


async def test_a_killed_head_is_put_in_order_and_served(vpool: Engine) -> None:
    files = vpool.context.backend.files
    vdisk = await vpool.create("a", 16 * MIB)
    grant = await vpool.grant(vdisk)
    await put(grant, DATA)
    (head,) = await layers(vpool, LayerState.ACTIVE)
    assert files.is_dirty(head)
    await kill_daemon(vpool, vdisk)
    assert await got(grant) == DATA
    await vpool.revoke(grant)
    assert not files.is_dirty(head)
    assert await files.check(head) is None


async def test_an_idle_head_whose_daemon_was_killed_is_checked_and_extended(vpool: Engine) -> None:
    files = vpool.context.backend.files
    vdisk = await vpool.create("a", 16 * MIB)
    grant = await vpool.grant(vdisk)
    await put(grant, DATA)
    (head,) = await layers(vpool, LayerState.ACTIVE)
    dirty = files.path(head).read_bytes()
    await vpool.revoke(grant)
    files.path(head).write_bytes(dirty)
    assert await files.check(head) is not None
    assert await vpool.context.backend.check([head]) == {}
    files.path(head).write_bytes(dirty)
    await files.grow(head, 32 * MIB)
    assert not files.is_dirty(head)
    assert await files.check(head) is None


async def test_a_frozen_layer_is_in_order_at_once(vpool: Engine) -> None:
    files = vpool.context.backend.files
    vdisk = await vpool.create("a", 16 * MIB)
    grant = await vpool.grant(vdisk)
    await put(grant, DATA)
    (head,) = await layers(vpool, LayerState.ACTIVE)
    assert files.is_dirty(head)
    await vpool.snapshot(vdisk)
    assert not files.is_dirty(head)
    assert await files.check(head) is None
    await put(grant, {offset: bytes(4096) for offset in DATA})
    await kill_daemon(vpool, vdisk)
    assert not files.is_dirty(head)
    await vpool.revoke(grant)


async def test_a_daemon_that_is_killed_during_a_switch_leaves_a_layer_that_is_put_in_order(
    vpool: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = vpool.context.backend.files
    vdisk = await vpool.create("a", 16 * MIB)
    grant = await vpool.grant(vdisk)
    await put(grant, DATA)
    (head,) = await layers(vpool, LayerState.ACTIVE)
    before = files.path(head).read_bytes()

    async def die(self: backend.LayersBackend, graph: object, old: str, new: str) -> None:
        """Inside the command that switches QEMU cleans the old layer; a kill may come before that."""
        await vpool.context.fleet.get(vdisk).kill()
        files.path(old).write_bytes(before)

    monkeypatch.setattr(backend.LayersBackend, "switch", die)
    snapshot = await vpool.snapshot(vdisk)
    monkeypatch.undo()
    await vpool.operations.ensure_served(vdisk)
    assert before[79] & 1
    assert await got(grant) == DATA
    assert not files.is_dirty(head)
    assert await files.check(head) is None
    assert stat.S_IMODE(files.path(head).stat().st_mode) == 0o444
    clone = await vpool.clone(vdisk, "b", snapshot)
    assert await vpool.read(clone, 3 * MIB, 4096) == BLOCK


async def test_a_dirty_layer_is_read_right_by_several(vpool: Engine) -> None:
    files = vpool.context.backend.files
    vdisk = await vpool.create("a", 16 * MIB)
    grant = await vpool.grant(vdisk)
    await put(grant, DATA)
    (head,) = await layers(vpool, LayerState.ACTIVE)
    dirty = files.path(head).read_bytes()
    snapshot = await vpool.snapshot(vdisk)
    clones = [await vpool.clone(vdisk, name, snapshot) for name in "bc"]
    await vpool.revoke(grant)
    files.unseal(head)
    files.path(head).write_bytes(dirty)
    files.seal(head)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "is_dirty", lambda guid: False)  # as if somebody had it open all the time
        readers = [await vpool.grant(clone) for clone in clones]
    assert files.is_dirty(head)
    for reader in readers:
        assert await got(reader) == DATA
    later = await vpool.grant(vdisk)
    assert await got(later) == DATA
    assert files.is_dirty(head), "it was changed under its readers"


async def test_a_large_head_counts_at_once(vpool: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "LAZY_CLUSTERS", 16)
    files = vpool.context.backend.files
    vdisk = await vpool.create("a", 16 * MIB)
    await put(await vpool.grant(vdisk), DATA)
    (head,) = await layers(vpool, LayerState.ACTIVE)
    assert not files.is_dirty(head)
