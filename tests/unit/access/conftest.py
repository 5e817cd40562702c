"""A model in a file of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from openvstorage.vpool.access import passwords
from openvstorage.vpool.access.accounts import Accounts
from openvstorage.vpool.model.database import Database


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/model.sqlite3")
    await database.upgrade()
    yield database
    await database.close()


@pytest.fixture
async def accounts(database: Database, monkeypatch: pytest.MonkeyPatch) -> Accounts:
    # Hashes in microseconds: here nobody attacks them.
    monkeypatch.setattr(passwords, "_hasher", PasswordHasher(time_cost=1, memory_cost=8, parallelism=1))
    accounts = Accounts(database)
    await accounts.create_user("admin", "right horse")
    return accounts
