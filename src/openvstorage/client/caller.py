"""The caller: one API call, carried through tokens, rate limits and dying management addresses to its answer.

What may be repeated: reading always; a change only if it carries an idempotency key, or if it was certainly never
sent. The pauses between rounds over the addresses give a restarting service the time to come back.
"""

import json
import logging
import uuid
from collections.abc import Mapping
from typing import Any

from openvstorage.client import failures
from openvstorage.client.clock import Clock, growing
from openvstorage.client.endpoints import Endpoints
from openvstorage.client.errors import (
    AuthenticationError,
    CertificateError,
    NotSupported,
    ServerError,
    TransportError,
    UnexpectedAnswer,
    Unreachable,
)
from openvstorage.client.ratelimit import RateWait
from openvstorage.client.shared import Shared
from openvstorage.client.tokens import Token, Tokens
from openvstorage.client.wire import Answer, Request, Wire

__all__ = ["Caller"]

LOG = logging.getLogger(__name__)

PLUGIN = "openvstorage_openstack"
# An upgraded service is noticed after this time; asking before each call would double the number of calls.
_FEATURES_SECONDS = 300.0
# A refused permission is worth a new token only if roles may have been granted since it was issued: each token is one
# of five a minute.
_YOUNG_TOKEN_SECONDS = 60.0
_HEADERS = {"Accept": "application/json; version=*", "Content-Type": "application/json"}
# The node, or the proxy before it, is going or coming: another round may find it well. Other 5xx repeat themselves.
_PASSING = frozenset({502, 503, 504})


