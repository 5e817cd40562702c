"""A small file system, and how to fill it."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.engine import MIB

__all__ = ["FULL", "mounted", "occupy"]

#: What a user is told.
FULL = "the pool has no room left: delete snapshots or vDisks, or add disk space"


@contextlib.contextmanager
def mounted(path: Path, mib: int) -> Iterator[Path]:
    """A tmpfs of so many MiB; the test is skipped where none can be mounted."""
    path.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "none", path]
    done = subprocess.run(words, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"no tmpfs can be mounted here: {done.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


def occupy(path: Path) -> None:
    """Take what room is left, to the last byte."""
    for size in (MIB, 4096, 1):
        with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
            while file.write(bytes(size)) == size:
                pass
