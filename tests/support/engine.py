"""The vPool below its API, in this process: operations on a real directory with real storage daemons."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.patience import PATIENCE
from tests.support.vpool_service import end_storage_daemons

from openvstorage.edge.nbd import NbdClient
from openvstorage.vpool.access.server_certificate import ServerCertificate
from openvstorage.vpool.assembly import Boundary, assemble
from openvstorage.vpool.backends.layers.space import Space
from openvstorage.vpool.config import ServiceConfig
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.model.export import Grant
from openvstorage.vpool.model.task import TaskStatus
from openvstorage.vpool.operations import Operations
from openvstorage.vpool.pool import PoolDirectory, PoolLock, claim
from openvstorage.vpool.setup import ensure_inventory

MIB = 1024**2


class TaskFailed(Exception):
    """A task ended in FAILURE; the text is its result."""


@dataclass
class Engine:
    """Operations with conveniences for tests."""

    directory: PoolDirectory
    db: Database
    operations: Operations
    vpool_guid: str
    certificate: ServerCertificate | None

    @property
    def context(self) -> Any:
        return self.operations._context

    async def do(self, kind: str, vdisk: str | None = None, **args: Any) -> Any:
        """Run a task to its end. :returns: its result."""
        guid = await self.operations.submit(kind, args, vdisk_guid=vdisk)
        task = await self.operations.wait(guid, PATIENCE)
        assert task is not None
        assert task.status in (TaskStatus.SUCCESS, TaskStatus.FAILURE), f"{kind} did not end: {task.status}"
        if task.status == TaskStatus.FAILURE:
            raise TaskFailed(task.result)
        return task.result

    async def create(self, name: str, size: int = 64 * MIB) -> str:
        return str(await self.do("vdisk.create", name=name, size=size))

    async def clone(self, vdisk: str, name: str, snapshot: str | None = None, size: int | None = None) -> str:
        result = await self.do("vdisk.clone", vdisk, name=name, snapshot_guid=snapshot, size=size)
        return str(result["vdisk_guid"])

    async def snapshot(self, vdisk: str, label: str = "") -> str:
        return str(await self.do("snapshot.create", vdisk, label=label))

    async def grant(self, vdisk: str, consumer: str = "test", mode: str = "rw", **more: Any) -> dict[str, Any]:
        result = await self.do("grant.create", vdisk, consumer=consumer, mode=mode, **{"client": "host", **more})
        return dict(result)

    async def revoke(self, grant: dict[str, Any]) -> None:
        await self.do("grant.revoke", grant["vdisk_guid"], grant_guid=grant["guid"])

    async def write(self, vdisk: str, offset: int, data: bytes) -> None:
        """Write and flush through a grant of its own."""
        grant = await self.grant(vdisk)
        await asyncio.to_thread(_write, grant, offset, data)
        await self.revoke(grant)

    async def read(self, vdisk: str, offset: int, length: int) -> bytes:
        grant = await self.grant(vdisk, consumer="reader", mode="ro")
        data = await asyncio.to_thread(_read, grant, offset, length)
        await self.revoke(grant)
        return data

    async def settle(self) -> None:
        """Do all background work that is due now."""
        await self.operations._housekeeping.round()


def connect(grant: dict[str, Any]) -> NbdClient:
    return NbdClient.connect(grant["host"], grant["port"], grant["export_name"])


def _write(grant: dict[str, Any], offset: int, data: bytes) -> None:
    with connect(grant) as nbd:
        nbd.write(offset, data)
        nbd.flush()


def _read(grant: dict[str, Any], offset: int, length: int) -> bytes:
    with connect(grant) as nbd:
        return nbd.read(offset, length)


@asynccontextmanager
async def engine(
    data: Path,
    *,
    boundary: Boundary | None = None,
    stop_daemons: bool = True,
    **settings: Any,
) -> AsyncIterator[Engine]:
    """Start the vPool of a directory; at the end its storage daemons are stopped unless told otherwise."""
    # keys take long to make, so without TLS unless it is asked for
    config = ServiceConfig(**{"edge_tls": False, **settings}).checked()
    data.mkdir(parents=True, exist_ok=True)
    directory = PoolDirectory(data)
    directory.logs.mkdir(exist_ok=True)
    with PoolLock(data):
        Space.of(config, data).ease()
        db = Database(config.database or directory.database_url())
        await db.upgrade()
        claimed = await claim(directory, db, accept_database=False)
        inventory = await ensure_inventory(db, config)
        certificate = ServerCertificate.open(directory.tls, config.server_names()) if config.edge_tls else None
        operations = await assemble(config, directory, db, claimed, inventory, certificate, boundary=boundary)
        await operations.start()
        made = Engine(directory, db, operations, inventory.vpool_guid, certificate)
        try:
            yield made
        finally:
            if stop_daemons:
                for vdisk in made.context.fleet.serving():
                    await made.context.fleet.stop(vdisk)
            await operations.stop()
            await db.close()
            if stop_daemons:  # one may have been started again before the background work ended
                end_storage_daemons(made.context.fleet.run_dir)


async def serve_at_the_head(vpool: Engine, grant: dict[str, Any]) -> None:
    """Have a grant served by the daemon of its vDisk's head, as an older version did with all of them."""
    async with vpool.db.write() as session:
        row = await session.get_one(Grant, grant["guid"])
        row.export_guid = row.vdisk_guid
    await vpool.operations.ensure_served(grant["vdisk_guid"])
