"""Block devices that can lose their power, with a file system on them.

A storage daemon exports an image as a file over FUSE, a loop device makes a disk of that file, and ext4 or XFS is
mounted from it. What the file system sends to the disk, writes and flushes, arrives at the daemon in that order, one
after the other, and is logged there.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

#: How long a storage daemon or the kernel may take on a busy machine.
PATIENCE_SECONDS = 60.0


class CanNotRun(Exception):
    """This machine does not allow it; the text says what is missing."""


class NotMountable(Exception):
    """The file system can not be mounted; the text is the kernel's or mount's."""


def make_file_system(kind: str, image: Path, size: int) -> None:
    """Make an image file of ``size`` bytes with a file system, ``ext4`` or ``xfs``."""
    with image.open("wb") as file:
        file.truncate(size)
    options = {
        "ext4": ["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"],
        "xfs": ["-q", "-K"],
    }
    _run(f"mkfs.{kind}", *options[kind], image)


class Device:
    """A file system on a device of the harness's own. Use it by ``with``: it is mounted inside.

    :param nodes: the daemon's block nodes as QMP describes them, lowest first; the last is the device.
    :param work: a directory of its own for the daemon's files.
    :param kind: of the file system.
    :param tool: path of ``qemu-storage-daemon``.
    :ivar file: the exported image, which may be written to before :meth:`mount`.
    :ivar mounted: where the file system is.
    """

    def __init__(self, nodes: list[dict[str, Any]], work: Path, kind: str, tool: Path) -> None:
        self._kind = kind
        work.mkdir(parents=True, exist_ok=True)
        self.file = work / "device"
        self.file.touch()
        self.mounted = work / "mounted"
        self.mounted.mkdir(exist_ok=True)
        self._loop = ""
        self._messages = work / "device.log"
        command: list[str | Path] = [tool]
        for node in nodes:
            command += ["--blockdev", json.dumps(node)]
        export = {"type": "fuse", "id": "device", "node-name": nodes[-1]["node-name"], "writable": True}
        command += ["--export", json.dumps({**export, "mountpoint": str(self.file)})]
        with self._messages.open("wb") as messages:
            self._daemon = subprocess.Popen(command, stdout=messages, stderr=messages)

    def __enter__(self) -> Self:
        try:
            self._await_export()
        except BaseException:
            self._end_daemon()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._loop:
                self._unmount()
        finally:
            self._end_daemon()

    def mount(self) -> None:
        """Attach the loop device and mount the file system, which repairs itself by its journal.

        :raises NotMountable: it does not.
        """
        self._loop = _run("losetup", "--find", "--show", self.file).strip()
        result = subprocess.run(
            ["mount", "-t", self._kind, self._loop, self.mounted], capture_output=True, text=True, check=False
        )
        if result.returncode:
            _run("losetup", "--detach", self._loop)
            self._loop = ""
            raise NotMountable(result.stderr.strip())

    def _unmount(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while subprocess.run(["umount", self.mounted], capture_output=True, check=False).returncode:
            # a process that was killed may hold its files for a moment
            if time.monotonic() > deadline:
                raise RuntimeError(f"{self.mounted} is still in use")
            time.sleep(0.1)
        _run("losetup", "--detach", self._loop)
        self._loop = ""

    def _await_export(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not self.file.stat().st_size:
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                raise CanNotRun(f"qemu-storage-daemon can not export over FUSE: {self._messages.read_text().strip()}")
            time.sleep(0.02)

    def _end_daemon(self) -> None:
        self._daemon.terminate()
        try:
            self._daemon.wait(timeout=PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self._daemon.kill()
            self._daemon.wait()


def logged(image: Path, log: Path) -> list[dict[str, Any]]:
    """:returns: nodes of a device on ``image`` whose writes and flushes go to ``log``, an empty file.

    Nothing here has to survive the power of this machine, so flushes end in the log.
    """
    return [
        _file("image", image),
        _file("log", log),
        {
            "driver": "blklogwrites",
            "node-name": "device",
            "file": "image",
            "log": "log",
            "log-super-update-interval": 1,
        },
    ]


def overlaid(image: Path, overlay: Path, tool: Path) -> list[dict[str, Any]]:
    """:returns: nodes of a device that reads as ``image``, which stays as it is: writes go to ``overlay``.

    :param tool: path of ``qemu-img``, which makes the overlay.
    """
    overlay.unlink(missing_ok=True)
    _run(tool, "create", "-q", "-f", "qcow2", "-b", image, "-F", "raw", overlay)
    return [
        {**_file("image", image), "read-only": True},
        _file("overlay", overlay),
        {"driver": "qcow2", "node-name": "device", "file": "overlay", "backing": "image"},
    ]


def demand_all() -> None:
    """Look whether this machine allows loop devices on FUSE.

    :raises CanNotRun: it does not; the text is one sentence.
    """
    if os.geteuid() != 0:
        raise CanNotRun("loop devices and mounts need root: run this as root")
    for path in ("/dev/fuse", "/dev/loop-control"):
        if not Path(path).exists():
            raise CanNotRun(f"{path} is missing: run this on a machine, or in a container, that has it")


def _file(name: str, path: Path) -> dict[str, Any]:
    return {"driver": "file", "node-name": name, "filename": str(path), "cache": {"no-flush": True}}


def _run(*words: str | Path) -> str:
    result = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    if result.returncode:
        raise CanNotRun(f"{words[0]} failed: {result.stderr.strip()}")
    return result.stdout
