"""Write-through: what was acknowledged outlives the storage daemon, flushed or not."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.support.engine import MIB, Engine, connect, engine

from openvstorage.vpool.operations import housekeeping

BLOCK = b"acknowledged".ljust(4096, b".")


def write(grant: dict[str, Any], offset: int) -> None:
    with connect(grant) as nbd:
        nbd.write(offset, BLOCK)


async def kill_daemon(vpool: Engine, vdisk: str) -> None:
    """Kill it, and wait for the next one."""
    daemon = vpool.context.fleet.get(vdisk)
    await daemon.kill()
    while vpool.context.fleet.get(vdisk) in (None, daemon):
        await asyncio.sleep(0.01)
    await vpool.operations.ensure_served(vdisk)


async def test_a_write_that_was_not_flushed_outlives_its_daemon(tmp_path: Path) -> None:
    async with engine(tmp_path, write_through=True) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        grant = await vpool.grant(vdisk)
        later = await vpool.grant(vdisk)
        for number, each in enumerate((grant, later)):
            write(each, number * MIB)
            await kill_daemon(vpool, vdisk)
        with connect(grant) as nbd:
            assert [nbd.read(number * MIB, 4096) for number in range(2)] == [BLOCK, BLOCK]


@pytest.mark.parametrize("write_through", [False, True])
async def test_a_death_that_may_have_cost_data_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, write_through: bool
) -> None:
    async with engine(tmp_path, write_through=write_through) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        await vpool.grant(vdisk)
        vpool.context.respawn(vdisk)  # of one that lives, as at each start of the service
        await vpool.do("vdisk.restart", vdisk, force=True)
        assert not any("may be lost" in record.message for record in caplog.records)
        await kill_daemon(vpool, vdisk)
    told = [record.message for record in caplog.records if record.name == housekeeping.__name__]
    assert any("not flushed may be lost" in text for text in told) is not write_through
