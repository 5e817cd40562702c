"""Steps with an instance: what the tour has a guest do on vPool volumes, and what it expects to find of it.

The guest has no network. It is told what to do by what stands at the head of a disk when that is attached, and tells
what it did on its console, which QEMU writes to a file.
"""

from __future__ import annotations

import os
import re
import signal
import time
import uuid
from collections.abc import Callable
from pathlib import Path

from openvstorage.aio import image
from openvstorage.aio.errors import EvidenceMismatch
from openvstorage.aio.evidence import EdgeEvidence, expect
from openvstorage.aio.user import User

__all__ = ["InstanceSteps"]

_GIB = 1024**3
_SECTOR = 512
_SECONDS = 120.0
_POLL_SECONDS = 0.2
_FLAVOR = "m1.tiny"
# Where the guest writes: a text over and over, then numbers, each in a sector of its own and synced before the next.
_TEXT_OFFSET = 1024**2
_TEXT_LENGTH = 1024**2
_NUMBERS_OFFSET = 16 * 1024**2
_ACKNOWLEDGED = "GUEST ACKNOWLEDGES"
_WRITTEN = "GUEST WROTE"
_ERROR = "GUEST ERROR"
# How many numbers a step wants to see written after what it did.
_MORE = 40
_ORDER = f"""{image.ORDER}
yes '{{text}}' | dd of=$1 bs=65536 seek={_TEXT_OFFSET // 65536} count={_TEXT_LENGTH // 65536} iflag=fullblock \\
  conv=notrunc,fsync 2>/dev/null || echo "{_ERROR} with the text"
echo "{_WRITTEN} {{text}}"
n=0
while [ -b $1 ]; do
  n=$((n + 1))
  at=$(({_NUMBERS_OFFSET // _SECTOR} + n))
  if printf '%-{_SECTOR}d' $n | dd of=$1 bs={_SECTOR} seek=$at conv=notrunc,fsync 2>/dev/null
  then [ $((n % 10)) = 0 ] && echo "{_ACKNOWLEDGED} $n"
  else [ -b $1 ] && echo "{_ERROR} with number $n"
  fi
done
"""


