"""Paths: where the all-in-one keeps its things. One state directory for a cloud, one cache that clouds share."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from openvstorage.aio.errors import NotOurs, StateBusy

__all__ = ["Paths", "write_private"]

_MARKER = ".openvstorage-aio"
_RUN = Path("/run")
# A unix socket's path holds at most 107 bytes, and programs append to the name they are given (a pid, ".lock").
_SOCKET_DIR_LIMIT = 70


def write_private(path: Path, text: str) -> bool:
    """Write ``text`` to ``path`` with mode 0600, by rename, so that a reader sees the old or the new file.

    Returns whether the content changed; an unchanged file is left alone. Raises OSError.
    """
    if path.exists() and path.read_text() == text:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(text)
    fresh.replace(path)
    return True


@dataclass(frozen=True, slots=True)
class Paths:
    """The directories of one all-in-one.

    :ivar state: everything this cloud owns: configuration, data, logs, records of its processes.
    :ivar cache: what clouds share and may be deleted at any time: downloaded wheels and packages, images.
    """

    state: Path
    cache: Path

    @classmethod
    def of(cls, state: Path, cache: Path | None = None) -> Paths:
        """Return the paths for a state directory; the cache is ``cache`` beside it unless told. Touches no disk."""
        state = Path(os.path.abspath(state))
        return cls(state, Path(os.path.abspath(cache)) if cache else state.parent / "cache")

    @property
    def etc(self) -> Path:
        """Configuration files."""
        return self.state / "etc"

    def certificate(self, host: str) -> Path:
        """Where the certificate is, or would be, by which a host opens vDisks: a directory in QEMU's layout."""
        return self.etc / "edge" / host

    @property
    def data(self) -> Path:
        """Databases, images and the vPool."""
        return self.state / "data"

    @property
    def log(self) -> Path:
        """One log file for each program."""
        return self.state / "log"

    @property
    def run(self) -> Path:
        """Process records and lock files."""
        return self.state / "run"

    @property
    def venv(self) -> Path:
        """The Python environment that OpenStack runs in."""
        return self.state / "venv"

    @property
    def sockets(self) -> Path:
        """Where unix sockets go: in the state directory, or below /run when that path is too long for one."""
        inside = self.state / "run"
        if len(os.fsencode(inside)) <= _SOCKET_DIR_LIMIT:
            return inside
        return _RUN / f"openvstorage-aio-{self._tag}"

    @property
    def guests(self) -> Path:
        """What libvirt and its guests share.

        They are not root, and need not be let into the directories above the state directory.
        """
        return _RUN / f"openvstorage-guests-{self._tag}"

    @property
    def _tag(self) -> str:
        return hashlib.sha256(os.fsencode(self.state)).hexdigest()[:8]

    @property
    def exists(self) -> bool:
        """Whether the state directory was made by us."""
        return (self.state / _MARKER).is_file()

    def create(self) -> None:
        """Make the directories that are missing. Raises NotOurs if the state directory holds somebody else's files."""
        if self.state.exists() and not self.exists and (not self.state.is_dir() or any(self.state.iterdir())):
            raise NotOurs(path=self.state)
        self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        (self.state / _MARKER).touch()
        for directory in (self.etc, self.data, self.log, self.run, self.sockets):
            directory.mkdir(exist_ok=True, mode=0o700)
        self.cache.mkdir(parents=True, exist_ok=True)

    def purge(self) -> None:
        """Delete the state directory and what is outside of it; the cache stays.

        Raises NotOurs if it was not made by us.
        """
        if not self.state.exists():
            return
        if not self.exists:
            raise NotOurs(path=self.state)
        if self.sockets != self.run:
            shutil.rmtree(self.sockets, ignore_errors=True)
        shutil.rmtree(self.guests, ignore_errors=True)
        shutil.rmtree(self.state)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the state directory for one command. Raises StateBusy at once when another command holds it."""
        with (self.state / _MARKER).open("r") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StateBusy(path=self.state) from None
            yield
