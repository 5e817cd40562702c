"""The migrations make exactly the schema that the classes describe, on both databases."""

from __future__ import annotations

from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.schema import ForeignKeyConstraint

from openvstorage.vpool.model.database import Database, alembic_config
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
