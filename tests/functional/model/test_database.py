"""Transactions: one writer at a time, all or nothing, and references that hold, on both databases."""

from __future__ import annotations

import asyncio
import time

import pytest
from sqlalchemy import delete, select
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.orm.exc import StaleDataError

from openvstorage.vpool.model.cluster import Setting, VPool
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.model.export import Grant
from openvstorage.vpool.model.task import Task
from openvstorage.vpool.model.vdisk import MAX_SIZE, Snapshot, State, VDisk


def vdisk(pool: VPool, name: str, **values: object) -> VDisk:
    return VDisk(
        **{
            "vpool_guid": pool.guid,
            "name": name,
            "devicename": f"/{name}.raw",
            "size": 1024,
            "created_at": time.time(),
            **values,
        }
    )


@pytest.fixture
async def pool(database: Database) -> VPool:
    pool = VPool(name="pool")
    async with database.write() as session:
        session.add(pool)
    return pool


async def test_failed_transaction_leaves_nothing(database: Database) -> None:
    async def fail() -> None:
        async with database.write() as session:
            session.add(Setting(name="a", value=1))
            await session.flush()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with database.read() as session:
        assert await session.get(Setting, "a") is None


async def test_writers_wait_for_each_other(database: Database) -> None:
    async with database.write() as session:
        session.add(Setting(name="count", value=0))

    async def add_one() -> None:
        async with database.write() as session:
            setting = await session.get_one(Setting, "count")
            value = setting.value
            await asyncio.sleep(0)  # lets the others in, if they could come in
            setting.value = value + 1

    await asyncio.gather(*(add_one() for _ in range(20)))
    async with database.read() as session:
        assert (await session.get_one(Setting, "count")).value == 20


async def test_writers_of_two_processes_never_lose_a_change(database: Database, url: str) -> None:
    """Two Database objects share no lock in memory: the database itself keeps them apart, or refuses one."""
    await _set(database, "count")
    other = Database(url)

    async def add_one(through: Database) -> int:
        try:
            async with through.write() as session:
                setting = await session.get_one(Setting, "count")
                value = setting.value
                await asyncio.sleep(0.01)
                setting.value = value + 1
        except DBAPIError:  # PostgreSQL: could not serialise; nothing was changed
            return 0
        return 1

    try:
        added = sum(await asyncio.gather(*(add_one(through) for through in [database, other] * 5)))
    finally:
        await other.close()
    async with database.read() as session:
        assert (await session.get_one(Setting, "count")).value == 1 + added
    assert added == 10 or database.url.get_backend_name() != "sqlite"


async def _set(database: Database, name: str) -> None:
    async with database.write() as session:
        session.add(Setting(name=name, value=1))


async def test_reader_sees_one_instant(database: Database) -> None:
    async with database.read() as session:
        assert await session.get(Setting, "a") is None
        await _set(database, "a")
        session.expire_all()
        assert (await session.execute(select(Setting))).all() == []
    async with database.read() as session:
        assert await session.get(Setting, "a") is not None


async def test_what_a_reader_changes_is_not_kept(database: Database) -> None:
    await _set(database, "a")
    async with database.read() as session:
        (await session.get_one(Setting, "a")).value = 2
    async with database.read() as session:
        assert (await session.get_one(Setting, "a")).value == 1


async def test_largest_vdisk_fits(database: Database, pool: VPool) -> None:
    async with database.write() as session:
        session.add(vdisk(pool, "a", size=MAX_SIZE))
    async with database.read() as session:
        assert (await session.scalars(select(VDisk.size))).one() == MAX_SIZE


async def test_device_name_is_unique_in_its_pool(database: Database, pool: VPool) -> None:
    other = VPool(name="other")
    async with database.write() as session:
        session.add_all([vdisk(pool, "a"), other])
        await session.flush()
        session.add(vdisk(other, "a"))
    with pytest.raises(IntegrityError):
        async with database.write() as session:
            session.add(vdisk(pool, "a"))


async def test_idempotency_key_is_unique_for_its_user(database: Database) -> None:
    def task(username: str | None, key: str | None) -> Task:
        return Task(kind="k", args={}, username=username, idempotency_key=key, created_at=1.0)

    async with database.write() as session:
        session.add_all([task("a", "k"), task("b", "k"), task(None, None), task(None, None)])
    with pytest.raises(IntegrityError):
        async with database.write() as session:
            session.add(task("a", "k"))


async def test_references_must_exist(database: Database) -> None:
    with pytest.raises(IntegrityError):
        async with database.write() as session:
            session.add(vdisk(VPool(guid="no such pool"), "a"))


async def test_deleted_parents_leave_their_children(database: Database, pool: VPool) -> None:
    parent, child = vdisk(pool, "parent"), vdisk(pool, "child")
    async with database.write() as session:
        session.add_all([parent, child])
        await session.flush()
        snapshot = Snapshot(vdisk_guid=parent.guid, ordinal=1, timestamp=1, size=1024, state=State.READY)
        session.add(snapshot)
        await session.flush()
        child.parent_vdisk_guid, child.parent_snapshot_guid = parent.guid, snapshot.guid
        grant = Grant(
            vdisk_guid=parent.guid,
            export_guid=parent.guid,
            client="h",
            consumer="c",
            mode="rw",
            identity="i",
            export_name="e",
            created_at=1.0,
        )
        session.add(grant)
    async with database.write() as session:
        await session.execute(delete(VDisk).where(VDisk.guid == parent.guid))
    async with database.read() as session:
        left = await session.get_one(VDisk, child.guid)
        assert (left.parent_vdisk_guid, left.parent_snapshot_guid) == (None, None)
        assert (await session.execute(select(Snapshot))).all() == []
        assert (await session.execute(select(Grant))).all() == []


async def test_stale_writer_is_refused(database: Database, pool: VPool) -> None:
    row = vdisk(pool, "a")
    async with database.write() as session:
        session.add(row)
    guid = row.guid
    async with database.write() as session:
        (await session.get_one(VDisk, guid)).size = 2048
    row.size = 4096  # of a session that has ended: knows the first version only
    with pytest.raises(StaleDataError):
        async with database.write() as session:
            session.add(row)
    async with database.read() as session:
        assert (await session.get_one(VDisk, guid)).size == 2048
