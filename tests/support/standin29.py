"""A stand-in for the management API of an Open vStorage 2.9 cluster, on loopback, over TLS, with no extension.

It answers as the real one does, its quirks included: string arguments parsed as JSON, PENDING for tasks it does not
know, 406 for versions, 400 for wrong passwords, a token limit that locks out, page sizes of its own choice. Tests can
make it fail: :attr:`StandIn.interfere` sees each request before and after it was done.
"""

import base64
import json
import re
import ssl
import threading
import time
import uuid
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.support.standin29_api import NO_ROUTE, Call, HttpError
from tests.support.standin29_model import Cluster, Impossible, Missing, Object, TaskFailure

USERNAME = "admin"
PASSWORD = "correct horse battery staple"
CLIENT_ID = "6f3a7f2e-4d0b-4a51-b8e5-30a5f2a01f07"
CLIENT_SECRET = "s3cr:et|with_:colons"
_ACCEPT = re.compile(r"^(?:.*; )?version=(\d*|\*)(?:;.*)?$")
_VERSIONS = range(2, 9)


class Drop(Exception):
    """Raised by a test's hook: close the connection without an answer."""


class StandIn:
    """The server. Start it by ``with``; several may share one cluster, as the nodes of a real one do.

    :ivar requests: (method, path with query, headers, body) of everything received.
    :ivar interfere: called with ("before"|"after", method, path); may raise Drop or HttpError.
    :ivar token_limit: token requests a minute before the lock-out, None for no limit.
    :ivar task_state: None for tasks that run at once; a state such as "STARTED" or "REVOKED" keeps them there;
        "LOST" forgets them.
    """

    def __init__(
        self, certificate: Path, host: str = "127.0.0.1", cluster: Cluster | None = None, port: int = 0
    ) -> None:
        self.cluster = cluster or Cluster()
        self.host = host
        self.requests: list[tuple[str, str, dict[str, str], bytes]] = []
        self.interfere: Callable[[str, str, str], None] = lambda moment, method, path: None
        self.token_limit: int | None = None
        self.lockout_seconds = 60.0
        self.task_state: str | None = None
        self.tokens: dict[str, float] = {}
        self.tasks: dict[str, Object] = {}
        self._token_calls: list[float] = []
        self._locked_until = 0.0
        self._server = _Server((host, port), _Handler)
        self._server.standin = self
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self._server.context = context
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> "StandIn":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop as a dying node does: the port closes, and so does every connection."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()
        self._server.drop_connections()

    def seen(self, method: str, ending: str) -> list[str]:
        """Give the paths received for ``method`` that end in ``ending``, the query left out."""
        paths = [path.split("?")[0] for verb, path, _, _ in self.requests if verb == method]
        return [path for path in paths if path.endswith(ending)]

    # Tokens

    def issue_token(self, headers: dict[str, str], body: bytes) -> Object:
        """Answer a token request."""
        self._limit_tokens()
        form = dict(parse_qsl(body.decode())) if "form" in headers.get("content-type", "") else {}
        grant = form.get("grant_type")
        if grant == "password":
            if not form.get("username") or not form.get("password"):
                raise HttpError(400, "invalid_request")
            if (form["username"], form["password"]) != (USERNAME, PASSWORD):
                raise HttpError(400, "invalid_client", "Invalid username or password")
            lifetime = 86400
        elif grant == "client_credentials":
            if "authorization" not in headers:
                raise HttpError(400, "missing_header")
            pair = base64.b64decode(headers["authorization"].split(" ", 1)[1]).decode()
            if tuple(pair.split(":", 1)) != (CLIENT_ID, CLIENT_SECRET):
                raise HttpError(400, "invalid_client", "Unknown client")
            lifetime = 3600
        else:
            raise HttpError(400, "unsupported_grant_type" if grant else "invalid_request")
        token = f"|_=+*#@!/-[]{{}}<>.?,;:~{uuid.uuid4().hex}"
        self.tokens[token] = time.monotonic() + lifetime
        return {"access_token": token, "token_type": "bearer", "expires_in": lifetime}

    def _limit_tokens(self) -> None:
        if self.token_limit is None:
            return
        now = time.monotonic()
        if now < self._locked_until:
            raise HttpError(429, "rate_limit_timeout", f"{self._locked_until - now:.0f} seconds remaining")
        self._token_calls = [moment for moment in self._token_calls if moment > now - 60.0] + [now]
        if len(self._token_calls) > self.token_limit:
            self._locked_until = now + self.lockout_seconds
            self._token_calls = []
            raise HttpError(429, "rate_limit_reached")

    def authorise(self, headers: dict[str, str]) -> None:
        """Check the bearer token of a resource request."""
        header = headers.get("authorization")
        if header is None:
            error = HttpError(403, "")
            error.body = {"detail": "Authentication credentials were not provided."}
            raise error
        parts = header.split(" ")
        if len(parts) != 2 or parts[0] != "Bearer":
            raise HttpError(401, "invalid_authorization_type")
        expires = self.tokens.get(parts[1])
        if expires is None:
            raise HttpError(401, "invalid_token")
        if time.monotonic() >= expires:
            del self.tokens[parts[1]]
            raise HttpError(401, "token_expired")

    # Tasks

    def start(self, work: Callable[[], Any]) -> str:
        """Start a task and give its id."""
        task_id = str(uuid.uuid4())
        task: Object = {
            "id": task_id,
            "status": "PENDING",
            "successful": False,
            "failed": False,
            "ready": False,
            "result": None,
        }
        state = self.task_state
        if state == "LOST":
            return task_id
        self.tasks[task_id] = task
        if state is not None:
            task.update(status=state, ready=state == "REVOKED")
            return task_id
        threading.Thread(target=self._run, args=(task, work), daemon=True).start()
        return task_id

    def _run(self, task: Object, work: Callable[[], Any]) -> None:
        with self.cluster.lock:
            task["status"] = "STARTED"
            try:
                result, status = work(), "SUCCESS"
            except (TaskFailure, Missing) as error:
                result, status = str(error), "FAILURE"
            task.update(
                result=result, status=status, ready=True, successful=status == "SUCCESS", failed=status == "FAILURE"
            )

    def task(self, task_id: str) -> Object:
        """Give a task; one that is not known is PENDING."""
        unknown = {"status": "PENDING", "successful": False, "failed": False, "ready": False, "result": None}
        return dict(self.tasks.get(task_id, {"id": task_id, **unknown}))


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    standin: StandIn
    context: ssl.SSLContext

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._connections: set[Any] = set()

    def finish_request(self, request: Any, client_address: Any) -> None:
        # The handshake runs in the connection's own thread: a client that stalls must not stop the others.
        request.settimeout(30)
        try:
            wrapped = self.context.wrap_socket(request, server_side=True)
        except OSError:
            return
        self._connections.add(wrapped)
        try:
            super().finish_request(wrapped, client_address)
        except OSError:
            return
        finally:
            self._connections.discard(wrapped)
            wrapped.close()

    def drop_connections(self) -> None:
        for connection in list(self._connections):
            try:
                connection.shutdown(2)
            except OSError:
                continue


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: tests read :attr:`StandIn.requests`."""

    def _handle(self) -> None:
        standin = self.server.standin
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        headers = {name.lower(): value for name, value in self.headers.items()}
        standin.requests.append((self.command, self.path, headers, body))
        path = urlsplit(self.path).path
        extra: dict[str, str] = {}
        try:
            standin.interfere("before", self.command, path)
            status, answer = self._answer(standin, path, headers, body)
            standin.interfere("after", self.command, path)
        except Drop:
            self.close_connection = True
            return
        except HttpError as error:
            status, answer, extra = error.status, error.body, error.headers
        except Missing as error:
            status, answer = 404, {"error": "object_not_found", "error_description": str(error)}
        except Impossible as error:
            status, answer = 406, {"error": "impossible_request", "error_description": str(error)}
        self._send(status, answer, headers.get("accept", "application/json"), extra)

    do_GET = do_POST = do_DELETE = do_PATCH = _handle

    def _answer(self, standin: StandIn, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any]:
        if path == "/api/":
            return 200, _root(standin)
        if path.startswith("/api/oauth2/token/"):
            return 200, standin.issue_token(headers, body)
        version = _ACCEPT.match(headers.get("accept", ""))
        if version is None:
            raise HttpError(406, "missing_header", "The version is missing in the Accept header")
        if version[1] == "":
            raise HttpError(500, "internal_server", "invalid literal for int() with base 10: ''")
        if version[1] != "*" and int(version[1]) not in _VERSIONS:
            raise HttpError(406, "invalid_version", "API version requirements: 2 <= <version> <= 8")
        standin.authorise(headers)
        with standin.cluster.lock:
            return Call(standin, self.command, path, urlsplit(self.path).query, body).answer()

    def _send(self, status: int, answer: Any, media_type: str, extra: dict[str, str]) -> None:
        html = answer is NO_ROUTE
        data = NO_ROUTE if html else b"" if status == 204 else json.dumps(answer).encode()
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        # The real one repeats the request's media type, version and all.
        self.send_header("Content-Type", "text/html" if html else media_type)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _root(standin: StandIn) -> Object:
    return {
        "release": {"name": "Stand-in 2.9"},
        "authenticated": False,
        "authentication_state": "unauthenticated",
        "authentication_metadata": {"ip": standin.host},
        "username": None,
        "userguid": None,
        "roles": [],
        "identification": {"cluster_id": "standin"},
        "storagerouter_ips": [router["ip"] for router in standin.cluster.routers],
        "versions": list(_VERSIONS),
        "plugins": {"alba": ["backend", "gui"]},
    }
