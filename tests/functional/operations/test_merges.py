"""Which merges are done, and which wait: a few that fail or are not worth it must not hide the others."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select
from tests.support.engine import MIB, Engine, engine

from openvstorage.vpool.backends.base import Merge
from openvstorage.vpool.exports.errors import ImageLocked
from openvstorage.vpool.model.cluster import Setting
from openvstorage.vpool.model.layer import Layer, LayerState
from openvstorage.vpool.operations.merge import is_parked, note_death


def files(data: Path) -> int:
    return len(list((data / "layers").iterdir()))


async def with_dropped_snapshot(vpool: Engine, name: str) -> str:
    """A vDisk whose head lies on a layer that nobody names. :returns: its guid."""
    vdisk = await vpool.create(name, 2 * MIB)
    await vpool.write(vdisk, 0, b"1" * 4096)
    taken = await vpool.snapshot(vdisk)
    await vpool.write(vdisk, MIB, b"2" * 4096)
    await vpool.do("snapshot.delete", vdisk, snapshot_guid=taken)
    return vdisk


async def test_many_layers_that_are_not_worth_a_merge_hide_none_that_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine(tmp_path) as vpool:
        vpool.context.tidy = lambda: None  # no background work but what the test does itself
        backend = vpool.context.backend
        async with vpool.db.write() as session:
            for number in range(130):
                below, above = f"00000000-0000-4000-8000-{number:012}", f"00000000-0000-4000-9000-{number:012}"
                session.add(Layer(guid=below, state=LayerState.FROZEN, size=MIB))
                await session.flush()
                session.add(Layer(guid=above, state=LayerState.FROZEN, size=MIB, parent_guid=below))
        real = backend._worth
        monkeypatch.setattr(backend, "_worth", lambda into, layer: not into.startswith("0000") and real(into, layer))
        monkeypatch.setattr("openvstorage.vpool.backends.layers.backend.PAGE", 50)
        await with_dropped_snapshot(vpool, "a")
        for _ in range(4):
            await vpool.settle()
        assert files(tmp_path) == 1


async def test_a_line_of_dropped_snapshots_is_folded_without_a_miss(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Each fold changes what the next one lies on."""
    async with engine(tmp_path) as vpool:
        vpool.context.tidy = lambda: None  # no background work but what the test does itself
        vdisk = await vpool.create("a", 2 * MIB)
        taken = []
        for number in range(6):
            await vpool.write(vdisk, number * 65536, bytes([65 + number]) * 4096)
            taken.append(await vpool.snapshot(vdisk))
        for snapshot in taken[:-1]:
            await vpool.do("snapshot.delete", vdisk, snapshot_guid=snapshot)
        for _ in range(5):
            await vpool.settle()
        assert files(tmp_path) == 2
        assert not [record for record in caplog.records if record.levelname == "WARNING"], caplog.text
        for number in range(6):
            assert await vpool.read(vdisk, number * 65536, 4096) == bytes([65 + number]) * 4096


async def test_a_merge_that_fails_keeps_no_other_from_being_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine(tmp_path) as vpool:
        vpool.context.tidy = lambda: None  # no background work but what the test does itself
        stuck = await with_dropped_snapshot(vpool, "a")
        await with_dropped_snapshot(vpool, "b")
        real_merges, real_launch = vpool.context.backend.merges, vpool.context.fleet.launch

        async def stuck_first() -> list[Merge]:
            return sorted(await real_merges(), key=lambda merge: merge.vdisk != stuck)

        async def launch(guid: str, **more: object) -> object:
            if guid == stuck:
                raise ImageLocked(vdisk=guid, reason="somebody has it")
            return await real_launch(guid, **more)

        monkeypatch.setattr(vpool.context.backend, "merges", stuck_first)
        monkeypatch.setattr(vpool.context.fleet, "launch", launch)
        await vpool.settle()
        assert files(tmp_path) == 3


async def test_the_mark_of_a_given_up_merge_goes_with_its_layer(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        vpool.context.tidy = lambda: None  # no background work but what the test does itself
        kept = await with_dropped_snapshot(vpool, "a")
        gone = await with_dropped_snapshot(vpool, "b")
        refs = [merge.into for merge in await vpool.context.backend.merges()]
        for ref in refs * 2:
            await note_death(vpool.context, ref, "tried")
        await vpool.settle()
        assert files(tmp_path) == 4
        await vpool.do("vdisk.delete", gone)
        await vpool.settle()
    async with engine(tmp_path) as vpool, vpool.db.read() as session:
        marks = [mark for mark in await session.scalars(select(Setting)) if mark.name != "pool"]
        (merge,) = await vpool.context.backend.merges()
        assert merge.vdisk == kept
        assert len(marks) == 1
        assert await is_parked(session, merge.into)
