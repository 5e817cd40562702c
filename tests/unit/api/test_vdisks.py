"""vDisks over the API: what is shown, what reaches the operations, what is refused."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from tests.support.asgi import AsgiClient
from tests.unit.api.conftest import GIB, NODE, OTHER_NODE, VPOOL, MakeClient, RecordingOperations

from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.model.export import Export, Grant
from openvstorage.vpool.model.vdisk import Snapshot, State, VDisk

AddVDisk = Callable[..., Awaitable[VDisk]]
AddSnapshot = Callable[..., Awaitable[Snapshot]]

SNAPSHOT_KEYS = {
    "guid",
    "timestamp",
    "label",
    "is_consistent",
    "is_automatic",
    "is_sticky",
    "in_backend",
    "stored",
}


async def add_grant(database: Database, vdisk: VDisk, port: int = 26300) -> Grant:
    grant = Grant(
        guid=new_guid(),
        vdisk_guid=vdisk.guid,
        export_guid=vdisk.guid,
        client="host1",
        consumer="instance-1",
        mode="rw",
        identity=new_guid(),
        export_name=new_guid(),
        state="granted",
        created_at=0.0,
    )
    async with database.write() as session:
        session.add(
            Export(guid=vdisk.guid, vdisk_guid=vdisk.guid, kind="head", node_guid=NODE, address="127.0.0.1", port=port)
        )
        session.add(grant)
    return grant


async def test_single_object_shows_everything(
    client: AsgiClient, add_vdisk: AddVDisk, add_snapshot: AddSnapshot
) -> None:
    vdisk = await add_vdisk("volume-1")
    # Taken in the same second: only the ordinal tells which was first.
    second = await add_snapshot(vdisk, 2, timestamp=5, guid="0" + new_guid()[1:])
    first = await add_snapshot(vdisk, 1, timestamp=5, guid="f" + new_guid()[1:])
    await add_snapshot(vdisk, 3, state=State.CREATING)
    child = await add_vdisk("child", parent_vdisk_guid=vdisk.guid, parent_snapshot_guid=first.guid)
    shown = (await client("GET", f"/api/vdisks/{vdisk.guid}/")).json()
    assert shown["guid"] == vdisk.guid
    assert (shown["name"], shown["devicename"], shown["size"]) == ("volume-1", "/volume-1.raw", GIB)
    assert shown["metadata"] == {"lba_size": 512, "cluster_multiplier": 8}
    assert (shown["vpool_guid"], shown["parent_vdisk_guid"]) == (VPOOL, None)
    assert shown["child_vdisks_guids"] == [child.guid]
    assert (shown["mds_services_guids"], shown["domains_dtl_guids"]) == ([], [])
    assert [snapshot["guid"] for snapshot in shown["snapshots"]] == [first.guid, second.guid]
    assert all(set(snapshot) == SNAPSHOT_KEYS for snapshot in shown["snapshots"])
    assert shown["snapshots"][0]["timestamp"] == "5"
    assert shown["snapshots"][0]["in_backend"] is True
    assert shown["snapshot_ids"] == [first.guid, second.guid]
    assert (shown["storagedriver_id"], shown["storagerouter_guid"]) == ("myvpool01m1", NODE)
    assert shown["dtl_status"] == "ok_standalone"
    assert (shown["is_vtemplate"], shown["edge_clients"], shown["being_scrubbed"]) == (False, [], False)
    info = shown["info"]
    assert (info["object_type"], info["volume_id"], info["volume_size"]) == ("BASE", vdisk.volume_id, GIB)
    assert (info["live_status"], info["vrouter_id"], info["stored"]) == ("RUNNING", "myvpool01m1", 4096)
    assert {"data_read", "data_read_ps", "write_operations", "stored", "timestamp"} <= set(shown["statistics"])
    of_child = (await client("GET", f"/api/vdisks/{child.guid}/")).json()
    assert of_child["parentsnapshot"] == first.guid
    assert of_child["info"]["object_type"] == "CLONE"
    assert of_child["info"]["parent_volume_id"] == vdisk.volume_id


async def test_empty_contents_shows_properties_only(client: AsgiClient, add_vdisk: AddVDisk) -> None:
    vdisk = await add_vdisk("volume-1")
    shown = (await client("GET", f"/api/vdisks/{vdisk.guid}/?contents=")).json()
    assert {"guid", "name", "size", "devicename", "volume_id", "parentsnapshot", "qos"} <= set(shown)
    assert not {"snapshots", "info", "vpool_guid"} & set(shown)


async def test_contents_choose(client: AsgiClient, add_vdisk: AddVDisk) -> None:
    vdisk = await add_vdisk("volume-1")
    shown = (await client("GET", f"/api/vdisks/{vdisk.guid}/?contents=_dynamics,-info,vpool,nonsense")).json()
    assert "snapshots" in shown
    assert "info" not in shown
    assert shown["vpool_guid"] == VPOOL
    assert "child_vdisks_guids" not in shown


async def test_edge_clients_name_both_ends(
    client: AsgiClient, add_vdisk: AddVDisk, database: Database, operations: RecordingOperations
) -> None:
    vdisk = await add_vdisk("volume-1")
    await add_grant(database, vdisk)
    operations.peers[vdisk.guid] = [("192.0.2.7", 50001)]
    shown = (await client("GET", f"/api/vdisks/{vdisk.guid}/?contents=edge_clients")).json()
    assert shown["edge_clients"] == [
        {
            "key": "192.0.2.7:50001",
            "object_id": vdisk.volume_id,
            "ip": "192.0.2.7",
            "port": 50001,
            "server_ip": "127.0.0.1",
            "server_port": 26300,
        }
    ]


async def test_unfinished_vdisks_are_not_there(client: AsgiClient, add_vdisk: AddVDisk) -> None:
    vdisk = await add_vdisk("volume-1", state=State.CREATING)
    assert (await client("GET", "/api/vdisks/")).json()["data"] == []
    answer = await client("GET", f"/api/vdisks/{vdisk.guid}/")
    assert (answer.status, answer.json()["error"]) == (404, "object_not_found")


async def test_create_reaches_the_operations(client: AsgiClient, operations: RecordingOperations) -> None:
    sent = {"name": "volume-1", "size": GIB, "vpool_guid": VPOOL, "storagerouter_guid": NODE}
    answer = await client("POST", "/api/vdisks/", json_body=sent)
    assert answer.status == 200
    assert isinstance(answer.json(), str)
    args = {**sent, "durability": None, "pagecache_ratio": 1.0, "cache_quota": None}
    assert operations.submitted == [("vdisk.create", args, None)]


@pytest.mark.parametrize("more", [{}, {"storagerouter_guid": None}])
async def test_create_lets_the_pool_choose_the_node(
    client: AsgiClient, operations: RecordingOperations, more: dict[str, Any]
) -> None:
    answer = await client("POST", "/api/vdisks/", json_body={"name": "v", "size": 1, "vpool_guid": VPOOL, **more})
    assert answer.status == 200
    assert operations.submitted[0][1]["storagerouter_guid"] is None


@pytest.mark.parametrize(
    ("change", "status", "error"),
    [
        ({"name": None}, 406, "invalid_data"),
        ({"name": ""}, 406, "invalid_data"),
        ({"name": 5}, 406, "invalid_data"),
        ({"name": "../../etc/passwd"}, 406, "invalid_data"),
        ({"name": "a/../b"}, 406, "invalid_data"),
        ({"name": "x" * 255}, 406, "invalid_data"),
        ({"name": "é" * 128}, 406, "invalid_data"),
        ({"name": "a\0b"}, 406, "invalid_data"),
        ({"name": "a\nb"}, 406, "invalid_data"),
        ({"name": "\x1b[2Ja"}, 406, "invalid_data"),
        ({"name": "\ud800"}, 406, "invalid_data"),
        ({"name": "???"}, 406, "invalid_data"),
        ({"size": 2**63}, 406, "invalid_data"),
        ({"size": -1}, 406, "invalid_data"),
        ({"size": "many"}, 406, "invalid_data"),
        ({"size": 1e400}, 406, "invalid_data"),
        ({"pagecache_ratio": 0}, 406, "invalid_data"),
        ({"vpool_guid": new_guid()}, 404, "object_not_found"),
        ({"vpool_guid": "nonsense"}, 404, "object_not_found"),
        ({"storagerouter_guid": new_guid()}, 404, "object_not_found"),
        ({"storagerouter_guid": OTHER_NODE}, 406, "impossible_request"),
    ],
)
async def test_create_refuses(
    client: AsgiClient, operations: RecordingOperations, change: dict[str, Any], status: int, error: str
) -> None:
    body = {"name": "volume-1", "size": GIB, "vpool_guid": VPOOL, "storagerouter_guid": NODE, **change}
    answer = await client("POST", "/api/vdisks/", json_body=body)
    if change.get("size") == 1e400:  # not JSON at all: the parser refuses it
        assert answer.status == 400
    else:
        assert (answer.status, answer.json()["error"]) == (status, error)
        assert len(answer.json()["error_description"]) > 5
    assert operations.submitted == []


async def test_missing_parameter_is_named(client: AsgiClient) -> None:
    answer = await client("POST", "/api/vdisks/", json_body={"name": "v", "vpool_guid": VPOOL})
    assert (answer.status, answer.json()["error_description"]) == (406, "size is missing")


@pytest.mark.parametrize(("method", "suffix"), [("DELETE", "/"), ("DELETE", "/?"), ("POST", "/delete/")])
async def test_delete_in_all_its_forms(
    client: AsgiClient, operations: RecordingOperations, add_vdisk: AddVDisk, method: str, suffix: str
) -> None:
    vdisk = await add_vdisk("volume-1")
    answer = await client(method, f"/api/vdisks/{vdisk.guid}{suffix}", body=b"null", headers=JSON)
    assert answer.status == 200
    assert operations.submitted == [("vdisk.delete", {"vdisk_guid": vdisk.guid, "force": False}, vdisk.guid)]


JSON = {"content-type": "application/json"}


async def test_delete_never_hides_behind_another_action(client: AsgiClient, add_vdisk: AddVDisk) -> None:
    vdisk = await add_vdisk("volume-1")
    answer = await client("DELETE", f"/api/vdisks/{vdisk.guid}/clone/")
    assert (answer.status, answer.headers["allow"]) == (405, "POST, OPTIONS")


async def test_vdisk_in_use_is_not_deleted_unless_forced(
    client: AsgiClient, operations: RecordingOperations, add_vdisk: AddVDisk, database: Database
) -> None:
    vdisk = await add_vdisk("volume-1")
    await add_grant(database, vdisk)
    answer = await client("DELETE", f"/api/vdisks/{vdisk.guid}/")
    assert (answer.status, answer.json()["error"]) == (406, "in_use")
    assert (await client("DELETE", f"/api/vdisks/{vdisk.guid}/?force=true")).status == 200
    assert operations.submitted[0][1]["force"] is True


async def test_children_forbid_deleting_only_in_strict_compatibility(
    client: AsgiClient, make_client: MakeClient, add_vdisk: AddVDisk, add_snapshot: AddSnapshot
) -> None:
    vdisk = await add_vdisk("volume-1")
    snapshot = await add_snapshot(vdisk, 1)
    await add_vdisk("child", parent_vdisk_guid=vdisk.guid, parent_snapshot_guid=snapshot.guid)
    strict = AsgiClient((await make_strict(make_client)).app, client.token)
    refused = await strict("DELETE", f"/api/vdisks/{vdisk.guid}/")
    assert (refused.status, refused.json()["error"]) == (406, "impossible_request")
    assert "has clones" in refused.json()["error_description"]
    remove = f"/api/vdisks/{vdisk.guid}/remove_snapshot/"
    refused = await strict("POST", remove, json_body={"snapshot_id": snapshot.guid})
    assert "cloned from it, cannot remove" in refused.json()["error_description"]
    assert (await client("POST", remove, json_body={"snapshot_id": snapshot.guid})).status == 200
    assert (await client("DELETE", f"/api/vdisks/{vdisk.guid}/")).status == 200


async def make_strict(make_client: MakeClient) -> AsgiClient:
    return await make_client(strict_compat=True)


ACTIONS: list[tuple[str, str, Any, str, dict[str, Any]]] = [
    (
        "POST",
        "clone",
        {"name": "c", "storagerouter_guid": None},
        "vdisk.clone",
        {
            "name": "c",
            "storagerouter_guid": None,
            "snapshot_guid": None,
            "size": None,
            "durability": None,
            "pagecache_ratio": None,
            "cache_quota": None,
        },
    ),
    (
        "POST",
        "clone",
        {"name": "c", "snapshot_id": "s", "size": 2 * GIB},
        "vdisk.clone",
        {
            "name": "c",
            "storagerouter_guid": None,
            "snapshot_guid": "s",
            "size": 2 * GIB,
            "durability": None,
            "pagecache_ratio": None,
            "cache_quota": None,
        },
    ),
    (
        "POST",
        "create_from_template",
        {"name": "c", "storagerouter_guid": NODE},
        "vdisk.create_from_template",
        {"name": "c", "storagerouter_guid": NODE, "durability": None, "pagecache_ratio": None, "cache_quota": None},
    ),
    (
        "POST",
        "create_snapshot",
        {"name": "", "timestamp": "7", "consistent": "true", "sticky": True},
        "snapshot.create",
        {"label": "", "consistent": True, "automatic": False, "sticky": True},
    ),
    ("POST", "remove_snapshot", {"snapshot_id": "s"}, "snapshot.delete", {"snapshot_guid": "s"}),
    (
        "POST",
        "rollback",
        {"timestamp": "1700000000"},
        "vdisk.rollback",
        {"timestamp": "1700000000", "snapshot_guid": None, "keep_newer": False},
    ),
    (
        "POST",
        "rollback",
        {"timestamp": 1700000000},
        "vdisk.rollback",
        {"timestamp": "1700000000", "snapshot_guid": None, "keep_newer": False},
    ),
    (
        "POST",
        "rollback",
        {"snapshot_id": "s", "keep_newer": True},
        "vdisk.rollback",
        {"timestamp": None, "snapshot_guid": "s", "keep_newer": True},
    ),
    ("POST", "set_as_template", ..., "vdisk.set_as_template", {}),
    ("POST", "extend", {"new_size": 2 * GIB}, "vdisk.extend", {"size": 2 * GIB}),
    (
        "POST",
        "move",
        {"target_storagerouter_guid": NODE, "force": "True"},
        "vdisk.move",
        {"storagerouter_guid": NODE, "force": True},
    ),
    ("POST", "restart", None, "vdisk.restart", {"force": False}),
    ("GET", "get_config_params", ..., "vdisk.get_config", {}),
    (
        "POST",
        "set_config_params",
        {"new_config_params": {"dtl_mode": "sync"}},
        "vdisk.set_config",
        {"params": {"dtl_mode": "sync"}},
    ),
    ("POST", "set_qos", {"qos": {"iops_total": 100, "bps_read": 0}}, "vdisk.set_qos", {"qos": {"iops_total": 100}}),
    ("POST", "set_durability", {"durability": "flushed"}, "vdisk.set_durability", {"durability": "flushed"}),
    ("POST", "set_durability", {"durability": None}, "vdisk.set_durability", {"durability": None}),
    ("POST", "is_volume_synced_up_to_snapshot", {"snapshot_id": "s"}, "snapshot.is_synced", {"snapshot_guid": "s"}),
]


@pytest.mark.parametrize(("method", "action", "body", "kind", "args"), ACTIONS, ids=lambda value: str(value)[:24])
async def test_action_reaches_the_operations(
    client: AsgiClient,
    operations: RecordingOperations,
    add_vdisk: AddVDisk,
    method: str,
    action: str,
    body: Any,
    kind: str,
    args: dict[str, Any],
) -> None:
    vdisk = await add_vdisk("volume-1")
    answer = await client(method, f"/api/vdisks/{vdisk.guid}/{action}/", json_body=body)
    assert answer.status == 200, answer.body
    assert operations.submitted == [(kind, {**args, "vdisk_guid": vdisk.guid}, vdisk.guid)]


@pytest.mark.parametrize(
    ("action", "body", "status", "error"),
    [
        ("clone", {}, 406, "invalid_data"),
        ("clone", {"name": "c", "storagerouter_guid": OTHER_NODE}, 406, "impossible_request"),
        ("clone", {"name": "..", "storagerouter_guid": None}, 406, "invalid_data"),
        ("rollback", {}, 406, "invalid_data"),
        ("extend", {"new_size": "big"}, 406, "invalid_data"),
        ("set_qos", {"qos": {"iops_total": -1}}, 406, "invalid_data"),
        ("set_qos", {"qos": {"iops": 1}}, 406, "invalid_data"),
        ("set_durability", {"durability": "forever"}, 406, "invalid_data"),
        ("set_durability", {}, 406, "invalid_data"),
        ("delete_vtemplate", {}, 406, "impossible_request"),
        ("schedule_backend_sync", {}, 406, "impossible_request"),
        ("is_volume_synced_up_to_tlog", {"tlog_name": "t"}, 406, "impossible_request"),
        ("scrub", {}, 406, "impossible_request"),
        ("move", {"target_storagerouter_guid": new_guid()}, 404, "object_not_found"),
    ],
)
async def test_action_refuses(
    client: AsgiClient,
    operations: RecordingOperations,
    add_vdisk: AddVDisk,
    action: str,
    body: Any,
    status: int,
    error: str,
) -> None:
    vdisk = await add_vdisk("volume-1")
    answer = await client("POST", f"/api/vdisks/{vdisk.guid}/{action}/", json_body=body)
    assert (answer.status, answer.json()["error"]) == (status, error)
    assert operations.submitted == []


async def test_template_with_clones_is_refused(client: AsgiClient, add_vdisk: AddVDisk) -> None:
    vdisk = await add_vdisk("volume-1")
    await add_vdisk("child", parent_vdisk_guid=vdisk.guid)
    answer = await client("POST", f"/api/vdisks/{vdisk.guid}/set_as_template/")
    assert (answer.status, answer.json()["error"]) == (406, "impossible_request")


async def test_children_are_for_old_versions_only(client: AsgiClient, add_vdisk: AddVDisk) -> None:
    vdisk = await add_vdisk("volume-1")
    child = await add_vdisk("child", parent_vdisk_guid=vdisk.guid)
    path = f"/api/vdisks/{vdisk.guid}/get_children/"
    for version, status in (("*", 200), ("7", 200), ("8", 426)):
        answer = await client("GET", path, headers={"accept": f"application/json; version={version}"})
        assert answer.status == status
    assert (await client("GET", path)).json() == [child.guid]


async def test_target_storagerouters_are_those_of_the_pool(client: AsgiClient, add_vdisk: AddVDisk) -> None:
    vdisk = await add_vdisk("volume-1")
    answer = await client("GET", f"/api/vdisks/{vdisk.guid}/get_target_storagerouters/")
    assert answer.json()["data"] == [NODE]
    scrub = await client("GET", f"/api/vdisks/{vdisk.guid}/get_scrub_storagerouters/")
    assert scrub.json()["data"] == []
