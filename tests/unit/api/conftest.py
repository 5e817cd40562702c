"""The application on a real model, with operations that only remember what they were asked."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from argon2 import PasswordHasher
from fastapi import FastAPI
from tests.support.asgi import AsgiClient

from openvstorage.vpool.access import passwords
from openvstorage.vpool.access.accounts import Accounts
from openvstorage.vpool.access.limits import RateLimit
from openvstorage.vpool.access.tokens import Tokens
from openvstorage.vpool.api.app import create_app
from openvstorage.vpool.api.context import ApiContext, ApiSettings
from openvstorage.vpool.backends.base import PoolStats
from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.cluster import StorageDriver, StorageRouter, VPool
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.model.task import Task, TaskStatus
from openvstorage.vpool.model.vdisk import Snapshot, State, VDisk
from openvstorage.vpool.operations import Idempotency
from openvstorage.vpool.operations.errors import IdempotencyConflict

VPOOL = "11111111-1111-4111-8111-111111111111"
OTHER_VPOOL = "11111111-1111-4111-8111-222222222222"
NODE = "22222222-2222-4222-8222-222222222222"
OTHER_NODE = "22222222-2222-4222-8222-333333333333"
DRIVER = "33333333-3333-4333-8333-333333333333"
GIB = 1024**3
#: Hashes in microseconds: here nobody attacks them.
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class RecordingOperations:
    """Keeps tasks as the real ones do, and runs nothing."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.submitted: list[tuple[str, dict[str, Any], str | None]] = []
        self.peers: dict[str, list[tuple[str, int]]] = {}
        self.asked_stored = 0
        self.served: list[str] = []
        self.not_served: Exception | None = None

    async def submit(
        self,
        kind: str,
        args: dict[str, Any],
        *,
        vdisk_guid: str | None,
        idempotency: Idempotency | None,
        username: str | None,
    ) -> str:
        task = Task(guid=new_guid(), kind=kind, args=args, vdisk_guid=vdisk_guid, created_at=time.time())
        task.username = username
        if idempotency is not None:
            task.idempotency_key = idempotency.key
            task.request_digest = idempotency.request_digest
        async with self.database.write() as session:
            session.add(task)
        self.submitted.append((kind, args, vdisk_guid))
        return task.guid

    async def wait(self, task_guid: str, seconds: float) -> Task | None:
        deadline = time.monotonic() + seconds
        while True:
            async with self.database.read() as session:
                task = await session.get(Task, task_guid)
            if task is None or TaskStatus(task.status).ready or time.monotonic() >= deadline:
                return task
            await asyncio.sleep(0.01)

    async def finish(self, task_guid: str, status: TaskStatus, result: Any) -> None:
        async with self.database.write() as session:
            task = await session.get_one(Task, task_guid)
            task.status, task.result, task.finished_at = status, result, time.time()

    async def ensure_served(self, vdisk_guid: str) -> None:
        if self.not_served is not None:
            raise self.not_served
        self.served.append(vdisk_guid)

    async def edge_clients(self, vdisk_guid: str) -> list[tuple[str, int]]:
        return self.peers.get(vdisk_guid, [])

    async def pool_stats(self) -> PoolStats:
        return PoolStats(100 * GIB, 60 * GIB, 40 * GIB, 500 * GIB, 7, time.time() - 2)

    async def stored(self, vdisk: VDisk) -> int:
        self.asked_stored += 1
        return 4096


class ConflictingOperations(RecordingOperations):
    """Finds the key taken only when it submits, as when two requests race."""

    async def submit(self, kind: str, args: dict[str, Any], **_more: Any) -> str:
        raise IdempotencyConflict()


@pytest.fixture(autouse=True)
def _cheap_passwords(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passwords, "_hasher", CHEAP)


@pytest.fixture(scope="session")
def usual_app() -> FastAPI:
    """Made once, for it takes half a second; each test gives it its own context."""
    return create_app(cast(ApiContext, SimpleNamespace()))


