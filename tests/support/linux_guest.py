"""A guest with Linux, for what guests without an operating system can not tell: what its kernel says of its disks.

It is the test image of the all-in-one. From the head of its second disk it takes the order to write numbers there for
ever, each in a sector of its own and synced before the next, and tells on its console what it has done.
"""

from __future__ import annotations

import re
from pathlib import Path

from openvstorage.aio import image
from openvstorage.aio.paths import Paths
from openvstorage.aio.tour_instance import Console
from openvstorage.edge.nbd import NbdClient

__all__ = ["DISKS_LINE", "LinuxConsole", "make_order", "missing", "picture", "synced"]

DISKS_LINE = image.DISKS_LINE
_ROOT = Path(__file__).resolve().parents[2]
_TOOLS = ("/bin/busybox", "/usr/bin/cpio", "/usr/bin/mcopy", "/usr/bin/syslinux", "/usr/sbin/sfdisk")
_SECTOR = 512
_FIRST_SECTOR = 32768
_COMPLAINTS = "GUEST COMPLAINTS"
# Every tenth number it says how many lines of the kernel's are about trouble; some are there from the start.
_ORDER = f"""{image.ORDER}
n=0
while :; do
  n=$((n + 1))
  if printf '%-{_SECTOR}d' $n | dd of=$1 bs={_SECTOR} seek=$(({_FIRST_SECTOR} + n)) conv=notrunc,fsync 2>/dev/null
  then [ $((n % 10)) = 0 ] && echo "GUEST ACKNOWLEDGES $n" \\
    && echo "{_COMPLAINTS} $(dmesg | grep -ciE 'error|reset|timed out|blocked for|abort|hung')"
  else echo "GUEST ERROR with number $n"
  fi
done
"""


def missing() -> str | None:
    """Say what the making of the image needs and this machine lacks, None if nothing."""
    absent = [tool for tool in _TOOLS if not Path(tool).exists()]
    return f"a Linux guest needs {', '.join(absent)}" if absent else None


def picture(scratch: Path) -> Path:
    """Give the image, made on first use and kept in ``var/cache``. Blocks."""
    paths = Paths.of(scratch / "state", _ROOT / "var" / "cache")
    for directory in (paths.log, paths.cache):
        directory.mkdir(parents=True, exist_ok=True)
    return image.make_image(paths)


def make_order() -> bytes:
    """Give what has to stand at the head of the guest's second disk."""
    return _ORDER.encode().ljust(image.ORDER_BYTES, b"\0")


class LinuxConsole(Console):
    """What the guest has said. :ivar file: where."""

    def __init__(self, file: Path) -> None:
        super().__init__(file)
        self.file = file

    def complaints(self) -> list[str]:
        """Give how many lines of its kernel were about trouble, each number of them that it ever said once."""
        return sorted(set(re.findall(rf"^{_COMPLAINTS} (\d+)$", self.text(), re.MULTILINE)))


def synced(nbd: NbdClient, count: int) -> int:
    """Give how many of the numbers from 1 to ``count`` are on the second disk, in their places."""
    data = nbd.read((_FIRST_SECTOR + 1) * _SECTOR, count * _SECTOR)
    return sum(data[at * _SECTOR :][:_SECTOR].split() == [str(at + 1).encode()] for at in range(count))
