"""Accounts: users, their OAuth2 clients, and the check of their credentials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.access.errors import (
    InactiveUser,
    InvalidClient,
    InvalidGrant,
    InvalidScope,
    UnauthorizedClient,
    UserExists,
)
from openvstorage.vpool.access.passwords import hash_password, verify_password
from openvstorage.vpool.access.roles import GROUPS, Role
from openvstorage.vpool.access.secrets import new_secret
from openvstorage.vpool.model.account import OAuthClient, User
from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.database import Database

__all__ = ["Accounts", "Login", "NewClient"]

INTERNAL, PASSWORD = "INTERNAL", "PASSWORD"
USER, CLIENT_CREDENTIALS = "USER", "CLIENT_CREDENTIALS"
#: Longest user name, password or secret that is looked at; longer ones are wrong without being hashed.
LONGEST = 255


@dataclass(frozen=True, slots=True)
class Login:
    """Credentials that were found right.

    :ivar client_guid: the OAuth2 client that the token will belong to.
    :ivar roles: all roles that the client may ask for.
    :ivar by_password: whether a person's password was used, and not a client's secret.
    """

    username: str
    user_guid: str
    client_guid: str
    roles: tuple[str, ...]
    by_password: bool

    def scope(self, asked: str | None) -> tuple[str, ...]:
        """Give the roles for a token.

        :param asked: role codes separated by spaces; None for all that the client has.
        :raises InvalidScope: a role is asked for that the client does not have.
        """
        if asked is None:
            return self.roles
        wanted = tuple(dict.fromkeys(asked.split()))
        for role in wanted:
            if role not in self.roles:
                raise InvalidScope(role=role[:32])
        return wanted


@dataclass(frozen=True, slots=True)
class NewClient:
    """An OAuth2 client just made; its secret is told this once.

    :ivar secret: not shown in the representation.
    """

    guid: str
    secret: str

    def __repr__(self) -> str:
        return f"NewClient(guid={self.guid!r}, secret=<hidden>)"


class Accounts:
    """The users and OAuth2 clients of the pool. Nothing is kept in memory.

    :param database: where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create_user(self, username: str, password: str, group: str = "administrators") -> str:
        """Make a user who can log in by password.

        :param group: ``administrators`` (read, write, manage) or ``viewers`` (read).
        :returns: the user's guid.
        :raises UserExists: the name is taken.
        :raises KeyError: no such group.
        """
        roles = GROUPS[group]
        password_hash = await hash_password(password)
        async with self._database.write() as session:
            if await _user(session, username) is not None:
                raise UserExists(username=username)
            user = User(guid=new_guid(), username=username, group=group, password_hash=password_hash, is_active=True)
            session.add(user)
            await session.flush()
            session.add(_client(user.guid, INTERNAL, PASSWORD, roles))
        return user.guid

    async def exists(self, username: str) -> bool:
        """:returns: whether there is a user of that name."""
        async with self._database.read() as session:
            return await _user(session, username) is not None

    async def set_password(self, username: str, password: str) -> None:
        """Give a user another password; tokens issued before stay valid until they expire.

        :raises InvalidClient: no such user.
        """
        password_hash = await hash_password(password)
        async with self._database.write() as session:
            (await _known_user(session, username)).password_hash = password_hash

    async def set_active(self, username: str, active: bool) -> None:
        """Switch a user on or off; off also refuses the tokens issued before.

        :raises InvalidClient: no such user.
        """
        async with self._database.write() as session:
            (await _known_user(session, username)).is_active = active

    async def create_client(self, username: str, name: str, roles: Sequence[str] | None = None) -> NewClient:
        """Make an OAuth2 client for the ``client_credentials`` grant.

        :param roles: role codes; None for all of the user's group.
        :returns: its guid and secret; only a hash of the secret is kept.
        :raises InvalidClient: no such user.
        :raises InvalidScope: a role that the user does not have.
        """
        secret = new_secret()
        secret_hash = await hash_password(secret)
        async with self._database.write() as session:
            user = await _known_user(session, username)
            allowed = GROUPS[user.group]
            wanted = [Role(role) for role in allowed] if roles is None else list(roles)
            for role in wanted:
                if role not in allowed:
                    raise InvalidScope(role=role)
            client = _client(user.guid, USER, CLIENT_CREDENTIALS, wanted)
            client.name, client.secret_hash = name, secret_hash
            session.add(client)
        return NewClient(guid=client.guid, secret=secret)

    async def by_password(self, username: str, password: str) -> Login:
        """Check a user name and password; takes as long for a name that does not exist.

        :raises InvalidClient: the name or the password is wrong.
        :raises InactiveUser: the user is switched off.
        :raises UnauthorizedClient: the user may not log in by password.
        """
        async with self._database.read() as session:
            user = await _user(session, username) if _sane(username, password) else None
            clients = await _password_clients(session, user.guid) if user else []
        if not await verify_password(user.password_hash if user else None, password[:LONGEST]) or user is None:
            raise InvalidClient()
        if not user.is_active:
            raise InactiveUser()
        if len(clients) != 1:
            raise UnauthorizedClient()
        return Login(user.username, user.guid, clients[0].guid, tuple(clients[0].roles), by_password=True)

    async def by_secret(self, client_guid: str, secret: str) -> Login:
        """Check an OAuth2 client's guid and secret.

        :raises InvalidClient: the guid or the secret is wrong.
        :raises InvalidGrant: the client is not one for this grant.
        :raises InactiveUser: its user is switched off.
        """
        async with self._database.read() as session:
            client = await session.get(OAuthClient, client_guid) if _sane(client_guid, secret) else None
            user = await session.get(User, client.user_guid) if client else None
        if client is not None and client.grant_type != CLIENT_CREDENTIALS:
            raise InvalidGrant()
        right = await verify_password(client.secret_hash if client else None, secret[:LONGEST])
        if not right or client is None or user is None:
            raise InvalidClient()
        if not user.is_active:
            raise InactiveUser()
        return Login(user.username, user.guid, client.guid, tuple(client.roles), by_password=False)


def _sane(*texts: str) -> bool:
    # A database refuses NUL and lone surrogates with errors of its own; nobody has such a name or secret.
    return all(
        len(text) <= LONGEST and "\0" not in text and not any(0xD800 <= ord(c) <= 0xDFFF for c in text)
        for text in texts
    )


def _client(user_guid: str, ovs_type: str, grant_type: str, roles: Sequence[str]) -> OAuthClient:
    return OAuthClient(
        guid=new_guid(), user_guid=user_guid, ovs_type=ovs_type, grant_type=grant_type, roles=[str(r) for r in roles]
    )


async def _user(session: AsyncSession, username: str) -> User | None:
    return (await session.execute(select(User).where(User.username == username))).scalar_one_or_none()


async def _known_user(session: AsyncSession, username: str) -> User:
    user = await _user(session, username)
    if user is None:
        raise InvalidClient()
    return user


async def _password_clients(session: AsyncSession, user_guid: str) -> Sequence[OAuthClient]:
    wanted = select(OAuthClient).where(
        OAuthClient.user_guid == user_guid,
        OAuthClient.ovs_type == INTERNAL,
        OAuthClient.grant_type == PASSWORD,
    )
    return (await session.execute(wanted)).scalars().all()
