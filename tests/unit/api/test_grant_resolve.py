"""Where a grant is served now: asked for with the grant's secret, by a host that has no account."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.support.asgi import AsgiClient

from openvstorage.vpool.access.grant_secrets import GrantSecrets
from openvstorage.vpool.access.limits import RateLimit
from openvstorage.vpool.exports.errors import ExportsError
from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.cluster import StorageRouter
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.model.export import Export, Grant
from openvstorage.vpool.model.task import TaskStatus
from openvstorage.vpool.model.vdisk import VDisk

GIB = 1024**3


@pytest.fixture
def make_grant(database: Database, add_vdisk: Callable[..., Awaitable[VDisk]]) -> Callable[..., Awaitable[Grant]]:
    async def make(port: int = 26300, **values: Any) -> Grant:
        vdisk = await add_vdisk(f"disk{port}")
        grant = Grant(
            **{
                "guid": new_guid(),
                "vdisk_guid": vdisk.guid,
                "export_guid": vdisk.guid,
                "client": "compute1",
                "consumer": "instance-1",
                "mode": "rw",
                "identity": f"i{port}",
                "export_name": f"export{port}",
                "state": "granted",
                "created_at": time.time(),
                **values,
            }
        )
        async with database.write() as session:
            node = (await session.get_one(StorageRouter, vdisk.owner_guid)).guid
            session.add_all(
                [
                    grant,
                    Export(
                        guid=vdisk.guid,
                        vdisk_guid=vdisk.guid,
                        kind="head",
                        node_guid=node,
                        address="127.0.0.1",
                        port=port,
                    ),
                ]
            )
        return grant

    return make


async def resolve(client: AsgiClient, grant: str, secret: str | None) -> Any:
    headers = {"authorization": f"Grant {secret}" if secret is not None else ""}
    return await client("POST", f"/api/grants/{grant}/resolve/", headers=headers)


async def test_secret_gives_the_location_once_the_vdisk_is_served(client, database, operations, make_grant) -> None:
    grant = await make_grant()
    answer = await resolve(client, grant.guid, await GrantSecrets(database).of(grant.guid))
    assert answer.status == 200
    assert answer.json() == {
        "guid": grant.guid,
        "mode": "rw",
        "state": "granted",
        "export_name": "export26300",
        "host": "127.0.0.1",
        "port": 26300,
        "tls": False,
        "size": GIB,
    }
    assert operations.served == [grant.vdisk_guid]


async def test_secret_of_another_grant_opens_nothing(client, database, operations, make_grant) -> None:
    grant, other = await make_grant(), await make_grant(26301)
    answer = await resolve(client, grant.guid, await GrantSecrets(database).of(other.guid))
    assert (answer.status, answer.json()["error"]) == (401, "invalid_secret")
    assert operations.served == []


async def test_secret_opens_no_other_call(client, database, make_grant) -> None:
    grant = await make_grant()
    secret = await GrantSecrets(database).of(grant.guid)
    for scheme in ("Grant", "Bearer"):
        answer = await client("GET", f"/api/grants/{grant.guid}/", headers={"authorization": f"{scheme} {secret}"})
        assert answer.status == 401


@pytest.mark.parametrize(
    ("header", "status"), [("", 403), ("Bearer token", 401), ("Grant", 401), ("Grant \xff", 401), ("Grant x y", 401)]
)
async def test_anything_but_the_secret_is_refused(client, operations, make_grant, header: str, status: int) -> None:
    grant = await make_grant()
    answer = await client("POST", f"/api/grants/{grant.guid}/resolve/", headers={"authorization": header})
    assert answer.status == status
    assert operations.served == []


async def test_revoked_grant_is_not_found(client, database, operations, make_grant) -> None:
    gone = new_guid()
    revoking = await make_grant(state="revoking")
    for guid in (gone, revoking.guid):
        answer = await resolve(client, guid, await GrantSecrets(database).of(guid))
        assert (answer.status, answer.json()["error"]) == (404, "object_not_found")
    assert operations.served == []


async def test_vdisk_that_can_not_be_served_is_told_as_temporary(client, database, operations, make_grant) -> None:
    grant = await make_grant()
    operations.not_served = ExportsError(reason="no daemon starts")
    answer = await resolve(client, grant.guid, await GrantSecrets(database).of(grant.guid))
    assert (answer.status, answer.json()["error"]) == (503, "not_served")


async def test_calls_are_limited_by_address(make_client, database, make_grant) -> None:
    client = await make_client(resolve_limit=RateLimit(calls=2))
    grant = await make_grant()
    secret = await GrantSecrets(database).of(grant.guid)
    assert [(await resolve(client, grant.guid, secret)).status for _ in range(3)] == [200, 200, 429]


async def test_secret_is_told_to_whoever_made_the_grant_and_kept_nowhere(
    client, database, operations, make_grant
) -> None:
    grant = await make_grant()
    task = await operations.submit("grant.create", {}, vdisk_guid=grant.vdisk_guid, idempotency=None, username="admin")
    await operations.finish(task, TaskStatus.SUCCESS, {"guid": grant.guid})
    secret = await GrantSecrets(database).of(grant.guid)
    assert len(secret) == 43
    told = {"guid": grant.guid, "secret": secret}
    assert (await client("GET", f"/api/tasks/{task}/")).json()["result"] == told
    assert (await client("GET", f"/api/tasks/{task}/get/")).json() == told
    assert (await operations.wait(task, 0)).result == {"guid": grant.guid}
    shown = await client("GET", f"/api/grants/{grant.guid}/")
    listed = await client("GET", "/api/grants/?contents=")
    assert secret not in (shown.body + listed.body).decode()


async def test_all_nodes_of_a_pool_agree_on_secrets(database) -> None:
    guid = new_guid()
    assert await GrantSecrets(database).of(guid) == await GrantSecrets(database).of(guid)
    assert await GrantSecrets(database).of(guid) != await GrantSecrets(database).of(new_guid())
