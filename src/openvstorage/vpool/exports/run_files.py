"""The files by which a daemon is found again: its monitor socket and its locked pid file."""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RunFiles"]

#: What fits in ``sun_path`` together with its end.
_SOCKET_PATH_LIMIT = 107
#: ``struct flock`` of 64-bit Linux: type, whence, start, length, pid.
_FLOCK = struct.Struct("hhqqi4x")


@dataclass(frozen=True, slots=True)
class RunFiles:
    """The files of one daemon in the run directory.

    :ivar monitor: the QMP socket.
    :ivar pid_file: holds the pid; the daemon keeps it locked while it lives.
    """

    monitor: Path
    pid_file: Path

    @classmethod
    def of(cls, run_dir: Path, vdisk: str, epoch: int) -> RunFiles:
        """The files of a vDisk's daemon of one epoch.

        :raise ValueError: the directory's name is too long for a socket in it.
        """
        name = hashlib.blake2s(f"{vdisk}/{epoch}".encode(), digest_size=8).hexdigest()
        monitor = run_dir / f"{name}.qmp"
        if len(bytes(monitor)) > _SOCKET_PATH_LIMIT:
            raise ValueError(f"{run_dir} is too long for a socket in it, choose a shorter run directory")
        return cls(monitor, run_dir / f"{name}.pid")

    def holder(self) -> int | None:
        """Who holds the lock on the pid file: a pid, -1 if the kernel does not tell, None if nobody."""
        try:
            with self.pid_file.open("rb") as file:
                asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
                kind, _, _, _, pid = _FLOCK.unpack(fcntl.fcntl(file, fcntl.F_GETLK, asked))
        except FileNotFoundError:
            return None
        return None if kind == fcntl.F_UNLCK else int(pid)

    def held_by(self, pid: int) -> bool:
        """Whether the pid file says that pid and is locked by it, as far as the kernel names the holder."""
        if self.holder() not in (pid, -1):
            return False
        return self.pid_file.read_text(encoding="ascii").strip() == str(pid)

    def remove(self) -> None:
        """Remove what an ended daemon left."""
        for path in (self.monitor, self.pid_file):
            path.unlink(missing_ok=True)
