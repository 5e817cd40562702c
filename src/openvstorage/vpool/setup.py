"""What the first start makes: the node, the vPool, its StorageDriver and the administrator. Later starts find them."""

from __future__ import annotations

import secrets
import socket
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.access.accounts import Accounts
from openvstorage.vpool.config import ServiceConfig, write_private
from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.cluster import StorageDriver, StorageRouter, VPool
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.pool import PoolError

ADMINISTRATOR = "admin"
PASSWORD_BYTES = 24


@dataclass(frozen=True, slots=True)
class Inventory:
    """Guids of what this node is and serves."""

    storagerouter_guid: str
    vpool_guid: str


async def ensure_inventory(db: Database, config: ServiceConfig) -> Inventory:
    """Make what is missing and bring addresses up to date.

    :raises PoolError: the vPool has another name already.
    """
    async with db.write() as session:
        vpool = await _vpool(session, config)
        router = await _storagerouter(session, config)
        await _storagedriver(session, config, vpool, router)
        return Inventory(router.guid, vpool.guid)


async def _vpool(session: AsyncSession, config: ServiceConfig) -> VPool:
    vpool = await session.scalar(select(VPool).limit(1))
    if vpool is None:
        vpool = VPool(guid=new_guid(), name=config.vpool)
        session.add(vpool)
        await session.flush()
    if vpool.name != config.vpool:
        raise PoolError(f"this directory holds vPool {vpool.name}: leave --vpool away, or give another --data")
    return vpool


async def _storagerouter(session: AsyncSession, config: ServiceConfig) -> StorageRouter:
    router = await session.scalar(select(StorageRouter).limit(1))
    if router is None:
        name = socket.gethostname()
        router = StorageRouter(guid=new_guid(), name=name, machine_id=secrets.token_hex(8), ip="")
        session.add(router)
    router.ip = config.management_ips()[0]
    router.last_heartbeat = time.time()
    await session.flush()
    return router


async def _storagedriver(
    session: AsyncSession, config: ServiceConfig, vpool: VPool, router: StorageRouter
) -> StorageDriver:
    driver = await session.scalar(select(StorageDriver).limit(1))
    identifier = f"{vpool.name}{router.machine_id}"
    if driver is None:
        driver = StorageDriver(
            guid=new_guid(),
            name=identifier,
            vpool_guid=vpool.guid,
            storagerouter_guid=router.guid,
            storagedriver_id=identifier,
            mountpoint=f"/mnt/{vpool.name}",
        )
        session.add(driver)
    driver.cluster_ip = router.ip
    driver.storage_ip = config.edge_host
    _, port = config.endpoint()
    driver.ports = {"management": port, "xmlrpc": port, "dtl": port, "edge": config.first_port}
    driver.startup_counter = (driver.startup_counter or 0) + 1
    await session.flush()
    return driver


async def ensure_administrator(accounts: Accounts, password_file: Path) -> None:
    """Make the administrator, with a password of the file's or a new one that is written there first.

    The file comes first, so that a crash in between leaves a password that the next start uses.
    """
    if await accounts.exists(ADMINISTRATOR):
        return
    if not password_file.exists():
        write_private(password_file, secrets.token_urlsafe(PASSWORD_BYTES) + "\n")
    await accounts.create_user(ADMINISTRATOR, password_file.read_text().strip())
