"""The wire: one HTTP exchange with one management address.

It knows requests and TLS, and which failures mean that nothing was sent. It knows nothing of tokens, tasks or
other addresses.
"""

import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import requests
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPSConnection
from urllib3.connectionpool import HTTPSConnectionPool
from urllib3.exceptions import ConnectTimeoutError, LocationValueError, NewConnectionError, ReadTimeoutError, SSLError

from openvstorage.client.errors import AnswerLost, CertificateError, ConfigurationError, TransportError, Unreachable

__all__ = ["Answer", "Request", "Wire"]

# A management address is a host of the local network: one that does not accept within this time is down, and the
# next address deserves the rest of the caller's patience.
_CONNECT_SECONDS = 5.0
_IDLE_SESSIONS = 8
_NO_ADDRESS = "this is no address that can be asked"


@dataclass(frozen=True, slots=True)
class Request:
    """What is sent: method, path below ``/api/``, query parameters, headers and body.

    :ivar unrepeatable: it must not run on a kept connection, which the other end may be closing at this moment:
        nobody could tell whether it was received.
    """

    method: str
    path: str
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    unrepeatable: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


class _Connection(HTTPSConnection):
    """A connection that tells a failed TLS handshake from a failed exchange: before its end nothing is sent."""

    def connect(self) -> None:
        try:
            super().connect()
        except ssl.SSLCertVerificationError:
            raise
        except (OSError, SSLError) as error:
            raise NewConnectionError(self, f"TLS handshake: {error}") from error


class _ConnectionPool(HTTPSConnectionPool):
    ConnectionCls = _Connection


class _Adapter(HTTPAdapter):
    """One connection per address and no repetition: what may be repeated is not known here."""

    def __init__(self) -> None:
        super().__init__(pool_connections=4, pool_maxsize=1, max_retries=0)
        self.poolmanager.pool_classes_by_scheme = {"https": _ConnectionPool}


class Wire:
    """HTTP exchanges, thread-safe: each exchange borrows a session that no other thread has.

    :param verify: a CA file's path, True for the CAs that requests trusts, or False for no verification.
    :param timeout: seconds without a byte from the server after which the exchange is given up.
    """

    def __init__(self, verify: str | bool, timeout: float) -> None:
        self._verify = verify
        self._timeout = timeout
        self._lock = threading.Lock()
        self._idle: list[requests.Session] = []
        self._closed = False

    def exchange(self, endpoint: str, request: Request, extra_seconds: float = 0.0) -> Answer:
        """Send ``request`` to ``endpoint`` and give the answer, whatever its status. Blocks.

        :param endpoint: base URL, ending in ``/api``.
        :param extra_seconds: how long the server was asked to hold the answer; added to the timeout.
        :raises Unreachable: if nothing was sent, also because ``endpoint`` is nothing that can be asked.
        :raises CertificateError: likewise, the certificate is not trusted.
        :raises AnswerLost: if the request may have been received.
        :raises ConfigurationError: if the CA file cannot be used, or the client is closed.
        """
        connect_seconds, seconds = min(_CONNECT_SECONDS, self._timeout), self._timeout + extra_seconds
        try:
            with self._session(request.unrepeatable) as session:
                response = session.request(
                    request.method,
                    f"{endpoint}/{request.path}",
                    params=dict(request.params),
                    headers=dict(request.headers),
                    data=request.body,
                    timeout=(connect_seconds, seconds),
                    allow_redirects=False,
                )
                return Answer(response.status_code, response.headers, response.content)
        except requests.RequestException as error:
            # It goes along as the cause; the request in it holds the token, or the password.
            error.request = None
            raise _fault(endpoint, error, connect_seconds, seconds) from error
        except (LocationValueError, UnicodeError) as error:
            # Names that can be no host's, which requests lets through. Their texts hold nothing but the name.
            raise Unreachable(endpoint=endpoint, reason=_NO_ADDRESS) from error

    def close(self) -> None:
        """Close the idle connections; those in use close when their exchange ends. May be called again."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for session in idle:
            session.close()

    @contextmanager
    def _session(self, fresh: bool) -> Iterator[requests.Session]:
        with self._lock:
            if self._closed:
                raise ConfigurationError(reason="the client has been closed")
            session = self._idle.pop() if self._idle and not fresh else None
        session = session or self._new_session()
        try:
            yield session
        except BaseException:
            session.close()
            raise
        with self._lock:
            keep = not fresh and not self._closed and len(self._idle) < _IDLE_SESSIONS
            if keep:
                self._idle.append(session)
        if not keep:
            session.close()

    def _new_session(self) -> requests.Session:
        if isinstance(self._verify, str):
            _check_ca_file(self._verify)
        session = requests.Session()
        # The environment would put a .netrc entry over our Authorization header, REQUESTS_CA_BUNDLE over the CA
        # file, and a proxy between two machines of one network.
        session.trust_env = False
        session.verify = self._verify
        session.mount("https://", _Adapter())
        return session


def _check_ca_file(path: str) -> None:
    """Look at the CA file before requests does, which reports a bad one like a failing network."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=path)
    except OSError as error:
        raise ConfigurationError(reason=f"CA file {path}: {error.strerror or error}") from error


def _fault(endpoint: str, error: requests.RequestException, connect_seconds: float, seconds: float) -> TransportError:
    """Give the error for an exchange that failed, after at most so many seconds to connect and for each byte."""
    causes = list(_causes(error))
    timed_out = any(isinstance(cause, TimeoutError | ReadTimeoutError) for cause in causes)
    for cause in causes:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return CertificateError(endpoint=endpoint, reason=cause.verify_message or str(cause))
    for cause in causes:
        # In urllib3 a NewConnectionError is a ConnectTimeoutError too, so it has to be looked for first.
        if isinstance(cause, NewConnectionError):
            words = f"it did not complete the TLS handshake in {connect_seconds:g} s"
            return Unreachable(endpoint=endpoint, reason=words if timed_out else _innermost(causes))
        if isinstance(cause, ConnectTimeoutError):
            return Unreachable(endpoint=endpoint, reason=f"it did not accept a connection in {connect_seconds:g} s")
    if isinstance(error, requests.exceptions.InvalidURL):
        return Unreachable(endpoint=endpoint, reason=_NO_ADDRESS)
    if timed_out:
        return AnswerLost(endpoint=endpoint, reason=f"it did not answer in {seconds:g} s")
    return AnswerLost(endpoint=endpoint, reason=_innermost(causes))


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Give the error and what it wraps; requests and urllib3 keep that in ``args`` and ``reason``."""
    seen: set[int] = set()
    pending: list[object] = [error]
    while pending:
        current = pending.pop(0)
        if not isinstance(current, BaseException) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        pending += [getattr(current, "reason", None), *current.args, current.__cause__, current.__context__]


def _innermost(causes: list[BaseException]) -> str:
    """Give the operating system's words if there are any: urllib3's contain object addresses."""
    for cause in causes:
        if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException) and cause.strerror:
            return cause.strerror
    return type(causes[0]).__name__
