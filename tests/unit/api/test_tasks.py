"""Tasks, idempotency keys, grants, and the vPool's calls."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import pytest
from tests.support.asgi import Answer, AsgiClient
from tests.support.patience import PATIENCE
from tests.unit.api.conftest import (
    GIB,
    NODE,
    OTHER_VPOOL,
    VPOOL,
    ConflictingOperations,
    MakeClient,
    RecordingOperations,
)

from openvstorage.vpool.access.accounts import Accounts
from openvstorage.vpool.access.tokens import Tokens
from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.model.export import Export, Grant
from openvstorage.vpool.model.task import TaskStatus
from openvstorage.vpool.model.vdisk import Snapshot, VDisk

AddVDisk = Callable[..., Awaitable[VDisk]]
AddSnapshot = Callable[..., Awaitable[Snapshot]]


async def begin(client: AsgiClient) -> str:
    answer = await client("POST", f"/api/vpools/{VPOOL}/sync_with_reality/")
    task: str = answer.json()
    return task


@pytest.mark.parametrize("task_id", ["00000000-0000-4000-8000-00000000abcd", "x", "%00", "x" * 36, "é" * 36])
async def test_unknown_task_is_pending(client: AsgiClient, task_id: str) -> None:
    answer = await client("GET", f"/api/tasks/{quote(task_id, safe='%')}/")
    told = answer.json()
    assert answer.status == 200
    assert {key: told[key] for key in ("status", "successful", "failed", "ready", "result")} == {
        "status": "PENDING",
        "successful": False,
        "failed": False,
        "ready": False,
        "result": None,
    }


async def test_task_tells_its_result(client: AsgiClient, operations: RecordingOperations) -> None:
    task = await begin(client)
    assert (await client("GET", f"/api/tasks/{task}/")).json()["status"] == "PENDING"
    await operations.finish(task, TaskStatus.SUCCESS, {"a": 1})
    assert (await client("GET", f"/api/tasks/{task}/")).json() == {
        "id": task,
        "status": "SUCCESS",
        "successful": True,
        "failed": False,
        "ready": True,
        "result": {"a": 1},
    }


async def test_failed_task_tells_why(client: AsgiClient, operations: RecordingOperations) -> None:
    task = await begin(client)
    await operations.finish(task, TaskStatus.FAILURE, "it already exists on vPool x")
    told = (await client("GET", f"/api/tasks/{task}/")).json()
    assert (told["failed"], told["successful"], told["result"]) == (True, False, "it already exists on vPool x")


async def test_wait_ends_with_the_task(client: AsgiClient, operations: RecordingOperations) -> None:
    task = await begin(client)
    waiting = asyncio.create_task(client("GET", f"/api/tasks/{task}/?wait=60"))
    await operations.finish(task, TaskStatus.SUCCESS, None)
    assert (await asyncio.wait_for(waiting, PATIENCE)).json()["status"] == "SUCCESS"


@pytest.mark.parametrize("wait", ["-1", "61", "soon", "nan", "inf"])
async def test_wait_has_limits(client: AsgiClient, wait: str) -> None:
    answer = await client("GET", f"/api/tasks/{new_guid()}/?wait={wait}")
    assert (answer.status, answer.json()["error"]) == (406, "invalid_data")


async def test_get_gives_the_bare_result(client: AsgiClient, operations: RecordingOperations) -> None:
    results: list[tuple[TaskStatus, Any, int]] = [
        (TaskStatus.SUCCESS, "guid", 200),
        (TaskStatus.SUCCESS, None, 204),
        (TaskStatus.FAILURE, "why", 406),
    ]
    for status, result, expected in results:
        task = await begin(client)
        await operations.finish(task, status, result)
        answer = await client("GET", f"/api/tasks/{task}/get/")
        assert answer.status == expected
        assert expected != 200 or answer.json() == result
    assert (await client("GET", f"/api/tasks/{new_guid()}/get/")).status == 404


async def test_tasks_under_way_are_listed(client: AsgiClient, operations: RecordingOperations) -> None:
    task, done = await begin(client), await begin(client)
    await operations.finish(done, TaskStatus.SUCCESS, None)
    told = (await client("GET", "/api/tasks/")).json()
    assert set(told) == {"active", "scheduled", "reserved", "revoked"}
    assert [entry["id"] for entry in told["reserved"][""]] == [task]


async def snapshot(client: AsgiClient, vdisk: VDisk, key: str, name: str = "s") -> Answer:
    path = f"/api/vdisks/{vdisk.guid}/create_snapshot/"
    return await client("POST", path, json_body={"name": name}, headers={"idempotency-key": key})


async def test_same_key_gives_the_same_task(
    client: AsgiClient, add_vdisk: AddVDisk, operations: RecordingOperations
) -> None:
    vdisk = await add_vdisk("a")
    first, second, other = [await snapshot(client, vdisk, key) for key in ("k1", "k1", "k2")]
    assert first.json() == second.json() != other.json()
    assert len(operations.submitted) == 2


async def test_repeated_delete_is_answered_though_the_vdisk_is_gone(
    client: AsgiClient, add_vdisk: AddVDisk, database: Database
) -> None:
    vdisk = await add_vdisk("a")
    first = await client("DELETE", f"/api/vdisks/{vdisk.guid}/", headers={"idempotency-key": "k"})
    async with database.write() as session:
        await session.delete(await session.get_one(VDisk, vdisk.guid))
    again = await client("DELETE", f"/api/vdisks/{vdisk.guid}/", headers={"idempotency-key": "k"})
    assert (again.status, again.json()) == (200, first.json())
    assert (await client("DELETE", f"/api/vdisks/{vdisk.guid}/")).status == 404


async def test_same_key_for_something_else_is_a_conflict(client: AsgiClient, add_vdisk: AddVDisk) -> None:
    vdisk = await add_vdisk("a")
    await snapshot(client, vdisk, "k")
    answer = await snapshot(client, vdisk, "k", name="other")
    assert (answer.status, answer.json()["error"]) == (409, "idempotency_conflict")


async def test_conflict_found_late_is_the_same(
    make_client: MakeClient, add_vdisk: AddVDisk, database: Database
) -> None:
    vdisk = await add_vdisk("a")
    client = await make_client(runner=ConflictingOperations(database))
    assert (await snapshot(client, vdisk, "k")).status == 409


async def test_keys_belong_to_their_user(
    client: AsgiClient, add_vdisk: AddVDisk, database: Database, operations: RecordingOperations
) -> None:
    vdisk = await add_vdisk("a")
    accounts = Accounts(database)
    await accounts.create_user("other", "pw")
    token = (await Tokens(database).issue(await accounts.by_password("other", "pw"))).access_token
    first = await snapshot(client, vdisk, "k")
    second = await snapshot(AsgiClient(client.app, token), vdisk, "k")
    assert first.json() != second.json()


@pytest.mark.parametrize("key", ["x" * 201, "a\x01b"])
async def test_impossible_key(client: AsgiClient, add_vdisk: AddVDisk, key: str) -> None:
    answer = await snapshot(client, await add_vdisk("a"), key)
    assert (answer.status, answer.json()["error"]) == (400, "invalid_data")


async def test_grant_reaches_the_operations(
    client: AsgiClient, add_vdisk: AddVDisk, operations: RecordingOperations
) -> None:
    vdisk = await add_vdisk("a")
    asked = {"vdisk_guid": vdisk.guid, "client": "host1", "consumer": "instance-1", "mode": "rw"}
    assert (await client("POST", "/api/grants/", json_body=asked)).status == 200
    args = {**asked, "snapshot_guid": None, "shared": False, "deadline_seconds": None}
    assert operations.submitted == [("grant.create", args, vdisk.guid)]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"mode": "rwx"}, 406),
        ({"client": ""}, 406),
        ({"consumer": "x" * 256}, 406),
        ({"consumer": "a\nb"}, 406),
        ({"deadline_seconds": 0}, 406),
        ({"deadline_seconds": 10**12}, 406),
        ({"vdisk_guid": new_guid()}, 404),
        ({"snapshot_guid": new_guid()}, 404),
    ],
)
async def test_grant_is_refused(client: AsgiClient, add_vdisk: AddVDisk, change: dict[str, Any], status: int) -> None:
    vdisk = await add_vdisk("a")
    asked = {"vdisk_guid": vdisk.guid, "client": "h", "consumer": "c", "mode": "rw", **change}
    assert (await client("POST", "/api/grants/", json_body=asked)).status == status


async def test_snapshot_is_opened_to_read_only(
    client: AsgiClient, add_vdisk: AddVDisk, add_snapshot: AddSnapshot
) -> None:
    vdisk = await add_vdisk("a")
    taken = await add_snapshot(vdisk, 1)
    asked = {"vdisk_guid": vdisk.guid, "client": "h", "consumer": "c", "snapshot_guid": taken.guid}
    assert (await client("POST", "/api/grants/", json_body={**asked, "mode": "rw"})).status == 406
    assert (await client("POST", "/api/grants/", json_body={**asked, "mode": "ro"})).status == 200


async def test_grant_tells_where_to_connect_and_is_revoked(
    client: AsgiClient, add_vdisk: AddVDisk, database: Database, operations: RecordingOperations
) -> None:
    vdisk = await add_vdisk("a")
    grant = Grant(
        guid=new_guid(),
        vdisk_guid=vdisk.guid,
        export_guid=vdisk.guid,
        client="h",
        consumer="c",
        mode="rw",
        identity="i",
        export_name="e-1",
        state="granted",
        created_at=0.0,
    )
    async with database.write() as session:
        session.add_all(
            [
                grant,
                Export(
                    guid=vdisk.guid, vdisk_guid=vdisk.guid, kind="head", node_guid=NODE, address="127.0.0.1", port=26300
                ),
            ]
        )
    expected = {
        "guid": grant.guid,
        "vdisk_guid": vdisk.guid,
        "snapshot_guid": None,
        "client": "h",
        "certificate_name": None,
        "consumer": "c",
        "mode": "rw",
        "state": "granted",
        "export_name": "e-1",
        "host": "127.0.0.1",
        "port": 26300,
        "tls": False,
        "size": GIB,
        "cut_off_at": None,
        "deadline": None,
        "uri": "nbd://127.0.0.1:26300/e-1",
    }
    assert (await client("GET", f"/api/grants/{grant.guid}/")).json() == expected
    listed = await client("GET", f"/api/grants/?vdisk_guid={vdisk.guid}&contents=")
    assert listed.json()["data"] == [expected]
    assert (await client("GET", "/api/grants/")).json()["data"] == [grant.guid]
    assert (await client("POST", f"/api/grants/{grant.guid}/revoke/")).status == 200
    assert (await client("DELETE", f"/api/grants/{grant.guid}/")).status == 200
    assert operations.submitted == [("grant.revoke", {"grant_guid": grant.guid}, vdisk.guid)] * 2
    assert (await client("POST", f"/api/grants/{new_guid()}/revoke/")).status == 404


async def test_capacity(client: AsgiClient) -> None:
    told = (await client("GET", f"/api/vpools/{VPOOL}/capacity/")).json()
    assert 2 <= told.pop("age_seconds") < 60
    assert told == {
        "total_bytes": 100 * GIB,
        "free_bytes": 60 * GIB,
        "used_bytes": 40 * GIB,
        "provisioned_bytes": 500 * GIB,
        "vdisk_count": 7,
    }


async def test_devicename_exists(client: AsgiClient, add_vdisk: AddVDisk) -> None:
    await add_vdisk("volume-1")
    path = f"/api/vpools/{VPOOL}/devicename_exists/"
    assert (await client("GET", path + "?name=volume-1")).json() is True
    assert (await client("GET", path + "?name=/volume-1.raw")).json() is True
    assert (await client("GET", path + "?name=volume-2")).json() is False
    assert (await client("GET", path, json_body={"names": ["volume-2", "volume-1"]})).json() is True
    other = f"/api/vpools/{OTHER_VPOOL}/devicename_exists/"
    assert (await client("GET", other + "?name=volume-1")).json() is False
    refusals: list[dict[str, Any]] = [{}, {"name": "a", "names": ["b"]}, {"name": "../x"}]
    for body in refusals:
        answer = await client("GET", path, json_body=body)
        assert (answer.status, answer.json()["error"]) == (406, "impossible_request")


async def test_snapshots_of_several(client: AsgiClient, operations: RecordingOperations) -> None:
    path = f"/api/vpools/{VPOOL}/create_snapshots/"
    body = {"vdisk_guids": ["a", "b", "a"], "name": "n", "timestamp": "5", "consistent": True}
    await client("POST", path, json_body=body)
    await client("POST", path, json_body={**body, "atomic": True})
    mapping = {"a": "s", "b": ["t", "u"]}
    await client("POST", f"/api/vpools/{VPOOL}/remove_snapshots/", json_body={"snapshot_mapping": mapping})
    flags = {"consistent": True, "automatic": False, "sticky": False}
    each, together, removed = operations.submitted
    assert each[0] == "snapshot.create_group"
    assert each[1].items() >= {"vdisk_guids": ["a", "b"], "label": "n", **flags}.items()
    assert together == ("snapshot.create_atomic_group", {"vdisk_guids": ["a", "b"], "label": "n", **flags}, None)
    assert removed == ("snapshot.delete_many", {"mapping": mapping}, None)


@pytest.mark.parametrize("action", ["shrink_vpool", "scrub_all_vdisks", "scrub_multiple_vdisks"])
async def test_pool_can_not(client: AsgiClient, action: str) -> None:
    answer = await client("POST", f"/api/vpools/{VPOOL}/{action}/", json_body={})
    assert (answer.status, answer.json()["error"]) == (406, "impossible_request")
