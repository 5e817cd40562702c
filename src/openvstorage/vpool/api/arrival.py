"""Arrival of requests: each has to come whole, in time, and in one way of telling its length.

Uvicorn waits for ever for the rest of a request, and for a minute for a TLS handshake. Requests are small here, so
whoever has not sent one after seconds is silent, broken, or means harm. How long an *answer* takes is another matter:
clients wait a minute for a task.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from openvstorage.vpool.api.envelopes import ApiError

__all__ = ["HANDSHAKE_SECONDS", "REQUEST_SECONDS", "OneLength", "TimelyProtocol", "TimelyServer"]

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 20.0
#: From the end of the handshake, or the first byte on a kept connection, to the last byte of the body.
REQUEST_SECONDS = 30.0
#: How long a closed connection waits for its peer to say the same.
SHUTDOWN_SECONDS = 5.0
_BACKLOG = 2048


class TimelyServer(uvicorn.Server):
    """Uvicorn on sockets that are given to :meth:`serve`, with deadlines for TLS too."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to accept connections."""
        loop, config = asyncio.get_running_loop(), self.config

        def protocol() -> TimelyProtocol:
            return TimelyProtocol(config, self.server_state, self.lifespan.state)

        await self.lifespan.startup()
        self.servers = [
            await loop.create_server(
                protocol,
                sock=listener,
                ssl=config.ssl,
                backlog=_BACKLOG,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if config.ssl else None,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS if config.ssl else None,
            )
            for listener in sockets or []
        ]
        self.started = True


class TimelyProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1, with a deadline for the arrival of a request."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The handshake is done: the first request is due."""
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing more comes."""
        self._stop_expecting()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Take what has come, and see whether more has to."""
        super().handle_events()
        if not self._arriving():
            self._stop_expecting()
        elif self._deadline is None and not self.transport.is_closing():
            self._expect()

    def _arriving(self) -> bool:
        """Whether a request has begun and is not whole."""
        state = self.conn.their_state
        return state is h11.SEND_BODY or (state is h11.IDLE and bool(self.conn.trailing_data[0]))

    def _expect(self) -> None:
        self._deadline = self.loop.call_later(REQUEST_SECONDS, self._too_late)

    def _stop_expecting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_late(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self.flow.read_paused:  # it is we who have not taken what is there
            self._expect()
            return
        log.info("the request of %s has not come within %.0f seconds", self.client, REQUEST_SECONDS)
        if self._arriving() and self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            self._answer_late()
        self.transport.abort()

    def _answer_late(self) -> None:
        refusal = ApiError(408, "request_timeout", f"The request did not come within {REQUEST_SECONDS:.0f} seconds")
        answer = refusal.response()
        headers = [*answer.raw_headers, (b"connection", b"close")]
        for event in (
            h11.Response(status_code=408, headers=headers, reason=b"Request Timeout"),
            h11.Data(data=bytes(answer.body)),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")


class OneLength:
    """Layer that refuses a request which tells its length twice: two readers of it could see two different requests.

    HTTP lets ``Transfer-Encoding`` win over ``Content-Length``, and a proxy before us may not know that.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        names: set[Any] = {name for name, _ in scope["headers"]} if scope["type"] == "http" else set()
        if {b"content-length", b"transfer-encoding"} <= names:
            text = "A request has either Content-Length or Transfer-Encoding"
            refusal = ApiError(400, "invalid_data", text).response()
            refusal.headers["connection"] = "close"
            await refusal(scope, receive, send)
            return
        await self.app(scope, receive, send)
