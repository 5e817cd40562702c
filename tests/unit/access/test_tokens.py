"""Access tokens: form, life, cache."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, select

from openvstorage.vpool.access.accounts import Accounts
from openvstorage.vpool.access.errors import InvalidScope, InvalidToken, TokenExpired, UserNotActive
from openvstorage.vpool.access.secrets import TOKEN_ALPHABET
from openvstorage.vpool.access.tokens import CACHE_SECONDS, Tokens
from openvstorage.vpool.model.account import AccessToken
from openvstorage.vpool.model.database import Database


class Clock:
    """Unix time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(database: Database, clock: Clock) -> Tokens:
    return Tokens(database, now=clock)


async def test_token_has_the_contracts_form_and_is_not_shown(tokens: Tokens, accounts: Accounts) -> None:
    issued = await tokens.issue(await accounts.by_password("admin", "right horse"))
    assert len(issued.access_token) == 64
    assert set(issued.access_token) <= set(TOKEN_ALPHABET)
    assert issued.expires_in == 86400
    assert issued.access_token not in repr(issued)


async def test_secret_buys_an_hour(tokens: Tokens, accounts: Accounts, clock: Clock) -> None:
    client = await accounts.create_client("admin", "cinder")
    issued = await tokens.issue(await accounts.by_secret(client.guid, client.secret))
    assert issued.expires_in == 3600
    clock.now += 3599
    await tokens.verify(issued.access_token)
    clock.now += 1
    with pytest.raises(TokenExpired):
        await tokens.verify(issued.access_token)


async def test_expiry_is_told_once_even_from_the_cache(tokens: Tokens, accounts: Accounts, clock: Clock) -> None:
    issued = await tokens.issue(await accounts.by_password("admin", "right horse"))
    clock.now += 86399
    await tokens.verify(issued.access_token)
    clock.now += 1
    with pytest.raises(TokenExpired):
        await tokens.verify(issued.access_token)
    with pytest.raises(InvalidToken):
        await tokens.verify(issued.access_token)


async def test_token_carries_the_roles_asked_for(tokens: Tokens, accounts: Accounts) -> None:
    login = await accounts.by_password("admin", "right horse")
    issued = await tokens.issue(login, "read")
    principal = await tokens.verify(issued.access_token)
    assert (principal.username, principal.roles) == ("admin", {"read"})
    with pytest.raises(InvalidScope):
        await tokens.issue(login, "read root")


async def test_only_a_digest_is_kept(tokens: Tokens, accounts: Accounts, database: Database) -> None:
    issued = await tokens.issue(await accounts.by_password("admin", "right horse"))
    async with database.read() as session:
        row = (await session.execute(select(AccessToken))).scalar_one()
    assert issued.access_token not in row.digest


@pytest.mark.parametrize("token", ["", "x", "x" * 64, "é" * 64, "\ud800" * 64, "x" * 100_000])
async def test_unknown_token(tokens: Tokens, token: str) -> None:
    with pytest.raises(InvalidToken):
        await tokens.verify(token)


async def test_verified_token_needs_no_database_for_a_while(
    tokens: Tokens, accounts: Accounts, database: Database, clock: Clock
) -> None:
    issued = await tokens.issue(await accounts.by_password("admin", "right horse"))
    await tokens.verify(issued.access_token)
    async with database.write() as session:
        await session.execute(delete(AccessToken))
    await tokens.verify(issued.access_token)
    clock.now += CACHE_SECONDS
    with pytest.raises(InvalidToken):
        await tokens.verify(issued.access_token)


async def test_user_switched_off_is_refused(tokens: Tokens, accounts: Accounts, clock: Clock) -> None:
    issued = await tokens.issue(await accounts.by_password("admin", "right horse"))
    await accounts.set_active("admin", False)
    with pytest.raises(UserNotActive):
        await tokens.verify(issued.access_token)
    assert await tokens.state(issued.access_token) == ("inactive_user", None)


async def test_long_expired_tokens_do_not_pile_up(
    tokens: Tokens, accounts: Accounts, database: Database, clock: Clock
) -> None:
    login = await accounts.by_password("admin", "right horse")
    await tokens.issue(login)
    clock.now += 3 * 86400
    await tokens.issue(login)
    async with database.read() as session:
        assert len((await session.execute(select(AccessToken))).all()) == 1
