"""A full disk: nothing is lost, what takes room is refused in words, and deleting frees it.

Requires QEMU's storage daemon and the right to mount a tmpfs.
"""

from __future__ import annotations

import asyncio
import errno
from pathlib import Path
from typing import Any

import pytest
from tests.support.audit import audit, calm
from tests.support.crash_acts import disk, first, snapped, snapshot, vdisk
from tests.support.crash_world import Disk, World, fits, look
from tests.support.disk_room import FULL, occupy
from tests.support.engine import MIB, Engine, TaskFailed, connect, engine

from openvstorage.edge.errors import RequestFailed
from openvstorage.vpool.backends.base import PoolFull

pytestmark = [pytest.mark.crash]


def write_until_full(grant: dict[str, Any], start: int) -> int:
    """Write and flush whole MiB until there is no room. :returns: how far it came."""
    with connect(grant) as nbd:
        at = start
        while True:
            try:
                nbd.write(at * MIB, bytes([at + 1]) * MIB)
                nbd.flush()
            except RequestFailed as error:
                if error.errno != errno.ENOSPC:
                    raise
                return at
            at += 1


@pytest.mark.parametrize("low_water", [8, 0], ids=["noticed-before", "noticed-by-the-tools"])
async def test_a_full_disk_loses_nothing_and_is_freed_by_deleting(small_disk: Path, low_water: int) -> None:
    async with engine(small_disk / "pool", stop_daemons=False, low_water_mib=low_water, ballast_mib=4) as vpool:
        await first(disk("a", "A..."), snapped("a", "s"), disk("b", "B" * 128))(vpool)
        guid = await vpool.create("big", 256 * MIB)
        grant = await vpool.grant(guid, "guest")
        reached = await asyncio.to_thread(write_until_full, grant, 0)
        assert reached > 8
        await expect_full(vpool, guid)
        reached = await asyncio.to_thread(write_until_full, grant, reached)  # whatever a refusal gave back
        occupy(small_disk / "of-another-program")
        await expect_full(vpool, guid)
    occupy(small_disk / "of-another-program")  # what the database's log took
    async with engine(small_disk / "pool", low_water_mib=low_water, ballast_mib=4) as vpool:
        occupy(small_disk / "of-another-program")
        assert await asyncio.to_thread(read_numbers, grant, reached) == list(range(1, reached + 1))
        await vpool.do("snapshot.delete", await vdisk(vpool, "a"), snapshot_guid=await snapshot(vpool, "a", "s"))
        await vpool.do("vdisk.delete", await vdisk(vpool, "b"))
        await calm(vpool)
        further = await asyncio.to_thread(write_until_full, grant, reached)
        assert further > reached, "the guest goes on with what was given back"
        (small_disk / "of-another-program").unlink()
        await vpool.revoke(grant)
        await vpool.do("vdisk.delete", guid)
        await calm(vpool)
        await vpool.snapshot(await vdisk(vpool, "a"), "again")
        await vpool.clone(await vdisk(vpool, "a"), "c")
        await calm(vpool)
        await audit(vpool)
        content = {"again": "A...", "(clone)": "A..."}
        assert fits(await look(vpool), World({"a": Disk("A...", content), "c": Disk("A...")}), wrote=False)


async def test_on_a_disk_without_a_free_byte_the_service_ends_starts_and_deletes(small_disk: Path) -> None:
    other = small_disk / "of-another-program"
    async with engine(small_disk / "pool", low_water_mib=8, ballast_mib=4) as vpool:
        guid = await vpool.create("a")
        occupy(other)
    for _ in range(2):
        occupy(other)
        async with engine(small_disk / "pool", low_water_mib=8, ballast_mib=4):
            occupy(other)
    occupy(other)
    async with engine(small_disk / "pool", low_water_mib=8, ballast_mib=4) as vpool:
        occupy(other)
        for number in range(20):  # a commit may still fit into what the log had reserved
            with pytest.raises((PoolFull, TaskFailed), match=FULL):
                await vpool.create(f"new-{number}")
        await vpool.do("vdisk.delete", guid)
        await calm(vpool)
        assert not list((small_disk / "pool" / "layers").iterdir())


async def expect_full(vpool: Engine, guid: str) -> None:
    """Whatever takes room is refused with a sentence, and nothing of it stays."""
    before = {path.name for path in (vpool.directory.layers).iterdir()}
    a = await vdisk(vpool, "a")
    with pytest.raises(TaskFailed, match=FULL):
        await vpool.create("new")
    with pytest.raises(TaskFailed, match=FULL):
        await vpool.snapshot(guid, "new")
    with pytest.raises(TaskFailed, match=FULL):
        await vpool.clone(a, "new", await snapshot(vpool, "a", "s"))
    await vpool.context.backend.sweep()
    assert {path.name for path in (vpool.directory.layers).iterdir()} == before


def read_numbers(grant: dict[str, Any], count: int) -> list[int]:
    with connect(grant) as nbd:
        blocks = [nbd.read(at * MIB, MIB) for at in range(count)]
    assert all(block == block[:1] * MIB for block in blocks)
    return [block[0] for block in blocks]
