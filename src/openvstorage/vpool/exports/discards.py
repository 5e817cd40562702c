"""What becomes of discards: given back to the file system in place, or not at all.

QEMU frees the cluster of a discard, or of a zero request that may unmap, in memory, and hands it to the next write that
needs one. Two things go wrong with that (docs/qemu-bugs.md, "zero race" and "reuse before flush"): a zero request for a
part of a cluster frees it under a write to its other part, and a kill between the other write's data and the tables
leaves a block with another block's data. With ``discard-no-unref`` (QEMU 8.1) a cluster stays its block's own and only
its bytes go back to the file system. In a layer without sub-clusters they could then go under a write to another part
of the cluster, so that is for layers with sub-clusters only. Elsewhere discards are ignored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from openvstorage.vpool.exports import tools

__all__ = ["IGNORED", "IN_PLACE", "stay_in_place"]

#: Options of a qcow2 node that takes no notice of discards. QEMU 7.2 heeds this only below a filter, as ``top`` is one.
IGNORED: dict[str, Any] = {"discard": "ignore"}
#: Options of a qcow2 node that gives the bytes of a discarded cluster back and keeps the cluster.
IN_PLACE: dict[str, Any] = {"discard": "unmap", "discard-no-unref": True}

_KIB = 1024
_CLUSTER = 128 * _KIB
_CLUSTERS = 16
#: Beyond the clusters of the race: as many others that are written after it, a cluster that is discarded, one written.
_OTHERS = _CLUSTERS * _CLUSTER
_DISCARDED = 2 * _OTHERS
_WRITTEN = _DISCARDED + _CLUSTER


async def stay_in_place(image_tool: Path, io_tool: Path, scratch: Path) -> bool:
    """Try both faults with :data:`IN_PLACE` on a layer with sub-clusters; about 0.2 s.

    :param scratch: an empty image is made there and left.
    :returns: False when a block was wrong, a discarded cluster has another owner, or this QEMU lacks the option.
    :raise ProbeFailed: no image can be made.
    """
    image = scratch / "discards.qcow2"
    layout = f"extended_l2=on,cluster_size={_CLUSTER}"
    size = str(3 * _OTHERS)
    await tools.must(scratch, image_tool, "create", "-q", "-f", "qcow2", "-o", layout, str(image), size)
    node: dict[str, Any] = {"driver": "qcow2", **IN_PLACE}
    node["file"] = {"driver": "file", "filename": str(image), "discard": "unmap"}
    top = {"driver": "throttle", "throttle-group": "none", "discard": "unmap", "file": node}
    words = ["-t", "writeback", "--object", "throttle-group,id=none"]
    for command in _commands():
        words += ["-c", command]
    status, said = await tools.run(scratch, io_tool, *words, "json:" + json.dumps(top))
    if status or "failed" in said.raw():
        return False
    part = (f"--start-offset={_DISCARDED}", f"--max-length={2 * _CLUSTER}")
    status, said = await tools.run(scratch, image_tool, "map", "-f", "qcow2", "--output=json", *part, str(image))
    return status == 0 and _owns_its_cluster(json.loads(said.raw()))


def _commands() -> Iterator[str]:
    """What qemu-io does. Its ``aio_`` commands are in flight together until ``aio_flush``."""
    yield f"write -q -P 1 0 {_OTHERS}"
    yield f"write -q -z 0 {_OTHERS}"
    starts = [number * _CLUSTER for number in range(_CLUSTERS)]
    for start in starts:
        for offset, length, rest in _parts(start):
            yield f"aio_write -q -P 2 {offset} {length}"
            yield f"aio_write -q -z -u {offset + length} {rest}"
    yield from ("aio_flush", "flush", f"write -q -P 3 {_OTHERS} {_OTHERS}")
    for start in starts:
        for offset, length, rest in _parts(start):
            yield f"read -q -P 2 {offset} {length}"
            yield f"read -q -P 0 {offset + length} {rest}"
    yield from (f"write -q -P 4 {_DISCARDED} {_CLUSTER}", "flush", f"discard -q {_DISCARDED} {_CLUSTER}")
    yield from (f"write -q -P 5 {_WRITTEN} {_CLUSTER}", "flush", f"read -q -P 0 {_DISCARDED} {_CLUSTER}")


def _parts(start: int) -> Iterator[tuple[int, int, int]]:
    """Offset and length of a write, and the length of the zeroes behind it: in a sub-cluster, and in the cluster."""
    yield start, 512, 4 * _KIB - 512
    yield start + 4 * _KIB, 4 * _KIB, _CLUSTER - 8 * _KIB


def _owns_its_cluster(extents: list[dict[str, Any]]) -> bool:
    offsets = {extent["start"]: extent.get("offset") for extent in extents}
    mine = offsets.get(_DISCARDED)
    return mine is not None and mine != offsets.get(_WRITTEN)
