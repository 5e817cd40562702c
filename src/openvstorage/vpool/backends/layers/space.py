"""Room in the pool: marks, and a ballast that keeps deleting possible on a full disk.

The database lives on the same file system as the layers. When that is full, not even the transaction that would
delete something fits, nor can the service start. A slice of the ballast is given back then, and made again once there
is room. Only a slice, and only for that: what is given back, guests who write on a full disk take at once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Self

from openvstorage.vpool.config import ServiceConfig

MIB = 1024**2
SLICES = 8


class Space:
    """The file system that a pool lives on.

    :param directory: the pool's directory.
    :param ballast_bytes: how much to hold in reserve.
    :param low_water_bytes: below this much free space nothing new is taken on.
    """

    def __init__(self, directory: Path, ballast_bytes: int = 64 * MIB, low_water_bytes: int = 128 * MIB) -> None:
        self._directory = directory
        self._slices = [directory / f"ballast-{number}" for number in range(SLICES)]
        self._slice_bytes = max(ballast_bytes // SLICES, 1)
        self._low_water = low_water_bytes

    @classmethod
    def of(cls, config: ServiceConfig, directory: Path) -> Self:
        """:returns: the room of a data directory."""
        return cls(directory, config.ballast_mib * MIB, config.low_water_mib * MIB)

    def free(self) -> int:
        """:returns: bytes free, without the ballast."""
        figures = os.statvfs(self._directory)
        return figures.f_bavail * figures.f_frsize

    def total(self) -> int:
        """:returns: bytes that the pool could hold."""
        figures = os.statvfs(self._directory)
        return figures.f_blocks * figures.f_frsize

    @property
    def low(self) -> bool:
        """Whether there is too little room to take on anything new."""
        return self.free() < self._low_water

    def tend(self) -> None:
        """Make what is missing of the ballast while there is plenty of room. Blocks shortly."""
        for path in self._slices:
            if not path.exists():
                if self.free() < 2 * self._low_water + self._slice_bytes:
                    return
                self._take(path)

    def ease(self) -> None:
        """Give a slice back if not even the database has room any more. Blocks shortly."""
        if self.free() < self._slice_bytes:
            for path in self._slices:
                if path.exists():
                    path.unlink()
                    return

    def _take(self, path: Path) -> None:
        descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._slice_bytes)
        except OSError:
            path.unlink(missing_ok=True)  # the disk filled up meanwhile: no reserve is better than half a one
        finally:
            os.close(descriptor)
