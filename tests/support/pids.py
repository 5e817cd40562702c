"""A control group in which processes and threads run out."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["Pids", "few_pids"]

_ROOT = Path("/sys/fs/cgroup")


class Pids:
    """The group.

    :param folder: its directory.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def enter(self) -> None:
        """Put this process into it, with all that it starts from now on."""
        (self._folder / "cgroup.procs").write_text(str(os.getpid()))

    def none_left(self) -> None:
        """Not one more process or thread can be started."""
        (self._folder / "pids.max").write_text((self._folder / "pids.current").read_text())

    def as_many_as_wanted(self) -> None:
        """No limit."""
        (self._folder / "pids.max").write_text("max")

    def members(self) -> list[int]:
        """:returns: the processes in it."""
        return [int(pid) for pid in (self._folder / "cgroup.procs").read_text().split()]


@contextmanager
def few_pids() -> Iterator[Pids]:
    """A group of our own; what is still in it at the end is killed. Skips where none can be made."""
    parent = _ROOT / "pids" if (_ROOT / "pids").is_dir() else _ROOT
    folder = parent / f"openvstorage-test-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error.strerror}")
    try:
        if not (folder / "pids.max").exists():
            pytest.skip("control groups have no limit of processes here")
        yield (group := Pids(folder))
        for pid in group.members():
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 30
        while group.members():
            assert time.monotonic() < deadline, "processes of the test do not end"
            time.sleep(0.02)
    finally:
        folder.rmdir()
