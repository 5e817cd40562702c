"""The application: every resource below ``/api/``, and the layers around them."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException

from openvstorage import __version__
from openvstorage.vpool.access.errors import LoginRefused, RateLimited, TokenRefused
from openvstorage.vpool.api import (
    cluster,
    envelopes,
    grant_resolve,
    grants,
    metadata,
    metrics,
    tasks,
    tokens,
    vdisk_actions,
    vdisks,
    vpools,
)
from openvstorage.vpool.api.arrival import OneLength
from openvstorage.vpool.api.context import ApiContext
from openvstorage.vpool.api.documented import ERRORS
from openvstorage.vpool.api.negotiation import VersionNegotiation
from openvstorage.vpool.api.routing import HeadIsGet, RouteTable
from openvstorage.vpool.api.submission import AlreadySubmitted, answer_already_submitted
from openvstorage.vpool.operations.errors import ServiceStops

__all__ = ["create_app"]

DESCRIPTION = """The management API of a vPool: Open vStorage's, with extensions beside it.

Every request but those for a token, for this document and for `GET /api/` names the version it speaks, from 2 to 10 or
`*` for the newest: `Accept: application/json; version=*`.
Calls that change something answer the id of a task; `GET /api/tasks/<id>/` tells what became of it.
"""
RESOURCES = (metadata, tokens, vdisks, vdisk_actions, vpools, cluster, grants, grant_resolve, tasks)


def create_app(context: ApiContext) -> FastAPI:
    """Make the ASGI application.

    :param context: what it serves; the application starts and stops nothing of it.
    """
    app = FastAPI(
        title="Open vStorage vPool",
        version=__version__,
        description=DESCRIPTION,
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        responses=ERRORS,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.context = context
    api = APIRouter(prefix="/api", redirect_slashes=False)
    for resource in RESOURCES:
        api.include_router(resource.router)
    app.include_router(api)
    app.add_api_route("/api/swagger.json", _swagger, include_in_schema=False)
    app.include_router(metrics.router)
    app.state.metrics = CollectorRegistry()
    routes = RouteTable(app.openapi())
    _answer_errors(app, routes)
    for layer in (HeadIsGet, VersionNegotiation, OneLength, envelopes.ErrorGuard):  # the last is outermost
        app.add_middleware(layer)
    app.add_middleware(metrics.RequestMetrics, template=routes.template, registry=app.state.metrics)
    return app


def _answer_errors(app: FastAPI, routes: RouteTable) -> None:
    async def http_error(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        if error.status_code == 404:
            return await routes.answer_not_found(request, error)
        if error.status_code == 405:
            return await routes.answer_wrong_method(request, error)
        return await envelopes.answer_http_exception(request, error)

    handlers: dict[Any, Any] = {
        HTTPException: http_error,
        envelopes.ApiError: envelopes.answer_api_error,
        LoginRefused: envelopes.answer_login_refused,
        TokenRefused: envelopes.answer_token_refused,
        ServiceStops: envelopes.answer_service_stops,
        RateLimited: envelopes.answer_rate_limited,
        AlreadySubmitted: answer_already_submitted,
    }
    for kind, handler in handlers.items():
        app.add_exception_handler(kind, handler)


async def _swagger(request: Request) -> Response:
    """The document under the name that Open vStorage gives it."""
    return JSONResponse(request.app.openapi())
