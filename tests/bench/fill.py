"""Many vDisks, without waiting for ten thousand calls.

One vDisk with a snapshot is made through the API. Then the service is stopped, and all that it left is copied under
fresh guids as often as wanted: the rows of vDisk, snapshot, layers and tasks, and the layers' files, whose headers name
the layer below. So nothing is cheaper than if each had been made through the API.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import insert, select
from tests.bench.pool import running

from openvstorage.vpool.model.base import Base, new_guid
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.model.layer import Layer
from openvstorage.vpool.model.task import Task
from openvstorage.vpool.model.vdisk import Snapshot, VDisk
from openvstorage.vpool.operations.names import devicename
from openvstorage.vpool.pool import PoolDirectory

GIB = 1024**3
BLOCK = 4096
BATCH = 500
PROTOTYPE = "prototype"


def filled_name(number: int) -> str:
    """:returns: name of one of the vDisks that :func:`fill` makes."""
    return f"filled-{number:06}"


def fill(data: Path, vdisks: int) -> None:
    """Make a data directory with that many vDisks, each with one snapshot. Nothing serves it on return."""
    with running(data) as pool:
        guid = pool.client.vdisks.create(PROTOTYPE, GIB, pool.vpool)
        pool.client.snapshots.create(guid, PROTOTYPE)
    asyncio.run(_copy_prototype(PoolDirectory(data), vdisks))


async def _copy_prototype(directory: PoolDirectory, vdisks: int) -> None:
    db = Database(directory.database_url())
    try:
        async with db.read() as session:
            rows = [dict(row) for model in (Layer, VDisk, Snapshot, Task) for row in await _rows(session, model)]
        files = {path.stem: path for path in directory.layers.iterdir()}
        for start in range(0, vdisks, BATCH):
            copies = [_renamed(rows, number) for number in range(start, min(start + BATCH, vdisks))]
            for guids, _ in copies:
                _copy_files(files, guids)
            await _insert(db, [row for _, copied in copies for row in copied])
    finally:
        await db.close()
    os.sync()


async def _rows(session: Any, model: type[Base]) -> Iterable[dict[str, Any]]:
    """The prototype's rows of one table as values by column name, with the table under ``model``."""
    columns = model.__table__.columns
    query = select(*columns).order_by(model.parent_guid.is_not(None)) if model is Layer else select(*columns)
    return [{**row, "model": model} for row in (await session.execute(query)).mappings()]


def _renamed(rows: list[dict[str, Any]], number: int) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """:returns: the fresh guid of each of the prototype's, and its rows with these and with another name."""
    guids = {str(row["guid"]): new_guid() for row in rows}
    copied = []
    for row in rows:
        fresh = {name: _replaced(value, guids) for name, value in row.items() if name != "model"} | {
            "model": row["model"]
        }
        if row["model"] is VDisk:
            name = filled_name(number)
            fresh |= {"name": name, "description": name, "devicename": devicename(name), "volume_id": new_guid()}
        if row["model"] is Task:
            fresh |= {"idempotency_key": new_guid() if row["idempotency_key"] else None, "finished_at": time.time()}
        copied.append(fresh)
    return guids, copied


def _replaced(value: Any, guids: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return guids.get(value, value)
    if isinstance(value, dict):
        return {key: _replaced(item, guids) for key, item in value.items()}
    return value


async def _insert(db: Database, rows: list[dict[str, Any]]) -> None:
    """Insert rows, table by table, so that what is referred to is there first."""
    async with db.write() as session:
        for model in (Layer, VDisk, Snapshot, Task):
            # layers of one batch refer to each other: those that lie on nothing come first
            mine = [row for row in rows if row["model"] is model]
            if model is Layer:
                mine.sort(key=lambda row: row["parent_guid"] is not None)
            values = [{name: value for name, value in row.items() if name != "model"} for row in mine]
            await session.execute(insert(model), values)


def _copy_files(files: Mapping[str, Path], guids: Mapping[str, str]) -> None:
    for old, path in files.items():
        content = path.read_bytes()
        for known, fresh in guids.items():
            content = content.replace(known.encode(), fresh.encode())  # the header's name of the layer below
        _write_sparse(path.with_name(guids[old] + path.suffix), content, path.stat().st_mode & 0o777)


def _write_sparse(path: Path, content: bytes, mode: int) -> None:
    """Write a file with holes where the content is zero, as the original has them."""
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        os.ftruncate(descriptor, len(content))
        for offset in range(0, len(content), BLOCK):
            block = content[offset : offset + BLOCK]
            if block.count(0) != len(block):
                os.pwrite(descriptor, block, offset)
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)
