"""The command line of a storage daemon, and what can be read back from a living one's.

Everything the daemon serves is on its command line, so that it accepts its first client only when all exports are
there, and so that an adopted daemon tells how its block nodes were opened. Others on the machine can read a command
line: it holds file names and export names, never a key.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from openvstorage.vpool.exports.limits import Limits
from openvstorage.vpool.exports.run_files import RunFiles
from openvstorage.vpool.exports.tls import LIST_ID, ServerTls

__all__ = [
    "GUARD",
    "TOP",
    "Export",
    "arguments",
    "blockdevs_of",
    "export_options",
    "group_id",
    "guard_options",
    "top_options",
]

#: Node name of the throttle filter that the exports of a daemon stand on.
TOP = "top"
#: Node name of the filter between ``top`` and a layer that is written to, see :func:`guard_options`.
GUARD = "guard"

_EXPORT_NAME = re.compile(r"[A-Za-z0-9._-]{1,200}")


@dataclass(frozen=True, slots=True)
class Export:
    """An NBD export.

    :ivar name: what clients ask for: 1 to 200 of ``A-Z a-z 0-9 . _ -``.
    :ivar writable: whether clients may write.
    :ivar node: the block node it serves.
    :ivar write_through: whether a write is on disk before it is acknowledged; QEMU does not tell it again.
    :raise ValueError: the name has other characters.
    """

    name: str
    writable: bool
    node: str = TOP
    write_through: bool = field(default=False, compare=False)

    def __post_init__(self) -> None:
        if not _EXPORT_NAME.fullmatch(self.name):
            raise ValueError(f"not an export name: {self.name!r}")

    @property
    def id(self) -> str:
        """QEMU's id of the export. It says the mode, which QEMU does not tell again."""
        return f"{'rw' if self.writable else 'ro'}-{self.name}"

    @classmethod
    def from_qmp(cls, info: Mapping[str, Any]) -> Export | None:
        """The export of an entry of ``query-block-exports``, None for one that is not ours."""
        mode, _, name = info["id"].partition("-")
        if mode not in ("rw", "ro") or not _EXPORT_NAME.fullmatch(name):
            return None
        return cls(name, mode == "rw", info["node-name"])


def group_id(vdisk: str, epoch: int) -> str:
    """Id of the throttle group, by which a daemon tells which vDisk and epoch it serves."""
    return f"tg-{vdisk}-{epoch}"


def top_options(group: str, below: str, *, read_only: bool) -> dict[str, Any]:
    """Options of the throttle filter. Without its own ``discard`` it would swallow all discards."""
    return {
        "driver": "throttle",
        "node-name": TOP,
        "throttle-group": group,
        "file": below,
        "discard": "unmap",
        "read-only": read_only,
    }


def guard_options(below: str, granule: int) -> dict[str, Any]:
    """Options of a filter that lets zero requests through in whole granules only; the rest of one becomes writes.

    A zero request for a part of a granule that the layer does not have yet is lost in QEMU, when another part is
    written at the same time and the layers below have data there (docs/qemu-bugs.md, "lost zero"). Writes wait for
    each other.

    :param granule: bytes: the largest unit in which a layer above which the filter will stand maps its data.
    """
    return {
        "driver": "blkdebug",
        "node-name": GUARD,
        "image": below,
        "opt-write-zero": granule,
        "discard": "unmap",
    }


def export_options(export: Export) -> dict[str, Any]:
    """Arguments of ``block-export-add``. No iothread: QEMU 7.2 dies of one at the first disconnect."""
    return {
        "type": "nbd",
        "id": export.id,
        "node-name": export.node,
        "name": export.name,
        "writable": export.writable,
        "writethrough": export.writable and export.write_through,
    }


def server_options(fd: int, tls: ServerTls | None = None) -> dict[str, Any]:
    """The NBD server on a listening socket. 0 connections: no limit."""
    options: dict[str, Any] = {"addr": {"type": "fd", "str": str(fd)}, "max-connections": 0}
    return options if tls is None else {**options, "tls-creds": tls.credentials_id, "tls-authz": LIST_ID}


def arguments(
    files: RunFiles,
    *,
    group: str,
    limits: Limits,
    blockdevs: Sequence[Mapping[str, Any]],
    server_fds: Sequence[int],
    exports: Sequence[Export],
    tls: ServerTls | None = None,
    admitted: Sequence[str] = (),
    objects: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """The daemon's arguments; it carries them out in this order.

    :param blockdevs: ``blockdev-add`` arguments, base first, the filter ``top`` last.
    :param server_fds: the inherited listening socket; none for a daemon without an NBD server.
    :param tls: the NBD server's certificate; None for plain NBD.
    :param admitted: with TLS the distinguished names of the certificates that are let in.
    :param objects: ``object-add`` arguments that the block nodes need.
    """
    result = ["--chardev", f"socket,id=monitor,path={_escaped(files.monitor)},server=on,wait=off"]
    result += ["--monitor", "chardev=monitor,mode=control", "--pidfile", str(files.pid_file)]
    result += ["--object", json.dumps({"qom-type": "throttle-group", "id": group, "limits": limits.as_qmp()})]
    for options in objects:
        result += ["--object", json.dumps(dict(options))]
    for options in blockdevs:
        result += ["--blockdev", json.dumps(dict(options))]
    for fd in server_fds:
        for options in () if tls is None else tls.objects(admitted):
            result += ["--object", json.dumps(options)]
        result += ["--nbd-server", json.dumps(server_options(fd, tls))]
    for export in exports:
        result += ["--export", json.dumps(export_options(export))]
    return result


def blockdevs_of(pid: int) -> list[dict[str, Any]]:
    """The ``--blockdev`` options of a living daemon's command line, the filter ``top`` among them.

    :raise ProcessLookupError: it has ended.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(pid) from None
    return [json.loads(value) for option, value in itertools.pairwise(words) if option == "--blockdev"]


def _escaped(path: Path) -> str:
    return str(path).replace(",", ",,")
