"""A stand-in for the management API of an Open vStorage 2.9 cluster, on loopback, over TLS, with no extension.

It answers as the real one does, its quirks included: string arguments parsed as JSON, PENDING for tasks it does not
know, 406 for versions, 400 for wrong passwords, a token limit that locks out, page sizes of its own choice. Tests can
make it fail: :attr:`StandIn.interfere` sees each request before and after it was done.
"""

import base64
import itertools
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

from tests.support.standin29_model import Cluster, Impossible, Missing, Object, TaskFailure

USERNAME = "admin"
PASSWORD = "correct horse battery staple"
CLIENT_ID = "6f3a7f2e-4d0b-4a51-b8e5-30a5f2a01f07"
CLIENT_SECRET = "s3cr:et|with_:colons"
_ACCEPT = re.compile(r"^(?:.*; )?version=(\d*|\*)(?:;.*)?$")
_VERSIONS = range(2, 9)


class HttpError(Exception):
    """An answer that is not a success."""

    def __init__(self, status: int, error: str, description: str = "") -> None:
        super().__init__(error)
        self.status = status
        self.body: Any = {"error": error, "error_description": description or error}


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
        try:
            standin.interfere("before", self.command, path)
            status, answer = self._answer(standin, path, headers, body)
            standin.interfere("after", self.command, path)
        except Drop:
            self.close_connection = True
            return
        except HttpError as error:
            status, answer = error.status, error.body
        except Missing as error:
            status, answer = 404, {"error": "object_not_found", "error_description": str(error)}
        except Impossible as error:
            status, answer = 406, {"error": "impossible_request", "error_description": str(error)}
        self._send(status, answer, headers)

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
            return _Call(standin, self.command, path, urlsplit(self.path).query, body).answer()

    def _send(self, status: int, answer: Any, headers: dict[str, str]) -> None:
        html = answer is _NO_ROUTE
        data = _NO_ROUTE if html else b"" if status == 204 else json.dumps(answer).encode()
        kind = "text/html" if html else headers.get("accept", "application/json")
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


_NO_ROUTE = b"<h1>Not Found</h1>"


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