@pytest.fixture(scope="session")
def filled_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a cluster and an administrator, made once and copied by each test."""
    path = tmp_path_factory.mktemp("model") / "model.sqlite3"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_hasher", CHEAP)
        asyncio.run(fill_database(path))
    return path


@pytest.fixture
async def database(filled_database: Path, tmp_path: Path) -> AsyncIterator[Database]:
    copy = shutil.copy(filled_database, tmp_path / "model.sqlite3")
    database = Database(f"sqlite+aiosqlite:///{copy}")
    yield database
    await database.close()


async def fill_database(path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{path}")
    await database.upgrade()
    async with database.write() as session:
        session.add_all([VPool(guid=VPOOL, name="myvpool01"), VPool(guid=OTHER_VPOOL, name="myvpool02")])
        session.add_all(
            [
                StorageRouter(guid=NODE, name="node1", machine_id="m1", ip="127.0.0.1"),
                StorageRouter(guid=OTHER_NODE, name="node2", machine_id="m2", ip="127.0.0.2"),
            ]
        )
        await session.flush()
        session.add(
            StorageDriver(
                guid=DRIVER,
                name="myvpool01m1",
                vpool_guid=VPOOL,
                storagerouter_guid=NODE,
                storagedriver_id="myvpool01m1",
                cluster_ip="127.0.0.1",
                storage_ip="127.0.0.1",
                ports={"management": 26200, "xmlrpc": 26201, "dtl": 26202, "edge": 26203},
                mountpoint="/mnt/myvpool01",
            )
        )
    await Accounts(database).create_user("admin", "right horse")
    await database.close()


@pytest.fixture
def operations(database: Database) -> RecordingOperations:
    return RecordingOperations(database)


AddVDisk = Callable[..., Awaitable[VDisk]]
AddSnapshot = Callable[..., Awaitable[Snapshot]]
MakeClient = Callable[..., Awaitable[AsgiClient]]


@pytest.fixture
async def make_client(database: Database, operations: RecordingOperations, usual_app: FastAPI) -> MakeClient:
    """Make a client of a new application; keyword arguments are settings."""
    accounts, tokens = Accounts(database), Tokens(database)

    async def make(scope: str | None = None, runner: RecordingOperations | None = None, **chosen: Any) -> AsgiClient:
        settings = ApiSettings(**{"cluster_id": "c1", "token_limit": RateLimit(0), **chosen})
        context = ApiContext(database, runner or operations, accounts, tokens, settings)
        app = create_app(context) if chosen else usual_app
        app.state.context = context
        issued = await tokens.issue(await accounts.by_password("admin", "right horse"), scope)
        return AsgiClient(app, issued.access_token)

    return make


@pytest.fixture
async def client(make_client: MakeClient) -> AsgiClient:
    return await make_client()


@pytest.fixture
def add_vdisk(database: Database) -> Callable[..., Awaitable[VDisk]]:
    """Put a ready vDisk into the model."""

    async def add(name: str, **values: Any) -> VDisk:
        vdisk = VDisk(
            **{
                "guid": new_guid(),
                "vpool_guid": VPOOL,
                "name": name,
                "description": name,
                "devicename": f"/{name}.raw",
                "size": GIB,
                "volume_id": new_guid(),
                "state": State.READY,
                "owner_guid": NODE,
                "created_at": time.time(),
                **values,
            }
        )
        async with database.write() as session:
            session.add(vdisk)
        return vdisk

    return add


@pytest.fixture
def add_snapshot(database: Database) -> Callable[..., Awaitable[Snapshot]]:
    """Put a ready snapshot into the model."""

    async def add(vdisk: VDisk, ordinal: int, **values: Any) -> Snapshot:
        snapshot = Snapshot(
            **{
                "guid": new_guid(),
                "vdisk_guid": vdisk.guid,
                "ordinal": ordinal,
                "label": f"s{ordinal}",
                "timestamp": 1_700_000_000 + ordinal,
                "size": vdisk.size,
                "state": State.READY,
                **values,
            }
        )
        async with database.write() as session:
            session.add(snapshot)
        return snapshot

    return add
