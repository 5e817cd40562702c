"""Programs in the place of ``qemu-img`` and ``cp`` that stall over a layer until they are told to go on."""

from __future__ import annotations

import os
import shlex
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LateTool"]

PATIENCE_SECONDS = 30.0

#: Only what changes a layer stalls: probing at start goes on at once.
_WRAPPER = """#!/bin/sh
case "$*" in
{pattern}*) stalls=yes ;;
esac
[ -z "$stalls" ] && exec {real} "$@"
{way}
"""
_LATE = """#!/bin/sh
echo $$ >> {pids}
while [ ! -e {go} ]; do sleep 0.05; done
exec {real} "$@"
"""

#: How the late one lives: in the tool's own process, as its child, or as a child that nothing tells whose it is.
WAYS = {
    "itself": 'exec {late} "$@"',
    "child": '{late} "$@" &\nwait',
    "unmarked": 'env -i PATH="$PATH" {late} "$@" &\nwait',
}


@dataclass
class LateTool:
    """A tool that stalls before it touches anything.

    :ivar folder: where it is, to be put before others in the PATH, and given as ``qemu_dir``.
    """

    folder: Path

    @classmethod
    def make(cls, folder: Path, qemu: Path, way: str) -> LateTool:
        """Stand-ins for the tools of a QEMU and for ``cp``.

        :param way: one of :data:`WAYS`.
        """
        folder.mkdir()
        tool = cls(folder)
        (folder / "qemu-storage-daemon").symlink_to(qemu / "qemu-storage-daemon")
        for name, real, pattern in (
            ("qemu-img", str(qemu / "qemu-img"), '"create -q -u "*|"resize -q "'),
            ("cp", str(shutil.which("cp")), '"--sparse=always "'),
        ):
            late = folder / f"late-{name}"
            words = {"real": shlex.quote(real), "go": tool.go, "pids": tool._pids}
            _program(late, _LATE.format(**words))
            _program(
                folder / name, _WRAPPER.format(pattern=pattern, way=WAYS[way].format(late=late), real=words["real"])
            )
        return tool

    @property
    def go(self) -> Path:
        """They go on when it exists."""
        return self.folder / "go"

    @property
    def _pids(self) -> Path:
        return self.folder / "pids"

    def pids(self) -> list[int]:
        """:returns: the processes that have stalled so far."""
        return [int(pid) for pid in self._pids.read_text().split()] if self._pids.exists() else []

    def alive(self) -> list[int]:
        """:returns: those of them that live."""
        return [pid for pid in self.pids() if _lives(pid)]

    def let_go_on(self) -> int:
        """Let those that live do what they came for, and wait for their end. :returns: how many there were."""
        late = self.alive()
        self.go.touch()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self.alive():
            assert time.monotonic() < deadline, "the late tool does not end"
            time.sleep(0.02)
        return len(late)


def _program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o700)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def path_with(folder: Path) -> str:
    """:returns: a PATH in which the programs of a folder come first."""
    return f"{folder}{os.pathsep}{os.environ['PATH']}"