class _Call:
    """One request to a resource."""

    def __init__(self, standin: StandIn, method: str, path: str, query: str, body: bytes) -> None:
        self.standin = standin
        self.cluster = standin.cluster
        self.method = method
        self.parts = path.removeprefix("/api/").rstrip("/").split("/")
        self.query = dict(parse_qsl(query, keep_blank_values=True))
        try:
            given = json.loads(body) if body else {}
        except ValueError:
            error = HttpError(400, "")
            error.body = {"detail": "JSON parse error"}
            raise error from None
        self.arguments = {**self.query, **(given or {})}

    def answer(self) -> tuple[int, Any]:
        resource, *rest = self.parts
        handler = getattr(self, f"_{resource}", None)
        answer = handler(rest) if handler else _NO_ROUTE
        return (404, answer) if answer is _NO_ROUTE else (204 if answer is None else 200, answer)

    def _argument(self, name: str, *default: Any) -> Any:
        """Look an argument up; this release parses every text that is JSON."""
        if name not in self.arguments:
            if default:
                return default[0]
            raise HttpError(406, "invalid_data", f"{name} is missing")
        value = self.arguments[name]
        if isinstance(value, str):
            try:
                return json.loads(value)
            except ValueError:
                return value
        return value

    def _tasks(self, rest: list[str]) -> Any:
        return self.standin.task(rest[0]) if len(rest) == 1 and self.method == "GET" else _NO_ROUTE

    def _vpools(self, rest: list[str]) -> Any:
        if not rest:
            return self._listed(self.cluster.vpools, _plain_dynamic, sort="name")
        vpool = next((entry for entry in self.cluster.vpools if entry["guid"] == rest[0]), None)
        if vpool is None:
            raise Missing(f"vPool {rest[0]} could not be found")
        action = (self.method, *rest[1:])
        if action == ("GET",):
            return _serialise(vpool, self.query.get("contents"), {"volume_potentials"}, _plain_dynamic)
        if action == ("GET", "storagerouters"):
            served = self.cluster.routers if vpool["guid"] == self.cluster.vpool_guid else []
            return self._listed(served, _plain_dynamic)
        if action == ("GET", "devicename_exists"):
            wanted = f"/{self.arguments['name'].removesuffix('.raw')}.raw"
            return any(vdisk["devicename"] == wanted for vdisk in self.cluster.vdisks.values())
        if action == ("POST", "create_snapshots"):
            arguments = {
                "label": self._argument("name"),
                "timestamp": self.arguments.get("timestamp", int(self.cluster.now())),
                "consistent": self._argument("consistent", False),
                "automatic": self._argument("automatic", False),
                "sticky": self._argument("sticky", False),
            }
            guids = self._argument("vdisk_guids")
            return self.standin.start(lambda: self.cluster.group(guids, arguments))
        return _NO_ROUTE

    def _storagerouters(self, rest: list[str]) -> Any:
        return _NO_ROUTE if rest or self.method != "GET" else self._listed(self.cluster.routers, _plain_dynamic)

    def _storagedrivers(self, rest: list[str]) -> Any:
        wanted = self.query.get("vpool_guid")
        drivers = [driver for driver in self.cluster.drivers if wanted in (None, driver["vpool_guid"])]
        return _NO_ROUTE if rest or self.method != "GET" else self._listed(drivers, _plain_dynamic)

    def _vdisks(self, rest: list[str]) -> Any:
        if not rest:
            return self._create() if self.method == "POST" else self._list_vdisks()
        vdisk = self.cluster.vdisk(rest[0])
        if rest[1:] == [] and self.method == "GET":
            return _serialise(vdisk, self.query.get("contents"), _VDISK_DYNAMICS, self.cluster.dynamic)
        if (self.method, rest[1:]) in (("DELETE", []), ("POST", ["delete"])):
            if self.cluster.children(vdisk["guid"]):
                raise Impossible(f"vDisk {vdisk['name']} has clones")
            return self.standin.start(lambda: self.cluster.delete(vdisk))
        action = _VDISK_ACTIONS.get(rest[1]) if len(rest) == 2 and self.method == "POST" else None
        return action(self, vdisk) if action else _NO_ROUTE

    def _list_vdisks(self) -> Object:
        vdisks = list(self.cluster.vdisks.values())
        if "vpoolguid" in self.query:
            vdisks = [vdisk for vdisk in vdisks if vdisk["vpool_guid"] == self.query["vpoolguid"]]
        if "query" in self.query:
            query = json.loads(self.query["query"])
            vdisks = [vdisk for vdisk in vdisks if _matches(vdisk, query)]
        return self._listed(vdisks, self.cluster.dynamic)

    def _create(self) -> str:
        name, size, vpool_guid = (self._argument(key) for key in ("name", "size", "vpool_guid"))
        router = self._argument("storagerouter_guid")
        if all(router != entry["guid"] for entry in self.cluster.routers):
            raise HttpError(500, "internal_server", f"StorageRouter {router} could not be found")
        if vpool_guid != self.cluster.vpool_guid:
            raise Impossible("The given StorageRouter does not serve the vPool")
        return self.standin.start(lambda: self.cluster.create(name, size, vpool_guid, router))

    def _clone(self, vdisk: Object) -> str:
        name, router = self._argument("name"), self._argument("storagerouter_guid")
        snapshot_id = self._argument("snapshot_id", None)
        return self.standin.start(lambda: self.cluster.clone(vdisk, name, router, snapshot_id))

    def _extend(self, vdisk: Object) -> str:
        size = self._argument("new_size")
        return self.standin.start(lambda: self.cluster.extend(vdisk, size))

    def _create_snapshot(self, vdisk: Object) -> str:
        label = self._argument("name")
        flags = {key: self._argument(key, False) for key in ("consistent", "automatic", "sticky")}
        return self.standin.start(lambda: self.cluster.snapshot(vdisk, label, **flags))

    def _remove_snapshot(self, vdisk: Object) -> str:
        snapshot_id = self._argument("snapshot_id")
        return self.standin.start(lambda: self.cluster.remove_snapshot(vdisk, snapshot_id))

    def _rollback(self, vdisk: Object) -> str:
        timestamp = self._argument("timestamp")
        return self.standin.start(lambda: self.cluster.rollback(vdisk, timestamp))

    def _set_as_template(self, vdisk: Object) -> str:
        return self.standin.start(lambda: self.cluster.template(vdisk))

    def _listed(self, entries: list[Object], dynamic: Callable[[Object, str], Any], sort: str = "") -> Object:
        sort = self.query.get("sort", sort)
        for field in reversed(sort.split(",") if sort else []):
            entries = sorted(entries, key=lambda entry: _natural(entry[field.lstrip("-")]), reverse=field[0] == "-")
        contents = self.query.get("contents")
        total = len(entries)
        page, size = self.query.get("page", ""), self.query.get("page_size", "")
        if page.isdigit():
            page_size = int(size) if size in ("10", "25", "50", "100") else 10
            last = max(1, -(-total // page_size))
            current = min(int(page), last)
            start = (current - 1) * page_size
            entries = entries[start : start + page_size] if current else []
        else:
            page_size, last, current, start = total, 1, 1, 0
        return {
            "data": [
                entry["guid"] if contents is None else _serialise(entry, contents, set(), dynamic) for entry in entries
            ],
            "_paging": {
                "total_items": total,
                "current_page": max(current, 1),
                "max_page": last,
                "page_size": page_size,
                "start_number": start + 1 if entries else 0,
                "end_number": start + len(entries) if entries else 0,
            },
            "_contents": None if contents is None else contents.split(","),
            "_sorting": sort.split(",") if sort else None,
        }


_VDISK_ACTIONS: dict[str, Callable[[_Call, Object], Any]] = {
    "clone": _Call._clone,
    "extend": _Call._extend,
    "create_snapshot": _Call._create_snapshot,
    "remove_snapshot": _Call._remove_snapshot,
    "rollback": _Call._rollback,
    "set_as_template": _Call._set_as_template,
}
_VDISK_DYNAMICS = {
    "snapshots",
    "snapshot_ids",
    "storagedriver_id",
    "storagerouter_guid",
    "is_vtemplate",
    "edge_clients",
    "dtl_status",
    "info",
}
# Keys of the model that are not persistent properties: relations under their own name, and what is computed.
_RELATIONS = {"vpool_guid": "vpool", "parent_vdisk_guid": "parent_vdisk", "storagerouter_guid": "storagerouter"}
_COMPUTED = {"volume_potentials", "cluster_node_config"}


def _serialise(
    entry: Object, contents: str | None, dynamics: set[str], dynamic: Callable[[Object, str], Any]
) -> Object:
    """Give an object as the API does: everything without ``contents``, else properties and what was asked for."""
    parts = set((contents or "").split(","))
    data = {
        key: value for key, value in entry.items() if key[0] != "_" and key not in _RELATIONS and key not in _COMPUTED
    }
    for key, relation in _RELATIONS.items():
        if key in entry and (contents is None or relation in parts or "_relations" in parts):
            data[key] = entry[key]
    for name in dynamics if contents is None else parts - {""}:
        try:
            data[name] = dynamic(entry, name)
        except KeyError:
            continue  # Names that are not known are ignored.
    return data


def _plain_dynamic(entry: Object, name: str) -> Any:
    if name in _RELATIONS.values():
        raise KeyError(name)
    return entry[name]


def _natural(value: Any) -> list[Any]:
    """Order as the cluster does: runs of digits as numbers, the rest in lower case."""
    runs = ["".join(run) for _, run in itertools.groupby(str(value or ""), str.isdigit)]
    return [(0, int(run)) if run.isdigit() else (1, run.lower()) for run in runs]


def _matches(entry: Object, query: Any) -> bool:
    if isinstance(query, dict):
        combine = {"AND": all, "OR": any}[query["type"]]
        return combine(_matches(entry, item) for item in query["items"])
    field, operator, wanted, *case = query
    value = entry[field]
    if case == [False]:
        value, wanted = value.lower(), wanted.lower()
    return bool(
        {
            "EQUALS": lambda: value == wanted,
            "NOT_EQUALS": lambda: value != wanted,
            "LT": lambda: value < wanted,
            "GT": lambda: value > wanted,
            "IN": lambda: value in wanted,
            "CONTAINS": lambda: wanted in value,
        }[operator]()
    )
