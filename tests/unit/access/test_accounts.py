"""Users and OAuth2 clients."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, select

from openvstorage.vpool.access.accounts import Accounts
from openvstorage.vpool.access.errors import (
    InactiveUser,
    InvalidClient,
    InvalidGrant,
    InvalidScope,
    UnauthorizedClient,
    UserExists,
)
from openvstorage.vpool.model.account import OAuthClient, User
from openvstorage.vpool.model.database import Database


async def test_administrator_logs_in_with_all_roles(accounts: Accounts) -> None:
    login = await accounts.by_password("admin", "right horse")
    assert set(login.roles) == {"read", "write", "manage"}
    assert login.by_password


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("admin", "wrong"),
        ("admin", ""),
        ("nobody", "right horse"),
        ("adm\0in", "right horse"),
        ("\ud800", "right horse"),
        ("admin", "\udfff"),
        ("a" * 10_000, "x"),
        ("admin", "right horse" + "x" * 300),
    ],
)
async def test_wrong_credentials_are_one_and_the_same_error(accounts: Accounts, username: str, password: str) -> None:
    with pytest.raises(InvalidClient) as refused:
        await accounts.by_password(username, password)
    assert username not in str(refused.value)


async def test_viewer_reads_only(accounts: Accounts) -> None:
    await accounts.create_user("eye", "sees", group="viewers")
    assert (await accounts.by_password("eye", "sees")).roles == ("read",)


async def test_user_name_is_unique(accounts: Accounts) -> None:
    with pytest.raises(UserExists):
        await accounts.create_user("admin", "other")
    await accounts.by_password("admin", "right horse")


async def test_changed_password_replaces_the_old_one(accounts: Accounts) -> None:
    await accounts.set_password("admin", "new mule")
    with pytest.raises(InvalidClient):
        await accounts.by_password("admin", "right horse")
    await accounts.by_password("admin", "new mule")


async def test_inactive_user_is_told_only_to_who_knows_the_password(accounts: Accounts) -> None:
    await accounts.set_active("admin", False)
    with pytest.raises(InactiveUser):
        await accounts.by_password("admin", "right horse")
    with pytest.raises(InvalidClient):
        await accounts.by_password("admin", "wrong")


async def test_user_without_internal_client_may_not_log_in(accounts: Accounts, database: Database) -> None:
    async with database.write() as session:
        await session.execute(delete(OAuthClient))
    with pytest.raises(UnauthorizedClient):
        await accounts.by_password("admin", "right horse")


async def test_client_logs_in_with_its_secret(accounts: Accounts) -> None:
    client = await accounts.create_client("admin", "cinder", ["read", "write"])
    login = await accounts.by_secret(client.guid, client.secret)
    assert (login.username, login.roles, login.by_password) == ("admin", ("read", "write"), False)
    with pytest.raises(InvalidClient):
        await accounts.by_secret(client.guid, client.secret + "x")
    with pytest.raises(InvalidClient):
        await accounts.by_secret("no such client", client.secret)


async def test_internal_client_has_no_secret_grant(accounts: Accounts, database: Database) -> None:
    async with database.read() as session:
        internal = (await session.execute(select(OAuthClient.guid))).scalar_one()
    with pytest.raises(InvalidGrant):
        await accounts.by_secret(internal, "")


async def test_client_never_has_more_roles_than_its_user(accounts: Accounts) -> None:
    await accounts.create_user("eye", "sees", group="viewers")
    with pytest.raises(InvalidScope):
        await accounts.create_client("eye", "tool", ["write"])


async def test_scope_is_checked_against_the_client(accounts: Accounts) -> None:
    login = await accounts.by_password("admin", "right horse")
    assert login.scope("write read write") == ("write", "read")
    with pytest.raises(InvalidScope):
        login.scope("read root")


async def test_no_secret_is_kept_or_shown(accounts: Accounts, database: Database) -> None:
    client = await accounts.create_client("admin", "cinder")
    async with database.read() as session:
        kept = [user.password_hash for user in (await session.execute(select(User))).scalars()]
        kept += [row.secret_hash or "" for row in (await session.execute(select(OAuthClient))).scalars()]
    assert not any("right horse" in text or client.secret in text for text in kept)
    assert client.secret not in repr(client)
