"""Merges that only seemed finished, and what is deleted under one."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.audit import audit, calm
from tests.support.crash import in_child
from tests.support.crash_acts import disk, dropped, first, granted, snapped, snapshot, vdisk, written
from tests.support.crash_world import Disk, World, fits, look
from tests.support.engine import Engine, engine
from tests.support.qemus import bin_dirs

from openvstorage.vpool.exports.daemon import StorageDaemon
from openvstorage.vpool.model.vdisk import VDisk

pytestmark = [pytest.mark.crash]


@pytest.mark.parametrize("qemu", bin_dirs().values(), ids=bin_dirs().keys())
@pytest.mark.parametrize("online", [False, True], ids=["offline", "online"])
@pytest.mark.parametrize("flushed", [False, True], ids=["not-flushed", "flushed"])
def test_a_merge_that_concluded_and_was_cut_off_is_not_believed(
    data: Path, qemu: Path, online: bool, flushed: bool
) -> None:
    """The image's header names the new base already, what was copied is still in memory; then all dies at once.

    With the flush only the model does not know of it yet.
    """
    setting_up = first(disk("a", "AAA."), snapped("a", "s"), written("a", 1, "B"))

    async def live() -> None:
        async with engine(data, qemu_dir=str(qemu), stop_daemons=False) as vpool:
            await calm(vpool)
            vpool.context.tidy = lambda: None
            await setting_up(vpool)
            if online:
                await granted("a", "guest")(vpool)
            await dropped("a", "s")(vpool)
            real = StorageDaemon.flush

            async def die(daemon: StorageDaemon) -> None:
                if flushed:
                    await real(daemon)
                os.kill(daemon.identity.pid, signal.SIGKILL)
                os.kill(os.getpid(), signal.SIGKILL)

            StorageDaemon.flush = die  # type: ignore[method-assign]
            await vpool.settle()

    async def examine() -> None:
        async with engine(data, qemu_dir=str(qemu)) as vpool:
            await calm(vpool)
            await audit(vpool)
            grants = frozenset({"a:guest"} if online else ())
            assert fits(await look(vpool), World({"a": Disk("ABA.")}, grants), wrote=False)
            assert len(list((data / "layers").iterdir())) == 1, "the merge was done again"

    assert in_child(live), "the merge came to its flush"
    asyncio.run(examine())


async def test_a_snapshot_deleted_while_its_layer_is_folded_leaves_nothing(data: Path) -> None:
    vpool: Engine

    async def interfere(operation: str, boundary: str) -> None:
        if (operation, boundary) == ("fold", point):
            deleted.append(point)
            await dropped("a", "s2")(vpool)
            await vpool.context.backend.sweep()

    for point in ("begin", "copy", "stream", "swap:committed", "swap"):
        deleted: list[str] = []
        async with engine(data / point, boundary=interfere) as vpool:
            await first(
                disk("a", "A..."),
                snapped("a", "s0"),
                written("a", 1, "B"),
                snapped("a", "s1"),
                written("a", 2, "C"),
                snapped("a", "s2"),
                # the head leaves this line, so that nothing but its name keeps the layer of s2
                rolled_back("a", "s0"),
                dropped("a", "s1"),
            )(vpool)
            await calm(vpool)
            await audit(vpool)
            async with vpool.db.read() as session:
                assert len(list(await session.scalars(select(VDisk)))) == 1
            assert fits(await look(vpool), World({"a": Disk("A...", {"s0": "A..."})}), wrote=False), point
            assert deleted, point


def rolled_back(name: str, label: str) -> Any:
    """A vDisk rolled back, its newer snapshots kept."""

    async def make(vpool: Engine) -> None:
        guid = await snapshot(vpool, name, label)
        await vpool.do("vdisk.rollback", await vdisk(vpool, name), snapshot_guid=guid, keep_newer=True)

    return make
