"""What the database of a data directory says, and is made to say, while no service serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from sqlalchemy import select, update

from openvstorage.vpool.exports.identity import Identity
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.model.export import Export
from openvstorage.vpool.model.vdisk import VDisk
from openvstorage.vpool.pool import PoolDirectory

__all__ = ["claim_pid", "only_vdisk", "port_of"]


@asynccontextmanager
async def _database(data: Path) -> AsyncIterator[Database]:
    database = Database(PoolDirectory(data).database_url())
    try:
        yield database
    finally:
        await database.close()


async def only_vdisk(data: Path) -> str:
    """:returns: guid of the only vDisk there is."""
    async with _database(data) as database, database.read() as session:
        return (await session.scalars(select(VDisk.guid))).one()


async def port_of(data: Path, guid: str) -> int:
    """:returns: the port of a vDisk's export."""
    async with _database(data) as database, database.read() as session:
        return (await session.get_one(Export, guid)).port


async def claim_pid(data: Path, guid: str, pid: int, *, rebooted: bool = False) -> None:
    """Let the model have known a vDisk's daemon under a pid, in this boot or in one before."""
    values: dict[str, object] = {"pid": pid}
    if rebooted:
        values |= {"start_time": Identity.of(pid).start_time, "boot_id": "of the boot before"}
    async with _database(data) as database, database.write() as session:
        await session.execute(update(Export).where(Export.vdisk_guid == guid).values(**values))
