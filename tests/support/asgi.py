"""Calls an ASGI application directly, with exactly the bytes a test gives."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

VERSIONED = "application/json; version=*"


@dataclass(frozen=True)
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class AsgiClient:
    """A client of one application; ``token`` is sent as bearer unless a header says otherwise."""

    def __init__(self, app: ASGIApp, token: str | None = None, address: str = "192.0.2.1") -> None:
        self.app, self.token, self.address = app, token, address

    async def __call__(
        self,
        method: str,
        target: str,
        *,
        json_body: Any = ...,
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """Send a request; ``headers`` replace the usual ones, an empty value leaves one out."""
        sent = {"accept": VERSIONED, "host": "vpool.example"}
        if self.token is not None:
            sent["authorization"] = f"Bearer {self.token}"
        if json_body is not ...:
            body = json.dumps(json_body).encode()
            sent["content-type"] = "application/json"
        sent.update({name.lower(): value for name, value in (headers or {}).items()})
        path, _, query = target.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "https",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in sent.items() if value],
            "client": (self.address, 40000),
            "server": ("vpool.example", 443),
            "state": {},
        }
        answers: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            answers.append(message)

        await self.app(scope, receive, send)
        start = answers[0]
        content = b"".join(message.get("body", b"") for message in answers[1:])
        return Answer(start["status"], {name.decode(): value.decode() for name, value in start["headers"]}, content)
