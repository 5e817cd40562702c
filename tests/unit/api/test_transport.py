"""What holds for every call: versions, slashes, methods, bodies, errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.support.asgi import VERSIONED, AsgiClient
from tests.unit.api.conftest import GIB, VPOOL, MakeClient, RecordingOperations

from openvstorage.vpool.api.negotiation import negotiate


@pytest.mark.parametrize(
    ("accept", "version"),
    [
        ("application/json; version=*", None),
        ("application/json; version=3; charset=utf8", 3),
        ("version=2", 2),
        ("version=10;x", 10),
        ("text/html; application/json; version=7", 7),
    ],
)
def test_accept_is_understood(accept: str, version: int | None) -> None:
    assert negotiate(accept) == version


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "application/json",
        "application/json;version=1",
        "application/json; version=1, */*",
        "application/json; version=v1",
        "application/json; version=",
        "application/json; version=٣",
        "*/*",
    ],
)
async def test_no_version_is_406(client: AsgiClient, accept: str) -> None:
    sent = {"accept": accept} if accept.isascii() else {"accept": accept.encode().decode("latin-1")}
    answer = await client("GET", "/api/vdisks/", headers=sent)
    assert (answer.status, answer.json()["error"]) == (406, "missing_header")


@pytest.mark.parametrize("version", ["0", "1", "11", "9" * 5000])
async def test_foreign_version_is_426(client: AsgiClient, version: str) -> None:
    answer = await client("GET", "/api/vdisks/", headers={"accept": f"application/json; version={version}"})
    assert (answer.status, answer.json()["error"]) == (426, "invalid_version")


async def test_answer_is_json(client: AsgiClient) -> None:
    assert (await client("GET", "/api/vdisks/")).headers["content-type"] == "application/json"


@pytest.mark.parametrize("path", ["/api/vdisks", "/api/vpools?contents=&x=%2F", "/api/tasks/x"])
async def test_path_without_its_slash_is_redirected(client: AsgiClient, path: str) -> None:
    answer = await client("GET", path)
    before, mark, query = path.partition("?")
    assert (answer.status, answer.headers["location"]) == (301, before + "/" + mark + query)


async def test_redirect_stays_here(client: AsgiClient) -> None:
    answer = await client("GET", "//evil.example/api/vdisks")
    assert answer.status == 404


@pytest.mark.parametrize("path", ["/api/nothing/", "/api/nothing", "/", "/api/vdisks/a/b/c/d/"])
async def test_unknown_path(client: AsgiClient, path: str) -> None:
    answer = await client("GET", path)
    assert (answer.status, answer.json()["error"]) == (404, "no_such_route")


async def test_wrong_method_names_the_right_ones(client: AsgiClient) -> None:
    answer = await client("PUT", f"/api/vdisks/{VPOOL}/")
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, DELETE, HEAD, OPTIONS"
    assert "detail" in answer.json()


async def test_options_needs_nothing(client: AsgiClient) -> None:
    client.token = None
    preflight = {"accept": "*/*", "origin": "https://node1", "access-control-request-method": "POST"}
    answer = await client("OPTIONS", "/api/vdisks/", headers=preflight)
    assert (answer.status, answer.body, answer.headers["allow"]) == (200, b"", "GET, POST, HEAD, OPTIONS")


async def test_head_is_get_without_its_body(client: AsgiClient) -> None:
    got, head = await client("GET", "/api/vpools/"), await client("HEAD", "/api/vpools/")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == got.headers["content-length"]


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b"  ", b" null\n"])
async def test_nothing_in_the_body_is_nothing(client: AsgiClient, body: bytes, operations: RecordingOperations) -> None:
    answer = await client(
        "POST", f"/api/vpools/{VPOOL}/sync_with_reality/", body=body, headers={"content-type": "application/json"}
    )
    assert answer.status == 200
    assert operations.submitted == [("vpool.sync", {"vpool_guid": VPOOL}, None)]


CREATE = {"name": "v", "size": str(GIB), "vpool_guid": VPOOL}


@pytest.mark.parametrize("how", ["json", "form", "multipart", "query", "query and body"])
async def test_parameters_are_found_wherever_they_are(
    client: AsgiClient, operations: RecordingOperations, how: str
) -> None:
    form = "&".join(f"{name}={value}" for name, value in CREATE.items())
    parts = "".join(
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in CREATE.items()
    )
    body, content_type, query = {
        "json": (json.dumps(CREATE | {"size": GIB}), "application/json", ""),
        "form": (form, "application/x-www-form-urlencoded", ""),
        "multipart": (parts + "--b--\r\n", "multipart/form-data; boundary=b", ""),
        "query": ("", "application/json", "?" + form),
        "query and body": ('{"name": "v"}', "application/json", "?" + form.replace("name=v", "name=other")),
    }[how]
    answer = await client("POST", f"/api/vdisks/{query}", body=body.encode(), headers={"content-type": content_type})
    assert answer.status == 200, answer.body
    assert {key: operations.submitted[0][1][key] for key in CREATE} == CREATE | {"size": GIB}


async def test_path_wins_over_the_body(client: AsgiClient, operations: RecordingOperations) -> None:
    path = f"/api/vpools/{VPOOL}/sync_with_reality/"
    await client("POST", path, json_body={"vpool_guid": "other"})
    assert operations.submitted[0][1] == {"vpool_guid": VPOOL}


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b'"x"', "application/json", 400),
        (b"\xff\xfe{", "application/json", 400),
        (b'{"size": NaN}', "application/json", 400),
        (b'{"size": ' + b"9" * 10_000 + b"}", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"a":' * 60 + b"1" + b"}" * 60, "application/json", 406),
        (b'{"a\\ud800": 1}', "application/json", 406),
        (b'{"a": "\\u0000"}', "application/json", 406),
        (b'{"a": 1e999}', "application/json", 406),
        (b"name=v", "text/plain", 415),
        (b"<x/>", "", 415),
        (b"x", "multipart/form-data; boundary=b", 400),
        (b"x", "multipart/form-data", 400),
        (b"&".join([b"a=1"] * 2000), "application/x-www-form-urlencoded", 400),
        (b"\xff=\xff", "application/x-www-form-urlencoded", 400),
        (b" " * (1024 * 1024 + 1), "application/json", 413),
    ],
)
async def test_bad_body_is_the_callers_fault(client: AsgiClient, body: bytes, content_type: str, status: int) -> None:
    answer = await client("POST", "/api/vdisks/", body=body, headers={"content-type": content_type})
    assert answer.status == status
    assert answer.json().get("detail") or answer.json().get("error_description")


@pytest.mark.parametrize(
    "guid", ["x", "%00", "a%00b", "..", "%ed%a0%80", "A" * 5000, "11111111-1111-4111-8111-1111111111XX"]
)
async def test_what_is_no_guid_is_not_found(client: AsgiClient, guid: str) -> None:
    for resource in ("vdisks", "vpools", "storagerouters", "storagedrivers", "grants", "domains"):
        answer = await client("GET", f"/api/{resource}/{guid}/")
        assert (answer.status, answer.json().get("error")) == (404, "object_not_found"), resource


async def test_unexpected_error_tells_nothing(make_client: MakeClient, operations: RecordingOperations) -> None:
    async def broken() -> Any:
        raise RuntimeError("the secret is 42")

    operations.pool_stats = broken  # type: ignore[method-assign]
    answer = await (await make_client())("GET", f"/api/vpools/{VPOOL}/capacity/")
    assert (answer.status, answer.json()["error"]) == (500, "internal_server")
    assert b"42" not in answer.body


async def test_document_lists_every_call(client: AsgiClient) -> None:
    client.token = None
    for path in ("/api/openapi.json", "/api/swagger.json"):
        answer = await client("GET", path, headers={"accept": "*/*"})
        assert answer.status == 200
        assert {"/api/", "/api/vdisks/", "/api/oauth2/token/", "/api/grants/{grant_guid}/revoke/"} <= set(
            answer.json()["paths"]
        )


async def test_metadata_tells_extensions_and_the_caller(client: AsgiClient) -> None:
    told = (await client("GET", "/api/", headers={"accept": ""})).json()
    assert told["versions"] == list(range(2, 11))
    assert told["plugins"]["openvstorage_openstack"] == [
        "atomic_group_snapshots",
        "capacity",
        "clone_size",
        "durability",
        "error_codes",
        "grants",
        "idempotency_keys",
        "internal_snapshots",
        "keep_newer",
        "qos",
        "shared_grants",
        "task_wait",
    ]
    assert (told["authenticated"], told["authentication_state"], told["username"]) == (True, "authenticated", "admin")
    assert told["roles"] == ["manage", "read", "write"]
    assert told["identification"] == {"cluster_id": "c1"}
    assert told["storagerouter_ips"] == ["127.0.0.1", "127.0.0.2"]


@pytest.mark.parametrize(
    ("authorization", "state"),
    [("", "unauthenticated"), ("Basic x", "invalid_authorization_type"), ("Bearer x", "invalid_token")],
)
async def test_metadata_is_for_anybody(client: AsgiClient, authorization: str, state: str) -> None:
    answer = await client("GET", "/api/", headers={"accept": VERSIONED, "authorization": authorization})
    assert (answer.status, answer.json()["authentication_state"]) == (200, state)
    assert answer.json()["username"] is None
