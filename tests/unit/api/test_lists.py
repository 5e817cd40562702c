"""Lists: envelope, contents, sorting, paging, queries."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import pytest
from sqlalchemy import event
from tests.support.asgi import AsgiClient
from tests.unit.api.conftest import DRIVER, GIB, NODE, OTHER_NODE, OTHER_VPOOL, VPOOL, RecordingOperations

from openvstorage.vpool.api.fields import natural_key
from openvstorage.vpool.api.kinds.vdisk import VDISK
from openvstorage.vpool.api.query import parse_query
from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.model.vdisk import State, VDisk

AddVDisk = Callable[..., Awaitable[VDisk]]


async def names(client: AsgiClient, parameters: str) -> list[str]:
    answer = await client("GET", f"/api/vdisks/?contents=&{parameters}")
    assert answer.status == 200, answer.body
    return [item["name"] for item in answer.json()["data"]]


def query(*items: Any, type: str = "AND") -> str:
    return "query=" + quote(json.dumps({"type": type, "items": list(items)}))


async def test_envelope_of_guids(client: AsgiClient, add_vdisk: AddVDisk) -> None:
    first, second = await add_vdisk("b", created_at=1.0), await add_vdisk("a", created_at=2.0)
    assert (await client("GET", "/api/vdisks/")).json() == {
        "data": [first.guid, second.guid],
        "_paging": {
            "total_items": 2,
            "current_page": 1,
            "max_page": 1,
            "page_size": 2,
            "start_number": 1,
            "end_number": 2,
        },
        "_contents": None,
        "_sorting": None,
    }


async def test_empty_contents_gives_objects(client: AsgiClient, add_vdisk: AddVDisk) -> None:
    await add_vdisk("a")
    told = (await client("GET", "/api/vdisks/?contents=")).json()
    assert told["_contents"] == [""]
    assert told["data"][0]["devicename"] == "/a.raw"
    assert "snapshots" not in told["data"][0]


async def test_contents_add_dynamics_for_all(
    client: AsgiClient, add_vdisk: AddVDisk, operations: RecordingOperations
) -> None:
    await add_vdisk("a")
    told = (await client("GET", "/api/vdisks/?contents=storagedriver_id,vpool")).json()
    assert told["data"][0]["storagedriver_id"] == "myvpool01m1"
    assert told["data"][0]["vpool_guid"] == VPOOL
    assert operations.asked_stored == 0


async def test_default_sort_of_vpools_is_told(client: AsgiClient) -> None:
    told = (await client("GET", "/api/vpools/?contents=")).json()
    assert told["_sorting"] == ["name"]
    assert [pool["name"] for pool in told["data"]] == ["myvpool01", "myvpool02"]
    assert told["data"][0]["metadata"] == {}


async def test_filter_by_pool_and_router(client: AsgiClient, add_vdisk: AddVDisk) -> None:
    await add_vdisk("here")
    await add_vdisk("there", vpool_guid=OTHER_VPOOL, owner_guid=OTHER_NODE)
    assert await names(client, f"vpoolguid={VPOOL}") == ["here"]
    assert await names(client, f"storagerouterguid={OTHER_NODE}") == ["there"]
    assert await names(client, f"vpoolguid={VPOOL}&storagerouterguid={OTHER_NODE}") == ["here"]
    unknown = await client("GET", f"/api/vdisks/?vpoolguid={new_guid()}")
    assert (unknown.status, unknown.json()["error"]) == (404, "object_not_found")


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ("name", ["Disk1", "disk2", "disk10"]),
        ("-name", ["disk10", "disk2", "Disk1"]),
        ("size,-name", ["disk10", "Disk1", "disk2"]),
        ("vpool.name,name", ["Disk1", "disk10", "disk2"]),
        ("info[volume_size],name", ["Disk1", "disk10", "disk2"]),
        ("parent_vdisk.name,name", ["Disk1", "disk2", "disk10"]),
    ],
)
async def test_sort(client: AsgiClient, add_vdisk: AddVDisk, sort: str, expected: list[str]) -> None:
    await add_vdisk("disk10", size=GIB)
    await add_vdisk("Disk1", size=GIB)
    await add_vdisk("disk2", size=3 * GIB, vpool_guid=OTHER_VPOOL)
    assert await names(client, f"sort={sort}") == expected


def test_natural_order() -> None:
    values = ["b", None, "a10", "A9", "10", "9", "²", "a010b", "a009b", 3]
    assert sorted(values, key=natural_key) == [None, 3, "9", "10", "A9", "a009b", "a10", "a010b", "b", "²"]


@pytest.mark.parametrize("sort", ["", "sort=name&"])
async def test_paging(client: AsgiClient, add_vdisk: AddVDisk, sort: str) -> None:
    for number in range(25):
        await add_vdisk(f"v{number}", created_at=float(number))
    cases: list[tuple[str, tuple[int, int, int, int], int]] = [
        ("page=3&page_size=10", (3, 3, 21, 25), 5),
        ("page=9&page_size=10", (3, 3, 21, 25), 5),
        ("page=0&page_size=10", (1, 3, 0, 0), 0),
        ("page=-5&page_size=10", (1, 3, 0, 0), 0),
        ("page=2&page_size=7", (2, 4, 8, 14), 7),
        ("page=2", (2, 3, 11, 20), 10),
        ("page=1&page_size=0", (1, 3, 1, 10), 10),
        (f"page={10**30}&page_size={10**30}", (1, 1, 1, 25), 25),
        ("page=x", (1, 1, 1, 25), 25),
        ("page_size=5", (1, 1, 1, 25), 25),
    ]
    for parameters, (current, last, start, end), length in cases:
        told = (await client("GET", f"/api/vdisks/?{sort}{parameters}")).json()
        paging = told["_paging"]
        shown = (paging["current_page"], paging["max_page"], paging["start_number"], paging["end_number"])
        assert (shown, len(told["data"])) == ((current, last, start, end), length), parameters
    assert (await names(client, f"{sort}page=3&page_size=10"))[0] == "v20"


async def test_empty_list_has_a_page(client: AsgiClient) -> None:
    paging = (await client("GET", "/api/vdisks/?page=1&page_size=10")).json()["_paging"]
    assert (paging["start_number"], paging["end_number"], paging["max_page"]) == (0, 0, 1)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (["devicename", "EQUALS", "/alpha.raw"], ["alpha"]),
        (["devicename", "EQUALS", "/ALPHA.raw"], []),
        (["devicename", "EQUALS", "/ALPHA.raw", False], ["alpha"]),
        (["devicename", "EQUALS", "/ALPHA.raw", True], []),
        (["name", "NOT_EQUALS", "alpha"], ["beta", "gamma"]),
        (["size", "GT", GIB], ["beta", "gamma"]),
        (["size", "LT", 2 * GIB], ["alpha"]),
        (["size", "LT", "x"], []),
        (["name", "IN", ["beta", "x"]], ["beta"]),
        (["name", "IN", "alphabet"], ["alpha"]),
        (["name", "IN", ["BETA"], False], ["beta"]),
        (["name", "CONTAINS", "am"], ["gamma"]),
        (["cinder_id", "CONTAINS", "x", False], []),
        (["is_vtemplate", "EQUALS", True], ["gamma"]),
        (["vpool.name", "EQUALS", "myvpool02"], ["beta"]),
        (["vpool_guid", "EQUALS", OTHER_VPOOL], ["beta"]),
        (["parent_vdisk.name", "EQUALS", "alpha"], ["beta"]),
        (["parent_vdisk.name", "NOT_EQUALS", "x"], ["beta"]),
        (["parent_vdisk_guid", "EQUALS", None], ["alpha", "gamma"]),
        (["storagedriver_id", "EQUALS", "myvpool01m1"], ["alpha", "gamma"]),
        (["name", "EQUALS", "a\0"], []),
        (["name", "EQUALS", "\ud800"], []),
        (["name", "EQUALS", 2**100], []),
        ({"type": "OR", "items": [["name", "EQUALS", "beta"], ["name", "EQUALS", "gamma"]]}, ["beta", "gamma"]),
        ({"type": "AND", "items": []}, ["alpha", "beta", "gamma"]),
        (
            {
                "type": "OR",
                "items": [
                    {"type": "AND", "items": [["name", "EQUALS", "beta"], ["size", "EQUALS", GIB]]},
                    ["name", "EQUALS", "alpha"],
                ],
            },
            ["alpha"],
        ),
    ],
)
async def test_query(client: AsgiClient, add_vdisk: AddVDisk, item: Any, expected: list[str]) -> None:
    alpha = await add_vdisk("alpha", created_at=1.0)
    await add_vdisk("beta", size=2 * GIB, vpool_guid=OTHER_VPOOL, parent_vdisk_guid=alpha.guid, created_at=2.0)
    await add_vdisk("gamma", size=3 * GIB, is_vtemplate=True, created_at=3.0)
    assert await names(client, query(item)) == expected


async def test_query_is_combined_with_the_filter(client: AsgiClient, add_vdisk: AddVDisk) -> None:
    await add_vdisk("a")
    await add_vdisk("a", vpool_guid=OTHER_VPOOL)
    found = await client("GET", f"/api/vdisks/?vpoolguid={VPOOL}&{query(['devicename', 'EQUALS', '/a.raw'])}")
    assert len(found.json()["data"]) == 1


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "[]",
        "5",
        "null1",
        "{}",
        '{"type": "AND"}',
        '{"type": "XOR", "items": []}',
        '{"type": "AND", "items": {}}',
        '{"type": "AND", "items": [5]}',
        '{"type": "AND", "items": [["name"]]}',
        '{"type": "AND", "items": [["name", "LIKE", "x"]]}',
        '{"type": "AND", "items": [["name", {}, "x"]]}',
        '{"type": "AND", "items": [[5, "EQUALS", "x"]]}',
        '{"type": "AND", "items": [["nonsense", "EQUALS", "x"]]}',
        '{"type": "AND", "items": [["child_vdisks.name", "EQUALS", "x"]]}',
        '{"type": "AND", "items": [["a.b.c.d.e.f.g.h.i", "EQUALS", "x"]]}',
        '{"type": "AND", "items": [["name", "EQUALS", NaN]]}',
        '{"type": "AND", "items": [' * 30 + "]}" * 30,
        "[" * 100_000,
        '{"type": "OR", "items": [' + ",".join(['["name","EQUALS","x"]'] * 1001) + "]}",
    ],
)
async def test_query_that_can_not_be_meant(client: AsgiClient, text: str) -> None:
    answer = await client("GET", "/api/vdisks/?query=" + quote(text))
    assert (answer.status, answer.json()["error"]) == (400, "invalid_data")


@pytest.mark.parametrize("sort", ["nonsense", "vpool.nonsense", "a[", "[x]", "-", "vpool..name", "child_vdisks.name"])
async def test_sort_by_what_is_not_there(client: AsgiClient, sort: str) -> None:
    answer = await client("GET", "/api/vdisks/?sort=" + quote(sort))
    assert (answer.status, answer.json()["error"]) == (400, "invalid_data")


def test_equals_on_a_column_is_left_to_the_database() -> None:
    asked = parse_query(
        {
            "type": "AND",
            "items": [
                ["devicename", "EQUALS", "/a.raw"],
                ["size", "GT", 1],
                {"type": "AND", "items": [["vpool_guid", "EQUALS", VPOOL], ["devicename", "EQUALS", "/b.raw"]]},
                {"type": "OR", "items": [["name", "EQUALS", "a"], ["name", "EQUALS", "b"]]},
            ],
        }
    )
    equal, rest = asked.split(VDISK.columns)
    assert equal == {"devicename": "/a.raw", "vpool_guid": VPOOL}
    assert sorted(rest.fields()) == ["devicename", "name", "name", "size"]


async def test_look_up_among_many_reads_one_row(client: AsgiClient, database: Database) -> None:
    async with database.write() as session:
        session.add_all(
            VDisk(
                vpool_guid=VPOOL,
                name=f"v{number}",
                devicename=f"/v{number}.raw",
                size=GIB,
                state=State.READY,
                created_at=float(number),
            )
            for number in range(2000)
        )
    statements: list[str] = []
    engine = database._reader.sync_engine

    def remember(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_cursor_execute", remember)
    for found_by in ("devicename", "name"):
        statements.clear()
        value = "/v1234.raw" if found_by == "devicename" else "v1234"
        asked = query([found_by, "EQUALS", value])
        data = (await client("GET", f"/api/vdisks/?contents=&vpoolguid={VPOOL}&{asked}")).json()["data"]
        assert [item["name"] for item in data] == ["v1234"]
        looked_up = [statement for statement in statements if f"vdisk.{found_by} = ?" in statement]
        assert len(looked_up) == 2  # count and row
        async with database.read() as session:
            connection = await session.connection()
            for statement in looked_up:
                count = statement.count("?")
                plan = (await connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, ("x",) * count)).all()
                assert any("INDEX" in str(row) and "SEARCH" in str(row) for row in plan), plan


async def test_page_of_many_asks_only_for_its_own(
    client: AsgiClient, add_vdisk: AddVDisk, operations: RecordingOperations
) -> None:
    for number in range(12):
        await add_vdisk(f"v{number}", created_at=float(number))
    await client("GET", "/api/vdisks/?contents=info&page=1&page_size=5")
    assert operations.asked_stored == 5


async def test_storagedrivers_tell_their_edge(client: AsgiClient) -> None:
    told = (await client("GET", f"/api/storagedrivers/?vpool_guid={VPOOL}&contents=cluster_node_config")).json()["data"]
    assert [item["guid"] for item in told] == [DRIVER]
    assert (told[0]["storage_ip"], told[0]["ports"]["edge"]) == ("127.0.0.1", 26203)
    assert told[0]["cluster_node_config"]["network_server_uri"] == "tcp://127.0.0.1:26203"
    assert told[0]["cluster_node_config"]["vrouter_id"] == told[0]["storagedriver_id"]
    assert (await client("GET", f"/api/storagedrivers/?vpool_guid={OTHER_VPOOL}")).json()["data"] == []


async def test_storagerouters_tell_their_pools(client: AsgiClient) -> None:
    told = (await client("GET", "/api/storagerouters/?contents=vpools_guids")).json()["data"]
    assert [(item["ip"], item["guid"], item["node_type"], item["vpools_guids"]) for item in told] == [
        ("127.0.0.1", NODE, "MASTER", [VPOOL]),
        ("127.0.0.2", OTHER_NODE, "MASTER", []),
    ]
    of_pool = (await client("GET", f"/api/vpools/{VPOOL}/storagerouters/")).json()
    assert of_pool["data"] == [NODE]


async def test_single_objects_of_the_cluster(client: AsgiClient, add_vdisk: AddVDisk) -> None:
    vdisk = await add_vdisk("a")
    pool = (await client("GET", f"/api/vpools/{VPOOL}/")).json()
    assert (pool["vdisks_guids"], pool["storagedrivers_guids"]) == ([vdisk.guid], [DRIVER])
    assert pool["statistics"]["stored"] == 40 * GIB
    assert not any("password" in name or "secret" in name for name in pool)
    router = (await client("GET", f"/api/storagerouters/{NODE}/")).json()
    assert (router["status"], router["vdisks_guids"]) == ("OK", [vdisk.guid])
    driver = (await client("GET", f"/api/storagedrivers/{DRIVER}/")).json()
    assert (driver["status"], driver["vpool_guid"]) == ("RUNNING", VPOOL)


async def test_domains_are_an_empty_list(client: AsgiClient) -> None:
    told = (await client("GET", "/api/domains/?contents=")).json()
    assert (told["data"], told["_contents"]) == ([], [""])
