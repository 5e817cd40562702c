"""Who may call what, over every endpoint that there is, and what those who may only look do not see.

A new endpoint has to say in the table whom it lets in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from tests.support.asgi import AsgiClient
from tests.unit.api.conftest import DRIVER, NODE, VPOOL, AddSnapshot, AddVDisk, MakeClient, RecordingOperations

from openvstorage.vpool.access.accounts import Accounts
from openvstorage.vpool.access.grant_secrets import GrantSecrets
from openvstorage.vpool.access.secrets import digest
from openvstorage.vpool.access.tokens import Tokens
from openvstorage.vpool.api import metrics
from openvstorage.vpool.api.app import RESOURCES
from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.model.export import Export, Grant
from openvstorage.vpool.model.task import TaskStatus

ANYBODY = "anybody"
GRANT_SECRET = "the secret of a grant"
LOOK, LIST, CHANGE, MANAGE = "read", "read manage", "read write", "read write manage"

#: Every endpoint with the roles it needs, all of them; or what else lets a caller in.
ENDPOINTS: dict[str, str] = {
    "GET /api/": ANYBODY,
    "GET /api/openapi.json": ANYBODY,
    "GET /api/swagger.json": ANYBODY,
    "POST /api/oauth2/token": ANYBODY,
    "POST /api/oauth2/token/": ANYBODY,
    "GET /metrics": LOOK,
    "GET /api/vdisks/": LIST,
    "POST /api/vdisks/": CHANGE,
    "GET /api/vdisks/{vdisk_guid}/": LIST,
    "DELETE /api/vdisks/{vdisk_guid}/": CHANGE,
    **{
        f"POST /api/vdisks/{{vdisk_guid}}/{action}/": CHANGE
        for action in (
            "delete",
            "delete_vtemplate",
            "clone",
            "create_from_template",
            "create_snapshot",
            "remove_snapshot",
            "rollback",
            "set_as_template",
            "move",
            "set_durability",
            "set_qos",
            "schedule_backend_sync",
            "is_volume_synced_up_to_tlog",
            "is_volume_synced_up_to_snapshot",
        )
    },
    **{
        f"POST /api/vdisks/{{vdisk_guid}}/{action}/": MANAGE
        for action in ("extend", "restart", "set_config_params", "scrub")
    },
    "GET /api/vdisks/{vdisk_guid}/get_config_params/": LOOK,
    "GET /api/vdisks/{vdisk_guid}/get_children/": LOOK,
    "GET /api/vdisks/{vdisk_guid}/get_target_storagerouters/": LIST,
    "GET /api/vdisks/{vdisk_guid}/get_scrub_storagerouters/": MANAGE,
    "GET /api/vpools/": LIST,
    "GET /api/vpools/{vpool_guid}/": LIST,
    "GET /api/vpools/{vpool_guid}/capacity/": LOOK,
    "GET /api/vpools/{vpool_guid}/storagerouters/": LOOK,
    "GET /api/vpools/{vpool_guid}/available_storagerouters/": LOOK,
    "GET /api/vpools/{vpool_guid}/devicename_exists/": LOOK,
    "POST /api/vpools/{vpool_guid}/create_snapshots/": CHANGE,
    "POST /api/vpools/{vpool_guid}/remove_snapshots/": CHANGE,
    "POST /api/vpools/{vpool_guid}/sync_with_reality/": MANAGE,
    "POST /api/vpools/{vpool_guid}/scrub_all_vdisks/": MANAGE,
    "POST /api/vpools/{vpool_guid}/scrub_multiple_vdisks/": MANAGE,
    "POST /api/vpools/{vpool_guid}/shrink_vpool/": MANAGE,
    "GET /api/storagerouters/": LIST,
    "GET /api/storagerouters/{storagerouter_guid}/": LIST,
    "GET /api/storagedrivers/": LOOK,
    "GET /api/storagedrivers/{storagedriver_guid}/": LOOK,
    "GET /api/domains/": LOOK,
    "GET /api/domains/{domain_guid}/": LOOK,
    "GET /api/grants/": LIST,
    "POST /api/grants/": CHANGE,
    "GET /api/grants/{grant_guid}/": LOOK,
    "DELETE /api/grants/{grant_guid}/": CHANGE,
    "POST /api/grants/{grant_guid}/revoke/": CHANGE,
    "POST /api/grants/{grant_guid}/resolve/": GRANT_SECRET,
    "GET /api/tasks/": LOOK,
    "GET /api/tasks/{task_id}/": LOOK,
    "GET /api/tasks/{task_id}/get/": LOOK,
}
BY_ROLES = [endpoint for endpoint, needs in ENDPOINTS.items() if needs not in (ANYBODY, GRANT_SECRET)]


def endpoints(app: FastAPI) -> Iterator[str]:
    """Give every endpoint of the application, those included that its document does not tell of."""
    routes = [(f"/api{route.path}", route) for resource in RESOURCES for route in resource.router.routes]  # type: ignore[attr-defined]
    routes += [(route.path, route) for route in metrics.router.routes]  # type: ignore[attr-defined]
    routes += [(route.path, route) for route in app.routes if hasattr(route, "path")]
    for path, route in routes:
        methods = route.methods if isinstance(route, APIRoute) else {"GET"}
        yield from (f"{method} {path}" for method in methods - {"HEAD"})


@dataclass(frozen=True)
class World:
    """A model with something of each kind in it, made by the user ``admin``.

    :ivar paths: what stands for the parts of a path.
    :ivar secrets: what nobody is shown but who made it, by name.
    :ivar opens: what opens an export, for who may make grants.
    """

    paths: dict[str, str]
    secrets: dict[str, str]
    opens: dict[str, str]

    def path(self, endpoint: str) -> str:
        return re.sub(r"{(\w+)}", lambda part: self.paths[part[1]], endpoint.partition(" ")[2])


@pytest.fixture
async def world(
    database: Database, operations: RecordingOperations, add_vdisk: AddVDisk, add_snapshot: AddSnapshot
) -> World:
    accounts, tokens = Accounts(database), Tokens(database)
    vdisk, snapshot = await add_vdisk("a"), new_guid()
    await add_snapshot(vdisk, 1, guid=snapshot)
    grant = {"guid": new_guid(), "vdisk_guid": vdisk.guid, "export_name": "export-of-a"}
    about = {"client": "h", "consumer": "c", "mode": "rw", "identity": "i", "state": "granted", "created_at": 0.0}
    async with database.write() as session:
        session.add(Grant(**grant, **about, export_guid=vdisk.guid))
        served = {"kind": "head", "node_guid": NODE, "address": "127.0.0.1", "port": 26300}
        session.add(Export(guid=vdisk.guid, vdisk_guid=vdisk.guid, **served))
    keyed = {"idempotency": None, "username": "admin"}
    task = await operations.submit("grant.create", {"argument": "args-of-a-task"}, vdisk_guid=vdisk.guid, **keyed)
    described = {**grant, "uri": "nbd://127.0.0.1:26300/export-of-a"}
    await operations.finish(task, TaskStatus.SUCCESS, described)
    issued = (await tokens.issue(await accounts.by_password("admin", "right horse"))).access_token
    client = await accounts.create_client("admin", "prometheus")
    secrets = {
        "grant's": await GrantSecrets(database).of(grant["guid"]),
        "token": issued,
        "token's digest": digest(issued),
        "client's": client.secret,
        "password hash": "$argon2",
        "arguments": "args-of-a-task",
    }
    paths = {
        "vdisk_guid": vdisk.guid,
        "vpool_guid": VPOOL,
        "storagerouter_guid": NODE,
        "storagedriver_guid": DRIVER,
        "domain_guid": new_guid(),
        "grant_guid": grant["guid"],
        "task_id": task,
    }
    return World(paths, secrets, {"export name": "export-of-a"})


@pytest.fixture
async def other(make_client: MakeClient, database: Database) -> AsgiClient:
    """A second administrator."""
    app = (await make_client()).app
    accounts = Accounts(database)
    await accounts.create_user("other", "pw")
    return AsgiClient(app, (await Tokens(database).issue(await accounts.by_password("other", "pw"))).access_token)


def test_every_endpoint_says_whom_it_lets_in(usual_app: FastAPI) -> None:
    assert set(endpoints(usual_app)) == set(ENDPOINTS)


@pytest.mark.parametrize("endpoint", BY_ROLES)
async def test_call_needs_its_roles(make_client: MakeClient, world: World, endpoint: str) -> None:
    method, path, roles = endpoint.split()[0], world.path(endpoint), ENDPOINTS[endpoint]
    enough = await (await make_client(roles))(method, path)
    assert enough.status not in (401, 403)
    for left_out in roles.split():
        held = " ".join(role for role in ("read", "write", "manage") if role != left_out)
        answer = await (await make_client(held))(method, path)
        assert (answer.status, answer.json()["error"]) == (403, "invalid_roles"), left_out
    nobody = await make_client()
    nobody.token = None
    assert (await nobody(method, path)).status == 403


@pytest.mark.parametrize("roles", ["read", "read manage"])
async def test_who_may_only_look_changes_nothing(
    make_client: MakeClient, world: World, operations: RecordingOperations, roles: str
) -> None:
    client = await make_client(roles)
    operations.submitted.clear()
    for endpoint, needs in ENDPOINTS.items():
        if not endpoint.startswith("GET") and needs != ANYBODY:
            assert (await client(endpoint.split()[0], world.path(endpoint))).status in (401, 403), endpoint
    assert operations.submitted == []


@pytest.mark.parametrize("roles", ["read", "read manage", "read write manage"])
async def test_nobody_is_shown_more_than_is_theirs(
    make_client: MakeClient, other: AsgiClient, database: Database, world: World, roles: str
) -> None:
    """A caller with another name, and with each choice of roles; every answer, with everything that it can hold."""
    accounts = Accounts(database)
    issued = await Tokens(database).issue(await accounts.by_password("other", "pw"), roles)
    client = AsgiClient(other.app, issued.access_token)
    hidden = world.secrets | ({} if "write" in roles else world.opens)
    seen = 0
    for endpoint, needs in ENDPOINTS.items():
        if endpoint.startswith("GET"):
            answer = await client("GET", f"{world.path(endpoint)}?contents=_dynamics,_relations&name=x")
            body = answer.body.decode()
            assert [name for name, value in hidden.items() if value in body] == [], endpoint
            seen += answer.status == 200 and needs != ANYBODY
    assert seen >= 8


async def test_a_token_for_looking_is_not_told_the_secrets_of_its_own_user(
    make_client: MakeClient, world: World
) -> None:
    for roles, told in (("read", False), ("read write", True)):
        client = await make_client(roles)
        for path in ("/api/tasks/{task_id}/", "/api/tasks/{task_id}/get/"):
            answer = (await client("GET", world.path("GET " + path))).body.decode()
            assert (world.secrets["grant's"] in answer) is told
            assert ("export-of-a" in answer) is told


async def test_the_name_of_an_export_can_not_be_asked_for_bit_by_bit(make_client: MakeClient, world: World) -> None:
    for roles, status in (("read manage", 400), ("read write manage", 200)):
        client = await make_client(roles)
        for operator, value in (("EQUALS", "export-of-a"), ("CONTAINS", "e"), ("GT", "a")):
            query = json.dumps({"type": "AND", "items": [["export_name", operator, value]]})
            assert (await client("GET", f"/api/grants/?query={query}")).status == status
        assert (await client("GET", "/api/grants/?sort=export_name")).status == status


async def test_keys_of_others_name_nothing_of_theirs(
    make_client: MakeClient, other: AsgiClient, world: World, operations: RecordingOperations
) -> None:
    keyed: dict[str, Any] = {"json_body": {"name": "s"}, "headers": {"idempotency-key": "k"}}
    path = world.path("POST /api/vdisks/{vdisk_guid}/create_snapshot/")
    mine = await (await make_client())("POST", path, **keyed)
    theirs = await other("POST", path, **keyed)
    assert mine.json() != theirs.json()
    # Roles come first: a key gives nothing to a token that may not make the request.
    assert (await (await make_client("read"))("POST", path, **keyed)).status == 403


async def test_the_secret_of_a_grant_is_good_for_that_grant(
    other: AsgiClient, world: World, database: Database
) -> None:
    path = world.path("POST /api/grants/{grant_guid}/resolve/")
    own, foreign = world.secrets["grant's"], await GrantSecrets(database).of(new_guid())
    for authorization in (f"Grant {foreign}", f"Bearer {other.token}", f"Grant {other.token}"):
        assert (await other("POST", path, headers={"authorization": authorization})).status == 401
    right = await other("POST", path, headers={"authorization": f"Grant {own}"})
    assert right.status == 200
    for path in ("/api/grants/", "/api/tasks/"):
        assert (await other("GET", path, headers={"authorization": f"Grant {own}"})).status == 401
