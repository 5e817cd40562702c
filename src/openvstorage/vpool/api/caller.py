"""Who is calling: the bearer token of a request, and the roles a call needs.

A call needs all roles it names. Without any ``Authorization`` header the answer is 403, with a bad one 401: existing
clients log in again on either.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import Request, Security
from fastapi.security import HTTPBearer, SecurityScopes

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


async def caller(
    request: Request, needed: SecurityScopes, _documented: Annotated[object, Security(_scheme)] = None
) -> Principal:
    """Dependency that lets a request in; its scopes are the roles that the token needs, all of them.

    :returns: the principal, who is also left in the request's state.
    :raises ApiError: 403, no token or a role is missing; 401, the header is not a bearer's.
    :raises TokenRefused: 401.
    """
    token = bearer_token(request)
    if token is None:
        raise DetailError(403, "Authentication credentials were not provided.")
    principal = await context_of(request).tokens.verify(token)
    missing = [role for role in needed.scopes if role not in principal.roles]
    if missing:
        raise ApiError(403, "invalid_roles", f"This call needs the role {missing[0]}")
    request.state.principal = principal
    return principal


READS = Security(caller, scopes=[Role.READ])
VIEWS = Security(caller, scopes=[Role.READ, Role.MANAGE])
WRITES = Security(caller, scopes=[Role.READ, Role.WRITE])
MANAGES = Security(caller, scopes=[Role.READ, Role.WRITE, Role.MANAGE])
