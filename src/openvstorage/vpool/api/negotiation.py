"""Which version of the API a client speaks: the ``version=`` part of its ``Accept`` header.

The header is matched as a whole, as Open vStorage does: ``application/json; version=3`` and
``application/json; version=*`` pass, ``application/json`` alone does not.
"""

from __future__ import annotations

import re
from typing import Final

from fastapi import Request
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from openvstorage.vpool.api.envelopes import ApiError

__all__ = ["MAX_VERSION", "MIN_VERSION", "VersionNegotiation", "require_version"]

MIN_VERSION: Final = 2
MAX_VERSION: Final = 10
_ACCEPT = re.compile(r"(?:.*; )?version=([0-9]+|\*)(?:;.*)?")
#: Paths below ``/api/`` that need no version.
_EXEMPT = ("/api/oauth2/", "/api/swagger.json", "/api/openapi.json", "/api/metrics")


class VersionNegotiation:
    """ASGI layer: refuses what speaks no version of ours, and leaves the version in the request's state."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        path = scope.get("path", "")
        if (
            scope["type"] != "http"
            or scope["method"] == "OPTIONS"
            or not path.startswith("/api/")
            or path == "/api/"
            or path.startswith(_EXEMPT)
        ):
            await self.app(scope, receive, send)
            return
        try:
            version = negotiate(Headers(scope=scope).get("accept"))
        except ApiError as refusal:
            await refusal.response()(scope, receive, send)
            return
        scope.setdefault("state", {})["version"] = version
        await self.app(scope, receive, send)


def negotiate(accept: str | None) -> int | None:
    """Read an ``Accept`` header.

    :returns: the version asked for, None for the highest one (``*``).
    :raises ApiError: 406 ``missing_header``, 426 ``invalid_version``.
    """
    match = _ACCEPT.fullmatch(accept or "")
    if match is None:
        text = "The Accept header has to name a version, such as: application/json; version=*"
        raise ApiError(406, "missing_header", text)
    if match[1] == "*":
        return None
    return _within(match[1], MAX_VERSION)


def require_version(request: Request, newest: int) -> None:
    """Refuse a call that later versions no longer have; ``*`` reaches it all the same.

    :raises ApiError: 426 ``invalid_version``.
    """
    version = getattr(request.state, "version", None)
    if version is not None:
        _within(str(version), newest)


def _within(version: str, newest: int) -> int:
    if len(version) > 4 or not MIN_VERSION <= int(version) <= newest:
        text = f"This call exists in versions {MIN_VERSION} to {newest} of the API"
        raise ApiError(426, "invalid_version", text)
    return int(version)
