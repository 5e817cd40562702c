"""Block nodes: how a layer is opened by a storage daemon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openvstorage.vpool.backends.layers.caches import part
from openvstorage.vpool.exports.discards import IGNORED, IN_PLACE


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """How files are opened.

    :ivar aio: ``io_uring``, ``native`` or ``threads``.
    :ivar direct: without the host's page cache.
    :ivar cache_budget: bytes that the metadata caches of one daemon may take together.
    :ivar discards_in_place: whether layers with sub-clusters give discarded space back, see
        :mod:`openvstorage.vpool.exports.discards`.
    :ivar guards_zeroes: whether zero requests for parts of a cluster are made writes, see
        :func:`openvstorage.vpool.exports.command.guard_options`.
    """

    aio: str
    direct: bool
    cache_budget: int
    discards_in_place: bool
    guards_zeroes: bool


def format_node(guid: str) -> str:
    """:returns: name of the qcow2 node of a layer; QEMU allows 31 characters."""
    return "l" + guid.replace("-", "")[:30]


def file_node(guid: str) -> str:
    """:returns: name of the node of a layer's file."""
    return "f" + guid.replace("-", "")[:30]


def is_layer_node(name: str) -> bool:
    """:returns: whether a node name is one of ours for a layer or its file."""
    return len(name) == 31 and name[0] in "lf" and all(digit in "0123456789abcdef" for digit in name[1:])


def layer_nodes(
    guid: str,
    path: Path,
    parent: str | None,
    options: NodeOptions,
    *,
    read_only: bool,
    cache: int,
    subclusters: bool,
) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Describe the two nodes of a layer.

    The file is opened with ``auto-read-only``, so that a layer which is no longer written to gives up its write lock
    and other daemons can read it too. The file takes discards: which ones reach it is up to the layer's node above.

    :param parent: node name of the layer below, None to open the layer alone.
    :param cache: bytes for the metadata cache of this layer.
    :param subclusters: whether the layer was made with ``extended_l2``.
    :returns: the file's node and the layer's node, in the order in which they must be added.
    """
    return (
        {
            "driver": "file",
            "node-name": file_node(guid),
            "filename": str(path),
            "aio": options.aio,
            "cache": {"direct": options.direct},
            "discard": "unmap",
            "read-only": read_only,
            "auto-read-only": True,
        },
        {
            "driver": "qcow2",
            "node-name": format_node(guid),
            "file": file_node(guid),
            "backing": parent,
            "cache": {"direct": options.direct},
            **(IN_PLACE if subclusters and options.discards_in_place else IGNORED),
            "read-only": read_only,
            "l2-cache-size": cache,
            **({} if read_only else {"l2-cache-entry-size": part(cache)}),
        },
    )
