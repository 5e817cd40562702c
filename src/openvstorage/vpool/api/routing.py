"""Requests that no endpoint takes: unknown paths, other methods, and paths without their slash.

The table is read from the OpenAPI document, which holds every endpoint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openvstorage.vpool.api.envelopes import ApiError, DetailError

__all__ = ["HeadIsGet", "RouteTable"]

_METHODS = ("get", "post", "delete", "put", "patch")


class RouteTable:
    """Which methods each path has.

    :param document: the OpenAPI document.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._routes = [
            (_pattern(path), path, [method.upper() for method in _METHODS if method in operations])
            for path, operations in document["paths"].items()
        ]

    def methods(self, path: str) -> list[str]:
        """:returns: the methods of a path, upper case, with those that always come along; empty if there is none."""
        found = [method for pattern, _, methods in self._routes if pattern.fullmatch(path) for method in methods]
        return _with_implied(found) if found else []

    def template(self, path: str) -> str | None:
        """:returns: the endpoint of a path, as the document writes it; None if there is none."""
        return next((template for pattern, template, _ in self._routes if pattern.fullmatch(path)), None)

    async def answer_not_found(self, request: Request, _error: Exception) -> Response:
        """301 to the path with its slash if there is an endpoint, else 404."""
        path = request.url.path
        if not path.endswith("/") and self.methods(path + "/"):
            query = f"?{request.url.query}" if request.url.query else ""
            return Response(status_code=301, headers={"Location": quote(path + "/") + query})
        return ApiError(404, "no_such_route", "There is nothing at this path").response()

    async def answer_wrong_method(self, request: Request, _error: Exception) -> Response:
        """405, with all methods that the path does have; ``OPTIONS`` asks for just that."""
        allow = {"Allow": ", ".join(self.methods(request.url.path))}
        if request.method == "OPTIONS":
            return Response(status_code=200, headers=allow)
        refusal = DetailError(405, f"Method '{request.method[:16]}' not allowed.")
        return JSONResponse({"detail": refusal.text}, 405, headers=allow)


class HeadIsGet:
    """ASGI layer: answers ``HEAD`` as ``GET`` without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def bodiless(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self.app({**scope, "method": "GET"}, receive, bodiless)


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\\\{[^/]*?\\\}", "[^/]+", re.escape(path)))


def _with_implied(methods: Iterable[str]) -> list[str]:
    known = list(dict.fromkeys(methods))
    return [*known, *(["HEAD"] if "GET" in known else []), "OPTIONS"]
