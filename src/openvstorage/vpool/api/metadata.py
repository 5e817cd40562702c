"""``GET /api/``: what this service is and can do, for anybody, and who the caller is to it."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy import select

from openvstorage.vpool.access.tokens import Principal
from openvstorage.vpool.api.caller import bearer_token
from openvstorage.vpool.api.context import context_of
from openvstorage.vpool.api.documented import answers
from openvstorage.vpool.api.envelopes import ApiError
from openvstorage.vpool.api.negotiation import MAX_VERSION, MIN_VERSION
from openvstorage.vpool.api.shapes import MetadataShape
from openvstorage.vpool.api.tokens import client_address
from openvstorage.vpool.model.cluster import StorageRouter

__all__ = ["FEATURES", "router"]

router = APIRouter(tags=["metadata"])

#: What is here beside Open vStorage's contract; clients look for these words instead of comparing versions.
FEATURES = (
    "atomic_group_snapshots",
    "capacity",
    "clone_size",
    "durability",
    "error_codes",
    "grants",
    "idempotency_keys",
    "internal_snapshots",
    "keep_newer",
    "qos",
    "shared_grants",
    "task_wait",
)


@router.get("/", **answers(MetadataShape, "Always, even with a bad token"))
async def show_metadata(request: Request) -> Response:
    """Tell versions, nodes and extensions."""
    context = context_of(request)
    context.metadata_limiter.check(client_address(request))
    state, principal = await _authentication(request)
    async with context.db.read() as session:
        ips = list(await session.scalars(select(StorageRouter.ip).order_by(StorageRouter.ip)))
    return JSONResponse(
        {
            "release": {"name": context.settings.release},
            "authenticated": principal is not None,
            "authentication_state": state,
            "authentication_metadata": {"ip": request.url.hostname},
            "username": principal.username if principal else None,
            "userguid": principal.user_guid if principal else None,
            "roles": sorted(principal.roles) if principal else [],
            "identification": {"cluster_id": context.settings.cluster_id},
            "storagerouter_ips": ips,
            "versions": list(range(MIN_VERSION, MAX_VERSION + 1)),
            "plugins": {"openvstorage_openstack": list(FEATURES)},
        }
    )


async def _authentication(request: Request) -> tuple[str, Principal | None]:
    try:
        token = bearer_token(request)
    except ApiError as refusal:
        return refusal.code, None
    if token is None:
        return "unauthenticated", None
    return await context_of(request).tokens.state(token)
