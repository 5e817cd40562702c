"""Golden requests: read the stories of tests/golden, send them byte for byte, and compare the answers.

The format is explained in tests/golden/README.md. Nothing here knows the library or the service.
"""

import http.client
import json
import re
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from tests.support.patience import PATIENCE

FOLDER = Path(__file__).parents[1] / "golden"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

Send = Callable[[str, str, Mapping[str, str], bytes], tuple[int, bytes]]


@dataclass(frozen=True)
class Wanted:
    """What an answer must be; ``where`` names the place in it that is not so."""

    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.where or 'the answer'}: {self.reason}"


def stories() -> list[str]:
    """Give the names of the files, without suffix."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def load(story: str) -> list[dict[str, Any]]:
    """Give the entries of a story, in the order in which they are to be sent."""
    entries: list[dict[str, Any]] = json.loads((FOLDER / f"{story}.json").read_text(encoding="utf-8"))
    return entries


def https_sender(host: str, port: int, ca_file: str | Path) -> Send:
    """Give a function that sends a request with exactly these headers and bytes, and Host and Content-Length."""
    context = ssl.create_default_context(cafile=str(ca_file))

    def send(method: str, path: str, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=context)
        try:
            connection.putrequest(method, path, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            if body or method == "POST":
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    return send


def replay(story: str, send: Send, values: Mapping[str, str]) -> None:
    """Send a whole story and check each answer.

    :param values: what ``${...}`` in the story stands for; see the README for the names.
    :raises AssertionError: at the first answer that is not as the story says, with its name.
    """
    known = dict(values)
    for entry in load(story):
        try:
            _step(entry, send, known)
        except AssertionError as error:
            raise AssertionError(f"{story}, {entry['name']!r}: {error}") from error


def _step(entry: dict[str, Any], send: Send, known: dict[str, str]) -> None:
    answer = entry["answer"]
    status, result = _exchange(entry, send, known)
    wanted = answer["status"] if isinstance(answer["status"], list) else [answer["status"]]
    assert status in wanted, f"status {status} instead of {answer['status']}: {result}"
    _check(result, answer.get("shape", "any"), known)
    if "task" in answer and 200 <= status < 300:
        task = _ready_task(str(result), send, known)
        assert task["status"] == answer["task"]["status"], f"task: {task}"
        result = task["result"]
        _check(result, answer["task"].get("shape", "any"), known)
    for name, path in entry.get("save", {}).items():
        known[name] = _at(result, path)


def _exchange(entry: dict[str, Any], send: Send, known: dict[str, str]) -> tuple[int, Any]:
    headers = {name: Template(value).substitute(known) for name, value in entry["headers"].items()}
    path, body = (Template(entry[part]).substitute(known) for part in ("path", "body"))
    status, data = send(entry["method"], path, headers, body.encode())
    try:
        return status, json.loads(data) if data else None
    except ValueError:
        return status, data.decode(errors="replace")


def _ready_task(task_id: str, send: Send, known: dict[str, str]) -> dict[str, Any]:
    """Ask for a task as all known clients do, until it has ended."""
    headers = {
        "Accept": "application/json; version=*",
        "Content-Type": "application/json",
        "Authorization": f"Bearer {known['token']}",
    }
    end = time.monotonic() + PATIENCE
    while True:
        status, data = send("GET", f"/api/tasks/{task_id}/", headers, b"")
        assert status == 200, f"task {task_id}: status {status}"
        task: dict[str, Any] = json.loads(data)
        if task["status"] in ("SUCCESS", "FAILURE"):
            return task
        assert time.monotonic() < end, f"task {task_id} is {task['status']} after {PATIENCE} s"
        time.sleep(0.02)


def _check(value: Any, shape: Any, known: Mapping[str, str]) -> None:
    wrong = next(_differences(value, shape, known, ""), None)
    assert wrong is None, str(wrong)


def _differences(value: Any, shape: Any, known: Mapping[str, str], where: str) -> Iterator[Wanted]:
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            yield Wanted(where, f"{value!r} is no object")
            return
        inner_shapes = {Template(key).substitute(known): inner for key, inner in shape.items() if key != "..."}
        if "..." not in shape and set(value) != set(inner_shapes):
            yield Wanted(where, f"has the keys {sorted(value)} instead of {sorted(inner_shapes)}")
        for key, inner in inner_shapes.items():
            if key not in value:
                yield Wanted(where, f"lacks {key!r}")
            else:
                yield from _differences(value[key], inner, known, f"{where}.{key}")
    elif isinstance(shape, list):
        if not isinstance(value, list) or (not value if len(shape) == 1 else len(value) != len(shape)):
            yield Wanted(where, f"{value!r} is no list of the length of {shape}")
            return
        shapes = shape * len(value) if len(shape) == 1 else shape
        for position, (entry, entry_shape) in enumerate(zip(value, shapes, strict=True)):
            yield from _differences(entry, entry_shape, known, f"{where}[{position}]")
    elif not any(_is(value, kind, known) for kind in str(shape).split("|")):
        yield Wanted(where, f"{value!r} is not {shape!r}")


def _is(value: Any, kind: str, known: Mapping[str, str]) -> bool:
    if kind.startswith("="):
        return json.dumps(value) == Template(kind[1:]).substitute(known)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    checks: dict[str, bool] = {
        "any": True,
        "null": value is None,
        "bool": isinstance(value, bool),
        "int": number and float(value).is_integer(),
        "number": number,
        "str": isinstance(value, str),
        "uuid": isinstance(value, str) and _UUID.fullmatch(value) is not None,
        "seconds": isinstance(value, str) and value.isdigit(),
        "list": isinstance(value, list),
        "object": isinstance(value, dict),
        "html": isinstance(value, str | dict),
    }
    return checks[kind]


def _at(result: Any, path: str) -> str:
    """Give the value at a path of keys and positions separated by dots; the result itself for an empty one."""
    for part in path.split(".") if path else []:
        result = result[int(part)] if isinstance(result, list) else result[part]
    return str(result)
