"""Access tokens: issued for a login, verified for every request.

Only a token's SHA-256 digest is kept. A verified token stays in a small cache for a few seconds, so that most requests
cost no database access at all; a user who is switched off is therefore refused after ``CACHE_SECONDS`` at the latest.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.access.accounts import Login
from openvstorage.vpool.access.errors import InvalidToken, TokenExpired, TokenRefused, UserNotActive
from openvstorage.vpool.access.secrets import TOKEN_LENGTH, digest, new_token
from openvstorage.vpool.model.account import AccessToken, OAuthClient, User
from openvstorage.vpool.model.database import Database

__all__ = ["IssuedToken", "Principal", "Tokens"]

PASSWORD_SECONDS = 86400
CLIENT_SECONDS = 3600
CACHE_SECONDS = 5.0
CACHE_ENTRIES = 1024
#: How long an expired token is remembered, so that its holder hears "expired" once and not "unknown".
REMEMBERED_SECONDS = 86400


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking.

    :ivar roles: role codes of the token.
    """

    username: str
    user_guid: str
    client_guid: str
    roles: frozenset[str]


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """A token just issued; told to its owner this once.

    :ivar access_token: not shown in the representation.
    :ivar expires_in: seconds.
    """

    access_token: str
    expires_in: int

    def __repr__(self) -> str:
        return f"IssuedToken(access_token=<hidden>, expires_in={self.expires_in})"


@dataclass(frozen=True, slots=True)
class _Cached:
    principal: Principal
    expires_at: float
    until: float


class Tokens:
    """Issues and verifies access tokens.

    :param database: where digests are kept.
    :param password_seconds: life of a token that a password bought.
    :param client_seconds: life of a token that a client's secret bought.
    :param now: unix time; replaced in tests.
    """

    def __init__(
        self,
        database: Database,
        *,
        password_seconds: int = PASSWORD_SECONDS,
        client_seconds: int = CLIENT_SECONDS,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._password_seconds = password_seconds
        self._client_seconds = client_seconds
        self._now = now
        self._cache: OrderedDict[str, _Cached] = OrderedDict()

    async def issue(self, login: Login, scope: str | None = None) -> IssuedToken:
        """Issue a token.

        :param login: credentials found right by :class:`~openvstorage.vpool.access.accounts.Accounts`.
        :param scope: role codes separated by spaces; None for all roles of the client.
        :raises InvalidScope: a role is asked for that the client does not have.
        """
        roles = login.scope(scope)
        seconds = self._password_seconds if login.by_password else self._client_seconds
        token, now = new_token(), self._now()
        async with self._database.write() as session:
            await session.execute(delete(AccessToken).where(AccessToken.expires_at < now - REMEMBERED_SECONDS))
            session.add(
                AccessToken(
                    digest=digest(token), client_guid=login.client_guid, roles=list(roles), expires_at=now + seconds
                )
            )
        return IssuedToken(access_token=token, expires_in=seconds)

    async def verify(self, token: str) -> Principal:
        """Say whose token this is.

        :raises InvalidToken: it was never issued, or is gone.
        :raises TokenExpired: its time is over; it is forgotten with this answer.
        :raises UserNotActive: its user was switched off.
        """
        if len(token) != TOKEN_LENGTH:
            raise InvalidToken()
        key, now = digest(token), self._now()
        cached = self._cache.get(key)
        if cached is not None and now < min(cached.until, cached.expires_at):
            self._cache.move_to_end(key)
            return cached.principal
        self._cache.pop(key, None)
        async with self._database.read() as session:
            principal, expires_at = await _look_up(session, key)
        if expires_at <= now:
            await self._forget(key)
            raise TokenExpired()
        self._cache[key] = _Cached(principal, expires_at, now + CACHE_SECONDS)
        while len(self._cache) > CACHE_ENTRIES:
            self._cache.popitem(last=False)
        return principal

    async def state(self, token: str) -> tuple[str, Principal | None]:
        """Give ``authenticated`` and the principal, or the code of the refusal and None."""
        try:
            return "authenticated", await self.verify(token)
        except TokenRefused as refusal:
            return refusal.code, None

    async def _forget(self, key: str) -> None:
        async with self._database.write() as session:
            await session.execute(delete(AccessToken).where(AccessToken.digest == key))


async def _look_up(session: AsyncSession, key: str) -> tuple[Principal, float]:
    row = await session.get(AccessToken, key)
    client = await session.get(OAuthClient, row.client_guid) if row else None
    user = await session.get(User, client.user_guid) if client else None
    if row is None or client is None or user is None:
        raise InvalidToken()
    if not user.is_active:
        raise UserNotActive()
    return Principal(user.username, user.guid, client.guid, frozenset(row.roles)), row.expires_at
