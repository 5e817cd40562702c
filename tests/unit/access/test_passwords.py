"""Passwords are kept as argon2id hashes of their own salt."""

from __future__ import annotations

from openvstorage.vpool.access.passwords import hash_password, verify_password


async def test_hash_is_argon2id_and_salted() -> None:
    first, second = await hash_password("right horse"), await hash_password("right horse")
    assert first.startswith("$argon2id$")
    assert first != second
    assert await verify_password(first, "right horse")
    assert not await verify_password(first, "right hors")


async def test_nobody_has_no_password() -> None:
    assert not await verify_password(None, "nobody has this password")
    assert not await verify_password("not a hash", "x")
