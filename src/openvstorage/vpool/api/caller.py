"""Who is calling: the bearer token of a request, and the roles a call needs.

A call needs all roles it names. Without any ``Authorization`` header the answer is 403, with a bad one 401: existing
clients log in again on either.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import HTTPBearer

from openvstorage.vpool.access.roles import Role
from openvstorage.vpool.access.tokens import Principal
from openvstorage.vpool.api.context import context_of
from openvstorage.vpool.api.envelopes import ApiError, DetailError

__all__ = ["MANAGES", "READS", "VIEWS", "WRITES", "bearer_token"]

# Only documents the scheme; what it would refuse, bearer_token() refuses in the contract's way.
_scheme = HTTPBearer(auto_error=False, scheme_name="token", description="A token of POST /api/oauth2/token/")


def bearer_token(request: Request) -> str | None:
    """:returns: the token of a request; None if there is no ``Authorization`` header.

    :raises ApiError: 401 ``invalid_authorization_type``.
    """
    header = request.headers.get("authorization")
    if header is None:
        return None
    parts = header.split(" ")
    if len(parts) != 2 or parts[0] != "Bearer":
        raise ApiError(401, "invalid_authorization_type", "The Authorization header has to be: Bearer <token>")
    return parts[1]


def requires(*roles: Role) -> Callable[..., Awaitable[Principal]]:
    """Make a dependency that lets a request in.

    :param roles: what the token needs, all of them.
    :returns: a dependency that gives the principal and leaves it in the request's state.
    """

    async def dependency(request: Request, _documented: Annotated[object, Security(_scheme)] = None) -> Principal:
        token = bearer_token(request)
        if token is None:
            raise DetailError(403, "Authentication credentials were not provided.")
        principal = await context_of(request).tokens.verify(token)
        missing = [role for role in roles if role not in principal.roles]
        if missing:
            raise ApiError(403, "invalid_roles", f"This call needs the role {missing[0]}")
        request.state.principal = principal
        return principal

    return dependency


READS = Depends(requires(Role.READ))
VIEWS = Depends(requires(Role.READ, Role.MANAGE))
WRITES = Depends(requires(Role.READ, Role.WRITE))
MANAGES = Depends(requires(Role.READ, Role.WRITE, Role.MANAGE))
