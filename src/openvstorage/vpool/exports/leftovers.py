"""Finding the daemons that an earlier service process left running, by what they say of themselves.

Only the run directory's own pid files are looked at, and what is found is a claim: :meth:`StorageDaemon.adopt` proves
it before anything is sent to the process.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import socket
from dataclasses import dataclass
from pathlib import Path

from openvstorage.vpool.exports.identity import Identity
from openvstorage.vpool.exports.run_files import RunFiles

__all__ = ["Leftover", "clear", "find", "wait_for_starting"]

_LOOK = 0.02
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


async def wait_for_starting(run_dir: Path, seconds: float = 30.0) -> None:
    """Wait until no daemon is left that was started but does not tell its pid yet.

    The service that started it may have been killed a moment ago: :func:`find` would miss it, and it would keep its
    files and its port to itself for ever.

    :raise TimeoutError: one is still starting.
    """
    async with asyncio.timeout(seconds):
        while _starting(run_dir):
            await asyncio.sleep(_LOOK)


def _starting(run_dir: Path) -> list[int]:
    """Pids of processes whose words name a pid file here that they do not hold yet."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        for option, value in itertools.pairwise(words):
            if option == "--pidfile" and Path(value).parent == run_dir:
                pid_file = Path(value)
                if RunFiles(pid_file.with_suffix(".qmp"), pid_file).holder() is None:
                    found.append(int(entry.name))
    return found


def clear(run_dir: Path) -> None:
    """Remove the files of daemons that have ended; those of living ones stay. Blocks shortly.

    Call it while nobody starts daemons: one that is just starting does not hold its pid file yet.
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
