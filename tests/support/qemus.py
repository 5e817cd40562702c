"""Every QEMU at hand: the one in the PATH, and 10.0 if ``fetch_qemu10.sh`` has put it into ``var/qemu-10``."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["QEMU_10", "bin_dirs"]

QEMU_10 = Path(__file__).resolve().parents[2] / "var" / "qemu-10" / "usr" / "bin"


def bin_dirs() -> dict[str, Path]:
    """Directories with a storage daemon and qemu-img, by a short name for test ids."""
    found = {}
    program = shutil.which("qemu-storage-daemon")
    if program is not None:
        found["path"] = Path(program).parent
    if (QEMU_10 / "qemu-storage-daemon").exists():
        found["qemu-10"] = QEMU_10
    return found
