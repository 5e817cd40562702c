"""Tokens: asked for once per address and credentials, kept for the whole process, renewed before they expire.

A cluster allows five token requests a minute and address, and then locks it out: two clients in one process with the
same credentials (two drivers, a driver and its connector) therefore share their tokens.
"""

import json
import threading
from dataclasses import dataclass, field
from urllib.parse import urlencode

from openvstorage.client.clock import Clock
from openvstorage.client.credentials import Credentials
from openvstorage.client.errors import AuthenticationError, TransportError, UnexpectedAnswer, Unreachable
from openvstorage.client.failures import words
from openvstorage.client.ratelimit import RateWait
from openvstorage.client.shared import Shared
from openvstorage.client.wire import Answer, Request, Wire

__all__ = ["Token", "TokenCache", "Tokens"]

# A token is renewed this long before it expires, so that it does not expire on its way; of a short-lived one, a tenth.
_MARGIN_SECONDS = 60.0
# For an answer that does not say; the shortest that any release issues.
_LIFETIME_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Token:
    """A bearer token.

    :ivar issued: when it was had, in seconds of the clock.
    :ivar expires: when it has to be renewed.
    """

    text: str = field(repr=False)
    issued: float
    expires: float


class TokenCache:
    """Tokens by address and credentials; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tokens: dict[tuple[str, str], Shared[Token]] = {}

    def token(self, endpoint: str, fingerprint: str, clock: Clock) -> Shared[Token]:
        """Give the place of the token for that address and those credentials; made at the first call."""
        with self._lock:
            return self._tokens.setdefault((endpoint, fingerprint), Shared(clock))


_PROCESS_CACHE = TokenCache()


class Tokens:
    """The tokens of one client; thread-safe.

    :param cache: where they are kept; by default one for the process.
    """

    def __init__(self, wire: Wire, credentials: Credentials, clock: Clock, cache: TokenCache = _PROCESS_CACHE) -> None:
        self._wire = wire
        self._credentials = credentials
        self._clock = clock
        self._cache = cache
        self._fingerprint = credentials.fingerprint()

    @property
    def who(self) -> str:
        """The user or client the tokens stand for."""
        return self._credentials.who

    def get(self, endpoint: str) -> Token:
        """Give a token for ``endpoint``; asks for one if there is none or it is about to expire. May block.

        :raises AuthenticationError: if the credentials are refused.
        :raises Unreachable: if no token could be had there; the caller's own request was not sent then.
        :raises RateLimited: if the cluster kept answering 429.
        """
        return self._shared(endpoint).get(
            usable=lambda token: self._clock.monotonic() < token.expires, fetch=lambda: self._ask(endpoint)
        )

    def drop(self, endpoint: str, token: Token) -> None:
        """Forget ``token`` if it is still the current one: another thread may have renewed it meanwhile."""
        self._shared(endpoint).drop(token)

    def _shared(self, endpoint: str) -> Shared[Token]:
        return self._cache.token(endpoint, self._fingerprint, self._clock)

    def _ask(self, endpoint: str) -> Token:
        request = Request(
            "POST",
            "oauth2/token/",
            headers={
                "Accept": "application/json",
                "Content-Type": "application/x-www-form-urlencoded",
                **self._credentials.headers(),
            },
            body=urlencode(self._credentials.form()).encode(),
        )
        rate = RateWait(self._clock)
        while True:
            answer = self._exchange(endpoint, request)
            if answer.status != 429:
                return self._read(endpoint, answer)
            rate.wait_out(endpoint, answer)

    def _exchange(self, endpoint: str, request: Request) -> Answer:
        try:
            answer = self._wire.exchange(endpoint, request)
        except Unreachable:
            raise
        except TransportError as error:
            # Only the token request may have been sent, and a second token does no harm.
            raise Unreachable(endpoint=endpoint, reason=f"no token: {error.reason}") from error
        if answer.status >= 500:
            raise Unreachable(endpoint=endpoint, reason=f"no token: status {answer.status}")
        return answer

    def _read(self, endpoint: str, answer: Answer) -> Token:
        try:
            body = json.loads(answer.body)
        except ValueError:
            body = None
        if answer.status == 200 and isinstance(body, dict) and isinstance(body.get("access_token"), str):
            issued = self._clock.monotonic()
            lifetime = float(body.get("expires_in") or _LIFETIME_SECONDS)
            return Token(body["access_token"], issued, issued + lifetime - min(_MARGIN_SECONDS, lifetime / 10))
        code, description = words(body)
        if code and 400 <= answer.status < 500:
            raise AuthenticationError(endpoint=endpoint, who=self.who, code=code, description=description)
        raise UnexpectedAnswer(where=endpoint, reason=f"status {answer.status} to a token request")
