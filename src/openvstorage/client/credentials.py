"""Credentials: the two ways in which a cluster lets a client prove who it is."""

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["ClientCredentials", "Credentials", "PasswordCredentials"]


class Credentials(Protocol):
    """What is needed to ask for a token. Implementations keep secrets out of their ``repr``."""

    @property
    def who(self) -> str:
        """The user or client, for messages; no secret."""

    def form(self) -> dict[str, str]:
        """Give the form fields of the token request."""

    def headers(self) -> dict[str, str]:
        """Give the extra headers of the token request."""

    def fingerprint(self) -> str:
        """Give a digest that differs as soon as anything of the credentials differs."""


@dataclass(frozen=True, slots=True)
class PasswordCredentials:
    """A user and a password (OAuth 2 grant ``password``)."""

    username: str
    password: str = field(repr=False)

    @property
    def who(self) -> str:
        """The user's name."""
        return self.username

    def form(self) -> dict[str, str]:
        """Give the form fields of the token request: grant type, name and password."""
        return {"grant_type": "password", "username": self.username, "password": self.password}

    def headers(self) -> dict[str, str]:
        """Give no headers."""
        return {}

    def fingerprint(self) -> str:
        """Give a digest over name and password."""
        return _digest("password", self.username, self.password)


@dataclass(frozen=True, slots=True)
class ClientCredentials:
    """An OAuth 2 client of the cluster (grant ``client_credentials``), which is made for programs."""

    client_id: str
    client_secret: str = field(repr=False)

    @property
    def who(self) -> str:
        """The client's id."""
        return self.client_id

    def form(self) -> dict[str, str]:
        """Give the form fields of the token request: the grant type."""
        return {"grant_type": "client_credentials"}

    def headers(self) -> dict[str, str]:
        """Give the basic authorisation with id and secret."""
        pair = base64.b64encode(f"{self.client_id}:{self.client_secret}".encode()).decode()
        return {"Authorization": f"Basic {pair}"}

    def fingerprint(self) -> str:
        """Give a digest over id and secret."""
        return _digest("client_credentials", self.client_id, self.client_secret)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
