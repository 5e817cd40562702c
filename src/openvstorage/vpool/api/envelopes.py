"""Errors as clients see them: ``{"error": word, "error_description": sentence}``, or the shapes of Open vStorage's
web framework (``{"detail": sentence}``) where existing clients get those.

The words are Open vStorage's, one of them for many reasons. Where an operation would be refused for the same reason,
its code stands beside the word as ``error_code``.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openvstorage.contract.codes import ErrorCode
from openvstorage.vpool.access.errors import LoginRefused, RateLimited, TokenRefused
from openvstorage.vpool.operations.errors import ServiceStops

__all__ = [
    "ApiError",
    "DetailError",
    "ErrorGuard",
    "answer_login_refused",
    "answer_rate_limited",
    "answer_service_stops",
    "answer_token_refused",
    "duplicate_key",
    "impossible",
    "in_use",
    "invalid",
    "invalid_query",
    "not_found",
]

log = logging.getLogger(__name__)


class ApiError(Exception):
    """An answer other than the one hoped for.

    :param status: HTTP status; ``code`` is the contract's word for it; ``text`` one sentence for a person.
    :param reason: what an operation would say; None where no operation is refused for this.
    """

    def __init__(self, status: int, code: str, text: str, reason: str | None = None) -> None:
        super().__init__(text)
        self.status, self.code, self.text, self.reason = status, code, text, reason

    def response(self) -> Response:
        """:returns: the answer."""
        return _answer(self.status, self.code, self.text, reason=self.reason)


class DetailError(ApiError):
    """The same in the other shape, ``{"detail": ...}``."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, "", text)

    def response(self) -> Response:
        """:returns: the answer."""
        return JSONResponse({"detail": self.text}, self.status)


def not_found(what: str, guid: str | None = None) -> ApiError:
    """:returns: 404 for an object that a path or a body names; the guid is repeated only if it is one.

    Its word is for this one reason, and existing clients know exactly two keys here, so it has no code beside it.
    """
    return ApiError(404, "object_not_found", f"{what} {guid} does not exist" if guid else f"No such {what}")


def invalid(text: str) -> ApiError:
    """:returns: 406 ``invalid_data``: a parameter is missing or can not be meant."""
    return ApiError(406, "invalid_data", text)


def invalid_query(text: str) -> ApiError:
    """:returns: 400 ``invalid_data``: a list was asked for in a way that can not be understood."""
    return ApiError(400, "invalid_data", text)


def impossible(text: str, reason: str | None = None) -> ApiError:
    """:returns: 406 ``impossible_request``."""
    return ApiError(406, "impossible_request", text, reason)


def in_use(text: str) -> ApiError:
    """:returns: 406 ``in_use``: a vDisk has grants."""
    return ApiError(406, "in_use", text, ErrorCode.VDISK_IN_USE)


def duplicate_key() -> ApiError:
    """:returns: 409: the idempotency key belongs to another request."""
    text = "This Idempotency-Key was sent with another request before"
    return ApiError(409, "idempotency_conflict", text, ErrorCode.IDEMPOTENCY_CONFLICT)


async def answer_api_error(_request: Request, error: Exception) -> Response:
    """Answer an :class:`ApiError`."""
    assert isinstance(error, ApiError)
    return error.response()


async def answer_login_refused(_request: Request, error: Exception) -> Response:
    """400, not 401: that is what Open vStorage's clients expect of wrong credentials."""
    assert isinstance(error, LoginRefused)
    return _answer(400, error.code, str(error))


async def answer_token_refused(_request: Request, error: Exception) -> Response:
    """401: the client logs in again."""
    assert isinstance(error, TokenRefused)
    return _answer(401, error.code, str(error), {"WWW-Authenticate": "Bearer"})


async def answer_rate_limited(_request: Request, error: Exception) -> Response:
    """429 with the time to wait."""
    assert isinstance(error, RateLimited)
    return _answer(429, error.code, str(error), {"Retry-After": str(error.retry_after)})


async def answer_service_stops(_request: Request, error: Exception) -> Response:
    """503: clients ask again, here or at another address."""
    return _stopping(str(error))


async def answer_http_exception(_request: Request, error: Exception) -> Response:
    """What the framework itself refuses, such as a broken multipart body."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"detail": str(error.detail)}, error.status_code, headers=error.headers)


class ErrorGuard:
    """Outermost layer: whatever nobody expected becomes a 500 in the envelope, its details go to the log only.

    A request that the end of the service cuts off is answered 503: it was not wrong, and may be sent again.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        started = False

        async def watch(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, receive, watch)
        except ClientDisconnect:
            log.info("%s %s: the client went away before it had sent all", scope["method"], scope["path"])
        except Exception:
            if scope["type"] != "http" or started:
                raise
            log.exception("%s %s failed", scope["method"], scope["path"])
            text = "The service failed to answer this request; its log says why"
            await _answer(500, "internal_server", text)(scope, receive, send)
        except asyncio.CancelledError:
            if scope["type"] != "http" or started:
                raise
            await _stopping(str(ServiceStops()))(scope, receive, send)


def _stopping(text: str) -> Response:
    return _answer(503, "service_unavailable", text, {"Retry-After": "1"})


def _answer(
    status: int, code: str, text: str, headers: Mapping[str, str] | None = None, reason: str | None = None
) -> Response:
    said = {"error": code, "error_description": text}
    if reason is not None:
        said["error_code"] = reason
    return JSONResponse(said, status, headers=headers)
