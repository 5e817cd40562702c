"""The database: one writer at a time, many readers, the same code on SQLite and PostgreSQL.

A write transaction is serialisable on both. On SQLite it starts with ``BEGIN IMMEDIATE`` (SQLAlchemy would emit no
``BEGIN`` before the first change, so that what was read could be stale), in WAL mode with ``synchronous=FULL``:
committed means on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, event
from sqlalchemy.engine import URL, make_url
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

MIGRATIONS = Path(__file__).parent / "migrations"
BUSY_TIMEOUT_MS = 30_000


class NewerSchema(Exception):
    """The database is of a later version than this one; the text says what to do."""


class Database:
    """Sessions on one database.

    :param url: SQLAlchemy URL with an async driver, such as ``sqlite+aiosqlite:////data/model.sqlite3`` or
        ``postgresql+asyncpg://user@host/name``.
    """

    def __init__(self, url: str | URL) -> None:
        self.url = make_url(url)
        self._write_lock = asyncio.Lock()
        if self.url.get_backend_name() == "sqlite":
            self._writer = _sqlite_engine(url, begin="BEGIN IMMEDIATE", size=1)
            self._reader = _sqlite_engine(url, begin="BEGIN", size=4)
        else:
            self._writer = create_async_engine(url, isolation_level="SERIALIZABLE", pool_pre_ping=True)
            self._reader = create_async_engine(url, isolation_level="REPEATABLE READ", pool_pre_ping=True)

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncSession]:
        """One write transaction: committed when the block ends, rolled back when it raises.

        Waits for the writer before it. Keep it short: nothing but database work belongs inside.
        """
        async with (
            self._write_lock,
            AsyncSession(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncSession]:
        """A consistent view for reading; what is changed in it is not kept."""
        async with AsyncSession(self._reader, expire_on_commit=False) as session:
            yield session

    async def upgrade(self) -> None:
        """Bring the schema to the newest version; does nothing when it is there already.

        :raises NewerSchema: a later version of this service made it; nothing was changed.
        """
        async with self._writer.connect() as connection:
            await connection.run_sync(_migrate)
            await connection.commit()

    async def close(self) -> None:
        """Close all connections."""
        await self._reader.dispose()
        await self._writer.dispose()


def alembic_config(connection: Connection | None = None) -> Config:
    """:returns: Alembic's configuration for our migrations, bound to a connection if one is given."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


def _migrate(connection: Connection) -> None:
    present = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if present is not None and present not in known:
        raise NewerSchema(
            f"the database was made by a later version of openvstorage (schema {present}): install that version again, "
            "or put back a copy of the whole directory from before its first start"
        )
    command.upgrade(alembic_config(connection), "head")


def _sqlite_engine(url: str | URL, *, begin: str, size: int) -> AsyncEngine:
    engine = create_async_engine(url, poolclass=AsyncAdaptedQueuePool, pool_size=size, max_overflow=0, pool_timeout=60)

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: Any) -> None:
        connection.isolation_level = None  # no BEGIN by the driver: ours follows below
        cursor = connection.cursor()
        for pragma in (
            f"busy_timeout={BUSY_TIMEOUT_MS}",
            "journal_mode=WAL",
            "synchronous=FULL",
            "foreign_keys=ON",
        ):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def start(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
