"""Secrets the service makes itself: tokens, client secrets and first passwords."""

from __future__ import annotations

import hashlib
import secrets
import string

__all__ = ["digest", "new_password", "new_secret", "new_token"]

#: Open vStorage's alphabet of tokens, without its quotes; never a space.
TOKEN_ALPHABET = string.ascii_letters + string.digits + "|_=+*#@!/-[]{}<>.?,;:~"
TOKEN_LENGTH = 64
_PASSWORD_ALPHABET = string.ascii_letters + string.digits
_PASSWORD_LENGTH = 32


def new_token() -> str:
    """:returns: 64 random characters of the token alphabet (about 410 bits)."""
    return "".join(secrets.choice(TOKEN_ALPHABET) for _ in range(TOKEN_LENGTH))


def new_secret() -> str:
    """:returns: a client secret, of the same form as a token."""
    return new_token()


def new_password() -> str:
    """:returns: 32 letters and digits, which no shell, URL or configuration file needs to quote."""
    return "".join(secrets.choice(_PASSWORD_ALPHABET) for _ in range(_PASSWORD_LENGTH))


def digest(token: str) -> str:
    """:returns: the SHA-256 hex digest under which a token is kept."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()