class Console:
    """What a guest has said on its console.

    :param file: where QEMU writes it.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def text(self) -> str:
        """Return all whole lines; none before the guest has started. Raises OSError."""
        said = self._file.read_text(errors="replace").replace("\r", "") if self._file.exists() else ""
        return said[: said.rfind("\n") + 1]

    def wait(self, pattern: str) -> str:
        """Wait until the guest has said a line that a regular expression matches; return its first group.

        Raises EvidenceMismatch after two minutes.
        """
        deadline = time.monotonic() + _SECONDS
        while (found := re.search(pattern, self.text(), re.MULTILINE)) is None:
            if time.monotonic() > deadline:
                last = self.text().strip().rpartition("\n")[2]
                raise EvidenceMismatch(what=f"the guest's console ({self._file})", expected=pattern, found=last)
            time.sleep(_POLL_SECONDS)
        return found.group(1)

    def acknowledged(self) -> int:
        """Return the last number that the guest has said to be on its disk, 0 before the first."""
        return int((re.findall(rf"^{_ACKNOWLEDGED} (\d+)$", self.text(), re.MULTILINE) or ["0"])[-1])

    def wait_for_more(self) -> int:
        """Wait until the guest has written more, and return the last number. Raises EvidenceMismatch."""
        wanted = self.acknowledged() + _MORE
        deadline = time.monotonic() + _SECONDS
        while (number := self.acknowledged()) < wanted:
            if time.monotonic() > deadline:
                raise EvidenceMismatch(what="numbers that the guest wrote", expected=f"{wanted} or more", found=number)
            time.sleep(_POLL_SECONDS)
        return number

    def errors(self) -> list[str]:
        """Return the lines about failed requests, of the kernel or of the order."""
        return [line for line in self.text().splitlines() if "I/O error" in line or _ERROR in line]


class InstanceSteps:
    """The steps in their order. Each builds on the ones before it, returns its evidence in words or raises.

    :param user: does what has to be done.
    :param edge: looks whether it was done.
    :param image_file: holds the image.
    :param volume_type: of the volumes.
    :param instances: where Nova keeps what belongs to instances, a directory each.
    :param compute_log: what nova-compute says.
    :param libvirt_version: as libvirt has it.
    """

    def __init__(
        self,
        user: User,
        edge: EdgeEvidence,
        image_file: Path,
        volume_type: str,
        *,
        instances: Path,
        compute_log: Path,
        libvirt_version: str,
    ) -> None:
        self._user = user
        self._edge = edge
        self._image = image_file
        self._type = volume_type
        self._instances = instances
        self._compute_log = compute_log
        self._libvirt_version = libvirt_version
        self._text = f"told to guest {uuid.uuid4()}"
        self._volumes: dict[str, str] = {}

    def all(self) -> list[tuple[str, Callable[[], str]]]:
        """Return name and action of each step."""
        return [
            ("boot an instance from a volume", self._boot),
            ("attach a second volume, to which the guest writes", self._attach),
            ("find the guest's bytes in a clone of a snapshot", self._snapshot),
            ("extend the volume while the guest writes", self._extend),
            ("kill the storage daemon while the guest writes", self._kill),
            ("detach the volume", self._detach),
            ("delete the instance and its volumes", self._delete),
        ]

    def _boot(self) -> str:
        words = ("--disk-format", "raw", "--container-format", "bare", "--file", str(self._image))
        self._user.begin("image", "guest-image", *words)
        self._user.wait("image", "guest-image", "active")
        self._make_volume("root", "--image", self._user.ids["guest-image"], "--size", "1")
        words = ("--flavor", _FLAVOR, "--nic", "none", "--volume", self._user.ids["root"])
        self._user.begin("server", "guest", *words)
        self._user.wait("server", "guest", "ACTIVE")
        kernel = self._console.wait(rf"^{image.BOOT_LINE} kernel (\S+)$")
        boot = self._console.wait(rf"^{image.BOOT_ID_LINE} (\S+)$")
        shown = self._user.run("console", "log", "show", self._user.ids["guest"])
        expect("that the console which Nova shows has the guest's boot id", True, boot in shown)
        found = self._edge.get(self._vdisk("root"), image.BOOT_ID_OFFSET, len(boot))
        expect("the boot id on the root volume through the edge", boot.encode(), found)
        return f"its console: Linux {kernel} is up; the id of this boot, {boot}, stands on its volume, through the edge"

    def _attach(self) -> str:
        self._make_volume("data", "--size", "1")
        vdisk = self._vdisk("data")
        self._edge.put(vdisk, 0, _ORDER.format(text=self._text).encode().ljust(image.ORDER_BYTES, b"\0"))
        self._user.ask("server", "add", "volume", self._user.ids["guest"], self._user.ids["data"])
        self._user.wait("volume", "data", "in-use")
        self._console.wait(rf"^({_WRITTEN} {self._text})$")
        return self._compare_text("the volume", vdisk)

    def _snapshot(self) -> str:
        acknowledged = self._console.wait_for_more()
        self._user.make("volume snapshot", "in-use", "--volume", self._user.ids["data"])
        self._make_volume("copy", "--snapshot", self._user.ids["in-use"])
        vdisk = self._vdisk("copy")
        text = self._compare_text("the clone", vdisk)
        return f"{text}; {self._compare_numbers('the clone', vdisk, acknowledged)}"

    def _extend(self) -> str:
        before = self._console.acknowledged()
        self._user.run("volume", "set", "--size", "2", self._user.ids["data"])
        self._user.wait("volume", "data", "in-use")
        self._console.wait(rf"^{image.DISKS_LINE} .*(vdb:{2 * _GIB // 1024}) ")
        after = self._console.wait_for_more()
        size = self._edge.size(self._vdisk("data"))
        expect("the volume's size through the edge", 2 * _GIB, size)
        self._expect_no_errors()
        return f"the guest sees {size} bytes, as the edge does, and wrote on, from {before} to {after}, without error"

    def _kill(self) -> str:
        vdisk = self._vdisk("data")
        before = self._console.wait_for_more()
        (victim,) = storage_daemons(vdisk)
        logged = self._compute_log.stat().st_size
        os.kill(victim, signal.SIGKILL)
        after = self._console.wait_for_more()
        self._expect_no_errors()
        now = storage_daemons(vdisk)
        expect("that another daemon serves the vDisk", True, len(now) == 1 and now != [victim])
        with self._compute_log.open(errors="replace") as log:
            log.seek(logged)
            resumed = "goes on: its volumes can be reached again" in log.read()
        how = "paused, and told to go on by the plug-in in nova-compute" if resumed else "made to wait by QEMU"
        numbers = self._compare_numbers("the volume", vdisk, after)
        return (
            f"killed process {victim} after number {before}; {now[0]} serves the vDisk since. With libvirt "
            f"{self._libvirt_version} the guest was {how}; no error in it, it is at {after}; {numbers}"
        )

    def _detach(self) -> str:
        acknowledged = self._console.wait_for_more()
        self._expect_no_errors()
        self._user.run("server", "remove", "volume", self._user.ids["guest"], self._user.ids["data"])
        self._user.wait("volume", "data", "available")
        self._console.wait(rf"^({image.DISKS_LINE} vda:\d+ vda1:\d+ )$(?![\s\S]*vdb)")
        return "the guest has lost the disk; " + self._compare_numbers("the volume", self._vdisk("data"), acknowledged)

    def _delete(self) -> str:
        server = self._user.ids["guest"]
        self._user.delete("server", "guest")
        self._user.delete("volume snapshot", "in-use")
        self._user.delete("volume", "root", "data", "copy")
        self._user.delete("image", "guest-image")
        left = [name for name, volume in self._volumes.items() if not self._edge.gone(volume)]
        expect("vDisks that are left on the vPool", [], left)
        expect("processes of the instance", [], processes_of(server))
        return f"no process of {server} runs; the vPool has none of the {len(self._volumes)} vDisks any more"

    # What steps share.

    @property
    def _console(self) -> Console:
        return Console(self._instances / self._user.ids["guest"] / "console.log")

    def _vdisk(self, name: str) -> str:
        return self._edge.vdisk(self._user.ids[name])

    def _make_volume(self, name: str, *words: str) -> None:
        self._user.make("volume", name, "--type", self._type, *words)
        self._volumes[name] = self._user.ids[name]

    def _compare_text(self, what: str, vdisk: str) -> str:
        line = f"{self._text}\n".encode()
        wanted = (line * (_TEXT_LENGTH // len(line) + 1))[:_TEXT_LENGTH]
        found = self._edge.get(vdisk, _TEXT_OFFSET, _TEXT_LENGTH)
        if found != wanted:
            raise EvidenceMismatch(what=f"{what} through the edge", expected=wanted[:60], found=found[:60])
        return f"{what} through the edge: {_TEXT_LENGTH} bytes '{self._text}', as the guest was told to write"

    def _compare_numbers(self, what: str, vdisk: str, last: int) -> str:
        found = self._edge.get(vdisk, _NUMBERS_OFFSET + _SECTOR, last * _SECTOR)
        lost = [n for n in range(1, last + 1) if found[(n - 1) * _SECTOR : n * _SECTOR] != b"%-512d" % n]
        expect(f"acknowledged numbers that {what} lacks", [], lost[:10])
        return f"{what} has each of the {last} numbers that the guest had synced by then"

    def _expect_no_errors(self) -> None:
        expect("errors in the guest", [], self._console.errors())


def storage_daemons(vdisk_guid: str) -> list[int]:
    """Return the process ids of the storage daemons that serve a vDisk."""
    return [pid for pid, words in _command_lines() if "storage-daemon" in words[0] and vdisk_guid in " ".join(words)]


def processes_of(server: str) -> list[int]:
    """Return the process ids of the QEMU of an instance."""
    return [pid for pid, words in _command_lines() if "qemu-system" in words[0] and server in words]


def _command_lines() -> list[tuple[int, list[str]]]:
    lines = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path("/proc", name, "cmdline").read_bytes().decode(errors="replace").split("\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        lines.append((int(name), words))
    return lines
