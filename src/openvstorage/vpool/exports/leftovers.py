"""Finding the daemons that an earlier service process left running, by what they say of themselves.

Only the run directory's own pid files are looked at, and what is found is a claim: :meth:`StorageDaemon.adopt` proves
it before anything is sent to the process.
"""

from __future__ import annotations

import itertools
import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from openvstorage.vpool.exports.identity import Identity
from openvstorage.vpool.exports.run_files import RunFiles

__all__ = ["Leftover", "clear", "find"]

_GROUP = re.compile(r"tg-(?P<vdisk>.+)-(?P<epoch>\d+)")


@dataclass(frozen=True, slots=True)
class Leftover:
    """A process that seems to be a daemon of ours.

    :ivar vdisk: guid it was started for, in this epoch.
    """

    vdisk: str
    epoch: int
    identity: Identity


def find(run_dir: Path) -> list[Leftover]:
    """Look through a run directory. Blocks shortly."""
    found = []
    for pid_file in sorted(run_dir.glob("*.pid")):
        try:
            pid = int(pid_file.read_text(encoding="ascii"))
            identity = Identity.of(pid)
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError, ValueError):
            continue
        claim = _claim(words)
        if claim is not None:
            found.append(Leftover(claim[0], claim[1], identity))
    return found


def clear(run_dir: Path) -> None:
    """Remove the files of daemons that have ended; those of living ones stay. Blocks shortly.

    Call it while nobody starts daemons: one that is just starting has its socket before its pid file.
    """
    for monitor in {path.with_suffix(".qmp") for pattern in ("*.qmp", "*.pid") for path in run_dir.glob(pattern)}:
        files = RunFiles(monitor, monitor.with_suffix(".pid"))
        if files.holder() is None and not _listens(monitor):
            files.remove()


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.setblocking(False)
        try:
            client.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            pass  # it listens and is busy
    return True


def _claim(words: list[str]) -> tuple[str, int] | None:
    for option, value in itertools.pairwise(words):
        if option != "--object":
            continue
        try:
            match = _GROUP.fullmatch(str(json.loads(value).get("id")))
        except (ValueError, AttributeError):
            continue
        if match:
            return match["vdisk"], int(match["epoch"])
    return None
