"""The resources of the stand-in: vDisks, vPools, nodes and tasks, and how lists and objects look."""

import itertools
import json
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import parse_qsl

from tests.support.standin29_model import Cluster, Impossible, Missing, Object

NO_ROUTE = b"<h1>Not Found</h1>"


class HttpError(Exception):
    """An answer that is not a success."""

    def __init__(self, status: int, error: str, description: str = "") -> None:
        super().__init__(error)
        self.status = status
        self.body: Any = {"error": error, "error_description": description or error}
        self.headers: dict[str, str] = {}


class TaskRunner(Protocol):
    """What a call needs of the server."""

    cluster: Cluster

    def start(self, work: Callable[[], Any]) -> str:
        """Start a task and give its id."""

    def task(self, task_id: str) -> Object:
        """Give a task."""


class Call:
    """One request to a resource."""

    def __init__(self, standin: TaskRunner, method: str, path: str, query: str, body: bytes) -> None:
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
        answer = handler(rest) if handler else NO_ROUTE
        return (404, answer) if answer is NO_ROUTE else (204 if answer is None else 200, answer)

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
        return self.standin.task(rest[0]) if len(rest) == 1 and self.method == "GET" else NO_ROUTE

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
        return NO_ROUTE

    def _storagerouters(self, rest: list[str]) -> Any:
        listed = self._listed(self.cluster.routers, _plain_dynamic, sort="name")
        return NO_ROUTE if rest or self.method != "GET" else listed

    def _storagedrivers(self, rest: list[str]) -> Any:
        wanted = self.query.get("vpool_guid")
        drivers = [driver for driver in self.cluster.drivers if wanted in (None, driver["vpool_guid"])]
        return NO_ROUTE if rest or self.method != "GET" else self._listed(drivers, _plain_dynamic)

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
        if rest[1:] == ["get_config_params"] and self.method == "GET":
            return self.standin.start(lambda: dict(vdisk["_config"]))
        action = _VDISK_ACTIONS.get(rest[1]) if len(rest) == 2 and self.method == "POST" else None
        return action(self, vdisk) if action else NO_ROUTE

    def _list_vdisks(self) -> Object:
        vdisks = list(self.cluster.vdisks.values())
        if "vpoolguid" in self.query:
            wanted = self.query["vpoolguid"]
            if all(vpool["guid"] != wanted for vpool in self.cluster.vpools):
                raise HttpError(500, "internal_server", f"vPool {wanted} could not be found")
            vdisks = [vdisk for vdisk in vdisks if vdisk["vpool_guid"] == wanted]
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

    def _create_from_template(self, vdisk: Object) -> str:
        name, router = self._argument("name"), self._argument("storagerouter_guid")
        return self.standin.start(lambda: self.cluster.from_template(vdisk, name, router))

    def _delete_vtemplate(self, vdisk: Object) -> str:
        if not vdisk["_template"]:
            raise Impossible(f"vDisk {vdisk['name']} is not a vTemplate")
        if self.cluster.children(vdisk["guid"]):
            raise Impossible(f"vTemplate {vdisk['name']} has clones")
        return self.standin.start(lambda: self.cluster.delete(vdisk))

    def _move(self, vdisk: Object) -> str:
        target = self._argument("target_storagerouter_guid")
        return self.standin.start(lambda: self.cluster.move(vdisk, target))

    def _set_config_params(self, vdisk: Object) -> str:
        changes = self._argument("new_config_params")
        return self.standin.start(lambda: vdisk["_config"].update(changes))

    def _scrub(self, vdisk: Object) -> str:
        return self.standin.start(lambda: None)

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


_VDISK_ACTIONS: dict[str, Callable[[Call, Object], Any]] = {
    "clone": Call._clone,
    "extend": Call._extend,
    "create_snapshot": Call._create_snapshot,
    "remove_snapshot": Call._remove_snapshot,
    "rollback": Call._rollback,
    "set_as_template": Call._set_as_template,
    "create_from_template": Call._create_from_template,
    "delete_vtemplate": Call._delete_vtemplate,
    "move": Call._move,
    "set_config_params": Call._set_config_params,
    "scrub": Call._scrub,
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
_COMPUTED = {"volume_potentials", "cluster_node_config", "vpools_guids"}


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
