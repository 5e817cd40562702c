"""``POST /api/grants/<guid>/resolve/``: where a grant is served now, for the host that holds it.

A hypervisor has no account here. It asks each time before it starts a guest, with the grant's own secret, which came
to it with the attachment; the answer comes when the vDisk is being served.
"""

from __future__ import annotations

import logging
from typing import Annotated

from fastapi import APIRouter, Request, Security
from fastapi.responses import JSONResponse, Response
from fastapi.security.http import HTTPBase

from openvstorage.vpool.api.context import ApiContext, context_of
from openvstorage.vpool.api.documented import answers
from openvstorage.vpool.api.envelopes import ApiError, DetailError, not_found
from openvstorage.vpool.api.kinds.grant import GRANT
from openvstorage.vpool.api.lookup import find, show
from openvstorage.vpool.api.shapes import GrantLocationShape
from openvstorage.vpool.api.tokens import client_address
from openvstorage.vpool.backends.base import BackendError
from openvstorage.vpool.exports.errors import ExportsError
from openvstorage.vpool.model.export import Grant, GrantState
from openvstorage.vpool.operations.errors import OperationError

router = APIRouter(prefix="/grants", tags=["grants"])

log = logging.getLogger(__name__)

# Only documents the scheme; what is refused is refused below, in the contract's way.
_scheme = HTTPBase(scheme="Grant", auto_error=False, scheme_name="grant", description="`secret` of a new grant")


@router.post("/{grant_guid}/resolve/", **answers(GrantLocationShape, "Where the grant is served; it is up"))
async def resolve_grant(
    request: Request, grant_guid: str, _documented: Annotated[object, Security(_scheme)] = None
) -> Response:
    """Tell the holder of a grant where to connect, once its vDisk is served. Needs the grant's secret, no token."""
    context = context_of(request)
    context.resolve_limiter.check(client_address(request))
    if not await context.grant_secrets.match(grant_guid, _secret_of(request)):
        raise ApiError(401, "invalid_secret", "This is not the secret of this grant")
    grant = await _live(context, grant_guid)
    try:
        await context.operations.ensure_served(grant.vdisk_guid)
    except (BackendError, ExportsError, OperationError) as error:
        log.error("grant %s: its vDisk can not be served: %s", grant_guid, error)
        raise ApiError(503, "not_served", f"The vDisk can not be served now: {error}") from error
    await _live(context, grant_guid)
    shown = await show(context, GRANT, grant_guid, "")
    return JSONResponse({name: shown[name] for name in GrantLocationShape.model_fields})


def _secret_of(request: Request) -> str:
    header = request.headers.get("authorization")
    if header is None:
        raise DetailError(403, "Authentication credentials were not provided.")
    scheme, _, secret = header.partition(" ")
    if scheme != "Grant" or not secret:
        raise ApiError(401, "invalid_authorization_type", "The Authorization header has to be: Grant <secret>")
    return secret


async def _live(context: ApiContext, guid: str) -> Grant:
    """Find a grant that nobody has begun to revoke: its export is not opened again."""
    grant: Grant = await find(context, GRANT, guid)
    if grant.state == GrantState.REVOKING:
        raise not_found("grant", guid)
    return grant
