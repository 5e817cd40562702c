"""What the known clients of Open vStorage send, byte for byte, against the real service."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from sqlalchemy import select
from tests.support import golden
from tests.support.vpool_service import VpoolService

from openvstorage.vpool.access.accounts import Accounts, NewClient
from openvstorage.vpool.model.cluster import StorageRouter
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.pool import PoolDirectory


async def beside_the_service(data: Path) -> tuple[NewClient, str]:
    """Make an OAuth2 client, for which there is no call, and find the node."""
    database = Database(PoolDirectory(data.resolve()).database_url())
    try:
        oauth = await Accounts(database).create_client("admin", "golden")
        async with database.read() as session:
            return oauth, (await session.scalars(select(StorageRouter.guid))).one()
    finally:
        await database.close()


@pytest.fixture(scope="module")
def values(vpool_service: VpoolService) -> Mapping[str, str]:
    status = vpool_service.status
    oauth, router = asyncio.run(beside_the_service(vpool_service.data))
    return {
        "form_username": quote_plus(status["username"]),
        "form_password": quote_plus(Path(status["password_file"]).read_text().strip()),
        "basic": base64.b64encode(f"{oauth.guid}:{oauth.secret}".encode()).decode(),
        "vpool_guid": status["vpool_guid"],
        "storagerouter_guid": router,
    }


@pytest.mark.parametrize("story", golden.stories())
def test_story(vpool_service: VpoolService, values: Mapping[str, str], story: str) -> None:
    status = vpool_service.status
    send = golden.https_sender(status["management_ips"][0], status["port"], status["ca_file"])
    golden.replay(story, send, values)
