"""What the known clients of Open vStorage send, byte for byte, against the real service on both databases."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from sqlalchemy import select
from tests.support import golden
from tests.support.postgres import PostgresServer, programs
from tests.support.vpool_service import VpoolService

from openvstorage.vpool.access.accounts import Accounts, NewClient
from openvstorage.vpool.model.cluster import StorageRouter
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.pool import PoolDirectory


@dataclass(frozen=True)
class Served:
    """A service, and what stands for the names in the stories."""

    service: VpoolService
    values: dict[str, str]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A service of its own: stories expect to be alone in their vPool."""
    data = tmp_path_factory.mktemp("golden") / "data"
    with contextlib.ExitStack() as stack:
        url = PoolDirectory(data).database_url()
        if request.param == "postgresql":
            if programs() is None:
                pytest.skip("needs Debian's package postgresql")
            url = stack.enter_context(PostgresServer()).new_database()
            data.mkdir(mode=0o700)
            (data / "config.json").write_text(json.dumps({"database": url}))
        service = stack.enter_context(VpoolService(data))
        status = service.status
        oauth, router = asyncio.run(beside_the_service(url))
        values = {
            "form_username": quote_plus(status["username"]),
            "form_password": quote_plus(Path(status["password_file"]).read_text().strip()),
            "basic": base64.b64encode(f"{oauth.guid}:{oauth.secret}".encode()).decode(),
            "vpool_guid": status["vpool_guid"],
            "storagerouter_guid": router,
        }
        yield Served(service, values)


async def beside_the_service(url: str) -> tuple[NewClient, str]:
    """Make an OAuth2 client, for which there is no call, and find the node."""
    database = Database(url)
    try:
        oauth = await Accounts(database).create_client("admin", "golden")
        async with database.read() as session:
            return oauth, (await session.scalars(select(StorageRouter.guid))).one()
    finally:
        await database.close()


@pytest.mark.parametrize("story", golden.stories())
def test_story(served: Served, story: str) -> None:
    status = served.service.status
    send = golden.https_sender(status["management_ips"][0], status["port"], status["ca_file"])
    golden.replay(story, send, served.values)
