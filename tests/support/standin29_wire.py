"""A wire without a network and a clock without time, for tests of what the client does between calls."""

import json
from collections.abc import Callable, Mapping
from typing import Any

from openvstorage.client.caller import Caller
from openvstorage.client.credentials import PasswordCredentials
from openvstorage.client.endpoints import Endpoints
from openvstorage.client.tokens import TokenCache, Tokens
from openvstorage.client.wire import Answer, Request

Reply = Answer | Exception


class FakeClock:
    """Time that passes only when somebody sleeps, or when a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def answer(body: Any = None, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """Give an answer with a JSON body."""
    return Answer(status, headers or {}, json.dumps(body).encode())


def refusal(status: int, code: str, text: str = "no") -> Answer:
    """Give an answer with the API's error object."""
    return answer({"error": code, "error_description": text}, status)


class ScriptedWire:
    """Answers the root and the token requests by itself, and all else as the test's function says.

    :ivar sent: (endpoint, request) of every resource request.
    :ivar token_requests: the endpoints of the token requests.
    """

    def __init__(self, reply: Callable[[str, Request], Reply], features: list[str] | None = None) -> None:
        self._reply = reply
        self.features = features
        self.sent: list[tuple[str, Request]] = []
        self.token_requests: list[str] = []
        self.root_requests = 0
        self.holds: list[float] = []
        self.token_reply: Callable[[str], Reply] = lambda endpoint: answer(
            {"access_token": f"token{len(self.token_requests)}", "token_type": "bearer", "expires_in": 3600}
        )

    def exchange(self, endpoint: str, request: Request, extra_seconds: float = 0.0) -> Answer:
        if request.path == "oauth2/token/":
            self.token_requests.append(endpoint)
            return _given(self.token_reply(endpoint))
        if request.path == "":
            self.root_requests += 1
            plugins = {} if self.features is None else {"openvstorage_openstack": self.features}
            return answer({"versions": [2, 3], "plugins": plugins})
        self.sent.append((endpoint, request))
        self.holds.append(extra_seconds)
        return _given(self._reply(endpoint, request))


def _given(reply: Reply) -> Answer:
    if isinstance(reply, Exception):
        raise reply
    return reply


def caller(wire: ScriptedWire, clock: FakeClock, hosts: int = 2, patience: float = 10.0) -> Caller:
    """Give a caller over ``hosts`` addresses named https://nodeN:443/api."""
    endpoints = Endpoints([f"node{number}" for number in range(1, hosts + 1)], 443)
    tokens = Tokens(wire, PasswordCredentials("admin", "secret"), clock, TokenCache())  # type: ignore[arg-type]
    return Caller(endpoints, wire, tokens, clock, patience)  # type: ignore[arg-type]
