"""Tokens, roles and limits over the API."""

from __future__ import annotations

import base64
from urllib.parse import urlencode

import pytest
from tests.support.asgi import Answer, AsgiClient
from tests.unit.api.conftest import MakeClient

from openvstorage.vpool.access.accounts import Accounts
from openvstorage.vpool.access.limits import RateLimit
from openvstorage.vpool.access.tokens import Tokens
from openvstorage.vpool.model.database import Database

GUID = "44444444-4444-4444-8444-444444444444"
TOKEN = "/api/oauth2/token/"
FORM = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}


async def log_in(client: AsgiClient, authorization: str = "No Auth", **fields: str) -> Answer:
    client.token = None
    return await client(
        "POST", TOKEN, body=urlencode(fields).encode(), headers={**FORM, "authorization": authorization}
    )


async def test_password_buys_a_token_that_works(client: AsgiClient) -> None:
    answer = await log_in(client, grant_type="password", username="admin", password="right horse")
    assert answer.status == 200
    told = answer.json()
    assert set(told) == {"access_token", "token_type", "expires_in"}
    assert (told["token_type"], told["expires_in"]) == ("bearer", 86400)
    assert answer.headers["cache-control"] == "no-store"
    client.token = told["access_token"]
    assert (await client("GET", "/api/vdisks/")).status == 200


async def test_secret_buys_a_token(client: AsgiClient, database: Database) -> None:
    made = await Accounts(database).create_client("admin", "cinder", ["read"])
    basic = "basic " + base64.b64encode(f"{made.guid}:{made.secret}".encode()).decode()
    answer = await log_in(client, basic, grant_type="client_credentials")
    assert (answer.status, answer.json()["expires_in"]) == (200, 3600)


@pytest.mark.parametrize(
    ("fields", "authorization", "error"),
    [
        ({}, "", "invalid_request"),
        ({"grant_type": "password"}, "", "invalid_request"),
        ({"grant_type": "password", "username": "admin"}, "", "invalid_request"),
        ({"grant_type": "magic"}, "", "unsupported_grant_type"),
        ({"grant_type": "password", "username": "admin", "password": "wrong"}, "", "invalid_client"),
        ({"grant_type": "password", "username": "a\0", "password": "wrong"}, "", "invalid_client"),
        (
            {"grant_type": "password", "username": "admin", "password": "right horse", "scope": "root"},
            "",
            "invalid_scope",
        ),
        ({"grant_type": "client_credentials"}, "", "missing_header"),
        ({"grant_type": "client_credentials"}, "Basic %%%", "invalid_client"),
        ({"grant_type": "client_credentials"}, "Basic " + base64.b64encode(b"\xff:x").decode(), "invalid_client"),
        ({"grant_type": "client_credentials"}, "Basic " + base64.b64encode(b"nobody").decode(), "invalid_client"),
    ],
)
async def test_login_refused_is_400(client: AsgiClient, fields: dict[str, str], authorization: str, error: str) -> None:
    answer = await log_in(client, authorization, **fields)
    assert (answer.status, answer.json()["error"]) == (400, error)
    assert b"right horse" not in answer.body


async def test_json_is_no_form(client: AsgiClient) -> None:
    answer = await client("POST", TOKEN, json_body={"grant_type": "password", "username": "a", "password": "b"})
    assert (answer.status, answer.json()["error"]) == (400, "invalid_request")


async def test_token_needs_no_slash(client: AsgiClient) -> None:
    fields = urlencode({"grant_type": "password", "username": "admin", "password": "right horse"}).encode()
    assert (await client("POST", TOKEN.rstrip("/"), body=fields, headers=FORM)).status == 200


async def test_sixth_login_in_a_minute_has_to_wait(make_client: MakeClient) -> None:
    client = await make_client(token_limit=RateLimit(calls=5))
    for _ in range(5):
        assert (await log_in(client, grant_type="password", username="admin", password="x")).status == 400
    for error in ("rate_limit_reached", "rate_limit_timeout"):
        answer = await log_in(client, grant_type="password", username="admin", password="right horse")
        assert (answer.status, answer.json()["error"]) == (429, error)
        assert 1 <= int(answer.headers["retry-after"]) <= 60
    elsewhere = AsgiClient(client.app, address="192.0.2.2")
    assert (await log_in(elsewhere, grant_type="password", username="admin", password="right horse")).status == 200


async def test_metadata_is_limited_too(make_client: MakeClient) -> None:
    client = await make_client(metadata_limit=RateLimit(calls=2))
    statuses = [(await client("GET", "/api/")).status for _ in range(3)]
    assert statuses == [200, 200, 429]


@pytest.mark.parametrize(
    ("authorization", "status", "error"),
    [
        ("Basic YTpi", 401, "invalid_authorization_type"),
        ("Bearer", 401, "invalid_authorization_type"),
        ("Bearer a b", 401, "invalid_authorization_type"),
        ("bearer x", 401, "invalid_authorization_type"),
        ("Bearer x", 401, "invalid_token"),
        ("Bearer " + "x" * 64, 401, "invalid_token"),
    ],
)
async def test_bad_token_is_401(client: AsgiClient, authorization: str, status: int, error: str) -> None:
    answer = await client("GET", "/api/vdisks/", headers={"authorization": authorization})
    assert (answer.status, answer.json()["error"]) == (status, error)


async def test_no_token_is_403(client: AsgiClient) -> None:
    client.token = None
    answer = await client("GET", "/api/vdisks/")
    assert (answer.status, answer.json()) == (403, {"detail": "Authentication credentials were not provided."})


async def test_expired_token_is_told_once(client: AsgiClient, database: Database) -> None:
    accounts = Accounts(database)
    short = Tokens(database, password_seconds=-1)
    client.token = (await short.issue(await accounts.by_password("admin", "right horse"))).access_token
    first, second = await client("GET", "/api/vdisks/"), await client("GET", "/api/vdisks/")
    assert (first.status, first.json()["error"]) == (401, "token_expired")
    assert (second.status, second.json()["error"]) == (401, "invalid_token")
