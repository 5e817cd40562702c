"""Room in the pool: marks, and a ballast that keeps deleting possible on a full disk.

The database lives on the same file system as the layers. When that is full, not even the transaction that would
delete something fits. The ballast is given back then, and made again once there is room.
"""

from __future__ import annotations

import os
from pathlib import Path

MIB = 1024**2


class Space:
    """The file system that a pool lives on.

    :param directory: the pool's directory.
    :param ballast_bytes: how much to hold in reserve.
    :param low_water_bytes: below this much free space nothing new is taken on.
    """

    def __init__(self, directory: Path, ballast_bytes: int = 64 * MIB, low_water_bytes: int = 128 * MIB) -> None:
        self._directory = directory
        self._ballast = directory / "ballast"
        self._ballast_bytes = ballast_bytes
        self._low_water = low_water_bytes

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
        """Give the ballast back when room is low, make it again when there is plenty. Blocks shortly."""
        free = self.free()
        if free < self._low_water:
            self.release_ballast()
        elif free > 2 * self._low_water + self._ballast_bytes and not self._ballast.exists():
            self._take_ballast()

    def release_ballast(self) -> None:
        """Give the reserve back to the file system."""
        self._ballast.unlink(missing_ok=True)

    def _take_ballast(self) -> None:
        descriptor = os.open(self._ballast, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, self._ballast_bytes)
        except OSError:
            self._ballast.unlink(missing_ok=True)  # the disk filled up meanwhile: no reserve is better than half a one
        finally:
            os.close(descriptor)
