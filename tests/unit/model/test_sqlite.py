"""SQLite is set up so that committed means on disk."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from openvstorage.vpool.model.database import Database


async def test_every_connection_is_durable_and_checks_references(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/model.sqlite3")
    await database.upgrade()
    for session_of in (database.read, database.write):
        async with session_of() as session:
            connection = await session.connection()
            found = {
                name: (await connection.exec_driver_sql(f"PRAGMA {name}")).scalar()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            }
        assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}
    await database.close()


async def test_write_takes_the_lock_before_it_reads(tmp_path: Path) -> None:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/model.sqlite3")
    await database.upgrade()
    other = sqlite3.connect(tmp_path / "model.sqlite3", timeout=0, isolation_level=None)
    async with database.write() as session:
        await session.connection()
        try:
            other.execute("BEGIN IMMEDIATE")
            locked = False
        except sqlite3.OperationalError:
            locked = True
    assert locked, "another process could write in the middle of a transaction"
    other.execute("BEGIN IMMEDIATE")
    other.close()
    await database.close()
