"""Reading a daemon's block graph out of its QMP answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["child", "files"]

#: Drivers whose node is a file or device of the host.
_FILE_DRIVERS = frozenset({"file", "host_device"})


def child(graph: Mapping[str, Any], node: str, edge: str) -> str | None:
    """The node at the other end of an edge.

    :param graph: answer of ``x-debug-query-block-graph``.
    :param node: node name of the parent.
    :param edge: name of the edge, as ``file`` or ``backing``.
    :return: the child's node name, None if there is no such node or edge.
    """
    names = {item["id"]: item["name"] for item in graph["nodes"] if item["type"] == "block-driver"}
    for item in graph["edges"]:
        if item["name"] == edge and names.get(item["parent"]) == node:
            return str(names[item["child"]])
    return None


def files(nodes: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of all files opened, sorted.

    The format nodes above them show no plain name once their parent was given explicitly.

    :param nodes: answer of ``query-named-block-nodes``.
    """
    return sorted(node["file"] for node in nodes if node["drv"] in _FILE_DRIVERS)
