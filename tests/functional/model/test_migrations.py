"""The migrations make exactly the schema that the classes describe, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.schema import ForeignKeyConstraint

from openvstorage.vpool.model.database import Database, NewerSchema, alembic_config
from openvstorage.vpool.model.export import Export, Grant
from openvstorage.vpool.model.tables import Base
from openvstorage.vpool.model.task import Task

#: The schema of the first versions, whose databases are still about.
FIRST = "0001"


def differences(connection: Connection) -> Any:
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return compare_metadata(context, Base.metadata)


def foreign_keys(connection: Connection) -> set[tuple[Any, ...]]:
    found = set()
    for table in inspect(connection).get_table_names():
        for key in inspect(connection).get_foreign_keys(table):
            columns, referred = tuple(key["constrained_columns"]), key["referred_table"]
            found.add((table, columns, referred, key["options"].get("ondelete"), key["name"]))
    return found


def described_foreign_keys() -> set[tuple[Any, ...]]:
    return {
        (table.name, tuple(key.column_keys), key.referred_table.name, key.ondelete, key.name)
        for table in Base.metadata.tables.values()
        for key in table.constraints
        if isinstance(key, ForeignKeyConstraint)
    }


async def test_migrated_schema_is_the_described_one(database: Database) -> None:
    async with database.write() as session:
        connection = await session.connection()
        assert await connection.run_sync(differences) == []
        assert await connection.run_sync(foreign_keys) == described_foreign_keys()


async def test_second_upgrade_changes_nothing(database: Database) -> None:
    await database.upgrade()
    async with database.read() as session:
        assert await (await session.connection()).run_sync(differences) == []


async def test_schema_of_a_later_version_is_refused_in_words(database: Database) -> None:
    async with database.write() as session:
        await session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(NewerSchema, match="a later version of openvstorage"):
        await database.upgrade()


async def test_exports_and_grants_of_the_first_schema_stay_where_they_are(url: str) -> None:
    database = Database(url)
    try:
        async with database.write() as session:
            connection = await session.connection()
            await connection.run_sync(lambda bound: command.upgrade(alembic_config(bound), FIRST))
            for statement in _FIRST_ROWS:
                await session.execute(text(statement))
        await database.upgrade()
        async with database.read() as session:
            assert await (await session.connection()).run_sync(differences) == []
            running, dead = await session.get_one(Export, "v1"), await session.get_one(Export, "v2")
            grant = await session.get_one(Grant, "g")
        assert (running.vdisk_guid, running.kind, running.port, running.pid) == ("v1", "head", 26500, 7)
        assert (running.durability, running.unclean, dead.unclean) == (None, True, False)
        assert (grant.export_guid, grant.export_name, grant.cut_off_at) == ("v1", "e", None)
    finally:
        await database.close()


_FIRST_ROWS = (
    "INSERT INTO storagerouter (guid, name, machine_id, ip, node_type) VALUES ('n', 'n', 'm', '127.0.0.1', 'MASTER')",
    "INSERT INTO vpool (guid, name, status, backend) VALUES ('p', 'p', 'RUNNING', 'layers')",
    "INSERT INTO vdisk (guid, vpool_guid, name, devicename, size, volume_id, state, is_vtemplate, written, shared, "
    "owner_epoch, row_version, qos, config, metadata, pagecache_ratio, has_manual_dtl, created_at) VALUES "
    "('v1', 'p', 'v', '/v.raw', 512, 'i', 'ready', false, false, false, 1, 1, '{}', '{}', '{}', 1.0, false, 1.0)",
    "INSERT INTO export (vdisk_guid, node_guid, address, port, epoch, pid, start_time, boot_id) VALUES "
    "('v1', 'n', '127.0.0.1', 26500, 1, 7, 7, 'b'), ('v2', 'n', '127.0.0.1', 26501, 1, NULL, NULL, NULL)",
    'INSERT INTO "grant" (guid, vdisk_guid, client, consumer, mode, identity, export_name, state, created_at) VALUES '
    "('g', 'v1', 'h', 'c', 'ro', 'i', 'e', 'granted', 1.0)",
)


async def test_failed_task_of_the_first_schema_keeps_its_sentence(url: str) -> None:
    database = Database(url)
    try:
        async with database.write() as session:
            connection = await session.connection()
            await connection.run_sync(lambda bound: command.upgrade(alembic_config(bound), FIRST))
            await session.execute(
                text(
                    "INSERT INTO task (guid, kind, args, status, result, created_at, finished_at) "
                    "VALUES ('t', 'vdisk.create', '{}', 'FAILURE', '\"the disk was full\"', 1.0, 2.0)"
                )
            )
        await database.upgrade()
        async with database.read() as session:
            assert await (await session.connection()).run_sync(differences) == []
            task = await session.get_one(Task, "t")
        assert (task.result, task.error_code) == ("the disk was full", None)
    finally:
        await database.close()