class Caller:
    """API calls with everything but their meaning; thread-safe.

    :param patience: seconds over which calls that found no address are repeated; 0 asks each address once.
    """

    def __init__(self, endpoints: Endpoints, wire: Wire, tokens: Tokens, clock: Clock, patience: float) -> None:
        self.clock = clock
        self._endpoints = endpoints
        self._wire = wire
        self._tokens = tokens
        self._patience = patience
        self._features: Shared[tuple[float, frozenset[str]]] = Shared(clock)

    def get(self, path: str, params: Mapping[str, str] | None = None, hold_seconds: float = 0.0) -> Any:
        """Read something. Blocks.

        :param path: below ``/api/``, with its closing slash.
        :param hold_seconds: how long the server was asked to hold the answer.
        :returns: the decoded JSON, None for an empty answer.
        :raises Refused, TransportError, AuthenticationError, RateLimited, UnexpectedAnswer: as the classes say.
        """
        return self._call(Request("GET", path, params or {}, _HEADERS), hold_seconds=hold_seconds)

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Change something. Blocks. Each call is one logical change, however often it has to be sent.

        :param body: the parameters; they go as a JSON object.
        :returns: the decoded JSON, mostly the id of a task.
        :raises Refused, TransportError, AuthenticationError, RateLimited, UnexpectedAnswer: as the classes say.
        """
        keyed = "idempotency_keys" in self.features()
        headers = {**_HEADERS, "Idempotency-Key": str(uuid.uuid4())} if keyed else _HEADERS
        payload = json.dumps(body or {}, separators=(",", ":")).encode()
        return self._call(Request("POST", path, {}, headers, payload, unrepeatable=not keyed))

    def ask(self, path: str, authorization: str) -> Any:
        """Ask something by POST that changes nothing, without a token but under another authorization. Blocks.

        :returns: the decoded JSON.
        :raises Refused, TransportError, AuthenticationError, RateLimited, UnexpectedAnswer: as the classes say.
        """
        headers = {**_HEADERS, "Authorization": authorization}
        return self._call(Request("POST", path, {}, headers), anonymous=True)

    def features(self) -> frozenset[str]:
        """Give the names of the extensions that the cluster announces; empty for Open vStorage itself. May block.

        :raises TransportError: if no address answers. :raises UnexpectedAnswer: if it is no Open vStorage API.
        """
        return self._features.get(
            usable=lambda known: self.clock.monotonic() < known[0] + _FEATURES_SECONDS,
            fetch=lambda: (self.clock.monotonic(), self._ask_features()),
        )[1]

    def require(self, feature: str, reason: str) -> None:
        """:raises NotSupported: if the cluster does not announce ``feature``."""
        if feature not in self.features():
            raise NotSupported(feature=feature, reason=reason)

    def _ask_features(self) -> frozenset[str]:
        root = self._call(Request("GET", "", {}, {"Accept": "application/json"}), anonymous=True)
        if not isinstance(root, dict) or not isinstance(root.get("versions"), list):
            raise UnexpectedAnswer(where=str(self._endpoints), reason="its root does not list API versions")
        plugins = root.get("plugins")
        names = plugins.get(PLUGIN) if isinstance(plugins, dict) else None
        return frozenset(str(name) for name in names) if isinstance(names, list) else frozenset()

    def _call(self, request: Request, hold_seconds: float = 0.0, anonymous: bool = False) -> Any:
        rate = RateWait(self.clock)
        pauses = growing(0.1, 2.0, 2.0)
        deadline = self.clock.monotonic() + self._patience
        sent: TransportError | None = None
        while True:
            faults: list[TransportError] = []
            for endpoint in self._endpoints.in_order():
                try:
                    answer = self._ask(endpoint, request, rate, hold_seconds, anonymous)
                    return _decode(endpoint, request, answer)
                except TransportError as fault:
                    LOG.warning("%s %s: %s", request.method, request.path, fault)
                    self._endpoints.failed(endpoint)
                    if fault.maybe_sent and request.unrepeatable:
                        raise
                    faults.append(fault)
                    sent = sent or (fault if fault.maybe_sent else None)
            pause = next(pauses)
            if not any(_passing(fault) for fault in faults) or self.clock.monotonic() + pause > deadline:
                # Once it may have been done, a later "nobody listens" must not say that it was never sent.
                raise (sent or _unreachable(faults)) from faults[-1].__cause__
            self.clock.sleep(pause)

    def _ask(self, endpoint: str, request: Request, rate: RateWait, hold_seconds: float, anonymous: bool) -> Answer:
        """Ask one address; with a new token, once, if the one at hand is refused."""
        renewed = False
        while True:
            token = None if anonymous else self._tokens.get(endpoint)
            answer = self._wire.exchange(endpoint, _signed(request, token), hold_seconds)
            if answer.status == 429:
                rate.wait_out(endpoint, answer)
            elif token and not renewed and self._worth_renewing(token, answer.status):
                self._tokens.drop(endpoint, token)
                renewed = True
            elif answer.status == 401:
                code, description = failures.words(_json(answer))
                raise AuthenticationError(
                    endpoint=endpoint, who=self._tokens.who, code=code or "401", description=description
                )
            elif answer.status >= 500:
                code, description = failures.words(_json(answer))
                raise ServerError(endpoint=endpoint, status=answer.status, reason=description or code or "no reason")
            else:
                return answer

    def _worth_renewing(self, token: Token, status: int) -> bool:
        if status == 403:
            return self.clock.monotonic() - token.issued >= _YOUNG_TOKEN_SECONDS
        return status == 401


def _signed(request: Request, token: Token | None) -> Request:
    if token is None:
        return request
    headers = {**request.headers, "Authorization": f"Bearer {token.text}"}
    return Request(request.method, request.path, request.params, headers, request.body, request.unrepeatable)


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except ValueError:
        return None


def _decode(endpoint: str, request: Request, answer: Answer) -> Any:
    """Give the value of an answer below 500, or raise what it stands for."""
    where = f"{endpoint}/{request.path}"
    if 200 <= answer.status < 300:
        if answer.status == 204 or not answer.body:
            return None
        try:
            return json.loads(answer.body)
        except ValueError as error:
            raise UnexpectedAnswer(where=where, reason="the body is not JSON") from error
    body = _json(answer)
    if 400 <= answer.status < 500 and any(failures.words(body)) and not _no_such_route(answer.status, body):
        raise failures.from_answer(answer.status, body)
    # A 404 that is not the API's own must not pass for "that vDisk is gone".
    raise UnexpectedAnswer(where=where, reason=f"status {answer.status} without the API's error object")


def _no_such_route(status: int, body: Any) -> bool:
    return status == 404 and failures.words(body)[0] != "object_not_found"


def _passing(fault: TransportError) -> bool:
    if isinstance(fault, ServerError):
        return fault.status in _PASSING
    return fault.retry_helps


def _unreachable(faults: list[TransportError]) -> TransportError:
    """Give one error for a round over all addresses in which nothing was sent."""
    if all(isinstance(fault, CertificateError) for fault in faults):
        return faults[0]
    return Unreachable(
        endpoint=", ".join(fault.endpoint for fault in faults),
        reason="; ".join(dict.fromkeys(fault.reason for fault in faults)),
    )
