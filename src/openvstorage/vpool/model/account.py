"""Users, OAuth2 clients and access tokens. Secrets are kept as hashes only."""

from __future__ import annotations

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from openvstorage.vpool.model.base import Base, Guid, GuidKey, new_guid


class User(Base):
    """Someone who may log in.

    :ivar group: ``administrators`` (read, write, manage) or ``viewers`` (read).
    :ivar password_hash: argon2id, in its own text form.
    """

    __tablename__ = "user"

    guid: Mapped[GuidKey] = mapped_column(default=new_guid)
    username: Mapped[str] = mapped_column(String(255), unique=True)
    group: Mapped[str] = mapped_column(String(32), default="administrators")
    password_hash: Mapped[str] = mapped_column(String(255))
    is_active: Mapped[bool] = mapped_column(default=True)


class OAuthClient(Base):
    """A client of a user: the internal one for password logins, or one with a secret of its own.

    :ivar ovs_type: ``INTERNAL`` or ``USER``; ``grant_type``: ``PASSWORD`` or ``CLIENT_CREDENTIALS``.
    :ivar roles: role codes it may ask for.
    """

    __tablename__ = "oauth_client"

    guid: Mapped[GuidKey] = mapped_column(default=new_guid)
    user_guid: Mapped[Guid] = mapped_column(ForeignKey("user.guid", ondelete="CASCADE"), index=True)
    name: Mapped[str | None] = mapped_column(String(255))
    secret_hash: Mapped[str | None] = mapped_column(String(255))
    ovs_type: Mapped[str] = mapped_column(String(16))
    grant_type: Mapped[str] = mapped_column(String(32))
    roles: Mapped[list[str]]


class AccessToken(Base):
    """A bearer token, known by its SHA-256 digest only.

    :ivar expires_at: unix time.
    """

    __tablename__ = "access_token"

    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    client_guid: Mapped[Guid] = mapped_column(ForeignKey("oauth_client.guid", ondelete="CASCADE"), index=True)
    roles: Mapped[list[str]]
    expires_at: Mapped[float] = mapped_column(index=True)
