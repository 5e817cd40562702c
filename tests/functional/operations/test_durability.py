"""Durability: what a vDisk keeps when its storage daemon dies, and what its clients see of that."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.engine import MIB, Engine, TaskFailed, connect, engine

from openvstorage.edge.errors import EdgeError
from openvstorage.vpool.model.export import Export, Grant

BLOCK = b"acknowledged".ljust(4096, b".")
FLUSHED = {"durability": "flushed"}


def write(grant: dict[str, Any], offset: int, *, flush: bool = False) -> None:
    with connect(grant) as nbd:
        nbd.write(offset, BLOCK)
        if flush:
            nbd.flush()


async def kill_daemon(vpool: Engine, guid: str) -> None:
    """Kill it, and wait for the next one."""
    daemon = vpool.context.fleet.get(guid)
    daemon._process.kill()
    async with asyncio.timeout(60):
        while vpool.context.fleet.get(guid) in (None, daemon):
            await asyncio.sleep(0.01)


async def now(vpool: Engine, grant: dict[str, Any]) -> dict[str, Any]:
    """The grant as it is now, once its vDisk is served."""
    await vpool.operations.ensure_served(grant["vdisk_guid"])
    async with vpool.db.read() as session:
        row = await session.get_one(Grant, grant["guid"])
        export = await session.get_one(Export, row.export_guid)
    return {**grant, "export_name": row.export_name, "host": export.address, "port": export.port, "row": row}


async def test_what_was_acknowledged_outlives_the_daemon(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        grant = await vpool.grant(vdisk)
        later = await vpool.grant(vdisk)
        for number, each in enumerate((grant, later)):
            write(each, number * MIB)
            await kill_daemon(vpool, vdisk)
            assert (await now(vpool, each))["row"].cut_off_at is None
        with connect(grant) as nbd:
            assert [nbd.read(number * MIB, 4096) for number in range(2)] == [BLOCK, BLOCK]


async def test_death_of_a_daemon_that_had_not_flushed_is_a_power_cut_for_its_clients(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with engine(tmp_path, **FLUSHED) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        grant = await vpool.grant(vdisk)
        reader = await vpool.grant(vdisk, consumer="reader", mode="ro")
        write(grant, 0, flush=True)
        await kill_daemon(vpool, vdisk)
        for each in (grant, reader):
            anew = await now(vpool, each)
            assert anew["export_name"] != each["export_name"]
            assert anew["row"].cut_off_at is not None
            with pytest.raises(EdgeError):
                connect(each).close()
            with connect(anew) as nbd:
                assert nbd.read(0, 4096) == BLOCK
    assert any("hard reboot" in record.message for record in caplog.records)


@pytest.mark.parametrize("kind", ["vdisk.restart", "vdisk.extend", "snapshot.create"])
async def test_what_is_planned_cuts_nobody_off(tmp_path: Path, kind: str) -> None:
    async with engine(tmp_path, **FLUSHED) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        grant = await vpool.grant(vdisk)
        write(grant, 0)
        args = {"vdisk.restart": {"force": True}, "vdisk.extend": {"size": 16 * MIB}}.get(kind, {"label": "s"})
        await vpool.do(kind, vdisk, **args)
        assert (await now(vpool, grant))["export_name"] == grant["export_name"]
        with connect(grant) as nbd:
            assert nbd.read(0, 4096) == BLOCK


async def test_daemon_that_dies_while_no_service_is_there_cuts_its_clients_off(tmp_path: Path) -> None:
    async with engine(tmp_path, stop_daemons=False, **FLUSHED) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        grant = await vpool.grant(vdisk)
        pid = vpool.context.fleet.get(vdisk).identity.pid
    os.kill(pid, signal.SIGKILL)
    async with engine(tmp_path, **FLUSHED) as vpool:
        assert (await now(vpool, grant))["export_name"] != grant["export_name"]


async def test_restart_of_the_service_cuts_nobody_off(tmp_path: Path) -> None:
    async with engine(tmp_path, stop_daemons=False, **FLUSHED) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        grant = await vpool.grant(vdisk)
    async with engine(tmp_path, **FLUSHED) as vpool:
        assert (await now(vpool, grant))["export_name"] == grant["export_name"]


async def test_vdisk_has_its_own_or_the_pools(tmp_path: Path) -> None:
    async with engine(tmp_path, **FLUSHED) as vpool:
        kept = await vpool.do("vdisk.create", name="a", size=8 * MIB, durability="acknowledged")
        clone = await vpool.clone(kept, "b")
        for vdisk, is_kept in ((kept, True), (clone, False)):
            grant = await vpool.grant(vdisk)
            await kill_daemon(vpool, vdisk)
            assert ((await now(vpool, grant))["export_name"] == grant["export_name"]) is is_kept
        with pytest.raises(TaskFailed, match="'forever' is no durability: there are acknowledged, flushed"):
            await vpool.do("vdisk.create", name="c", size=MIB, durability="forever")


async def test_change_reaches_a_vdisk_in_use_and_loses_nothing(tmp_path: Path) -> None:
    async with engine(tmp_path, **FLUSHED) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        grant = await vpool.grant(vdisk)
        write(grant, 0)
        await vpool.do("vdisk.set_durability", vdisk, durability="acknowledged")
        write(grant, MIB)
        await kill_daemon(vpool, vdisk)
        assert (await now(vpool, grant))["export_name"] == grant["export_name"]
        with connect(grant) as nbd:
            assert [nbd.read(number * MIB, 4096) for number in range(2)] == [BLOCK, BLOCK]
        await vpool.do("vdisk.set_durability", vdisk, durability=None)
        await kill_daemon(vpool, vdisk)
        assert (await now(vpool, grant))["export_name"] != grant["export_name"]


def _of_an_older_version(export: Export) -> None:
    export.durability = None


def _of_another_durability(export: Export) -> None:
    export.durability = "flushed"


@pytest.mark.parametrize("change", [_of_an_older_version, _of_another_durability])
async def test_daemon_that_serves_in_an_old_way_is_replaced(tmp_path: Path, change: Callable[[Export], None]) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        grant = await vpool.grant(vdisk)
        write(grant, 0)
        old = vpool.context.fleet.get(vdisk)
        async with vpool.db.write() as session:
            change(await session.get_one(Export, vdisk))
        await vpool.settle()
        assert vpool.context.fleet.get(vdisk) is not old
        anew = await now(vpool, grant)
        assert (anew["export_name"], anew["port"]) == (grant["export_name"], grant["port"])
        with connect(grant) as nbd:
            assert nbd.read(0, 4096) == BLOCK


async def test_daemon_of_an_older_version_that_dies_before_it_is_replaced_cuts_its_clients_off(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a", 8 * MIB)
        grant = await vpool.grant(vdisk)
        async with vpool.db.write() as session:
            (await session.get_one(Export, vdisk)).durability = None
        await kill_daemon(vpool, vdisk)
        assert (await now(vpool, grant))["export_name"] != grant["export_name"]
