"""Passwords: argon2id hashes, made and checked outside the event loop.

One check takes tens of milliseconds and 64 MiB on purpose, so only two run at a time; the others wait.
"""

from __future__ import annotations

import asyncio
import functools
import threading

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError, VerifyMismatchError

__all__ = ["hash_password", "verify_password"]

_hasher = PasswordHasher()
_slots = threading.BoundedSemaphore(2)


async def hash_password(password: str) -> str:
    """Hash a password.

    :param password: any text.
    :returns: argon2id's text form, with its own salt and parameters.
    """
    return await asyncio.to_thread(_hash, password)


async def verify_password(password_hash: str | None, password: str) -> bool:
    """Say whether a password is the one that was hashed.

    :param password_hash: what :func:`hash_password` gave; None when there is nobody: takes as long, and is False.
    :param password: the candidate.
    """
    return await asyncio.to_thread(_verify, password_hash, password)


@functools.cache
def _nobody() -> str:
    # Checked for a user who does not exist, so that the time taken does not tell who does.
    return _hasher.hash("nobody has this password")


def _hash(password: str) -> str:
    with _slots:
        return _hasher.hash(password)


def _verify(password_hash: str | None, password: str) -> bool:
    with _slots:
        try:
            right = _hasher.verify(password_hash or _nobody(), password.encode("utf-8", "surrogatepass"))
        except (VerifyMismatchError, VerificationError, InvalidHashError):
            return False
    return right and password_hash is not None
