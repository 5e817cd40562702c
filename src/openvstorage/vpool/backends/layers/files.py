"""Layer files: one qcow2 image per layer, named by the layer's guid, all in one directory.

Everything here is bytes. What may be removed is decided elsewhere and committed before this module is asked.

A new file comes to be under a name of its own attempt and gets the layer's name when it is complete: a tool that lives
on longer than it should writes to what nobody uses.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import re
import secrets
import stat
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openvstorage.vpool.backends.base import BackendError
from openvstorage.vpool.backends.layers.tools import PATIENCE_SECONDS, Locked, Tools

log = logging.getLogger(__name__)

SUFFIX = ".qcow2"
#: In a cluster, with extended_l2.
SUBCLUSTERS = 32
#: The name of an attempt: the layer's guid, and what no other attempt has. No row ever speaks of such a file, and no
#: storage daemon opens one.
_ATTEMPT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.[0-9a-f]{16}\.part")
#: A tool that reads or copies a whole file gets a second more for so many bytes.
_SLOW_DISK = 1024**2
LOCK_PATIENCE_SECONDS = 5.0
LOCK_RETRY_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How new layers are laid out; chosen by probing the QEMU at hand.

    :ivar cluster_size: bytes.
    :ivar extended_l2: sub-clusters: less write amplification, but QEMU 7.2 aborts when it merges such layers.
    """

    cluster_size: int
    extended_l2: bool

    @property
    def granule(self) -> int:
        """:returns: bytes of the unit in which a layer maps its data."""
        return self.cluster_size // SUBCLUSTERS if self.extended_l2 else self.cluster_size

    def as_argument(self) -> str:
        """:returns: the value of ``qemu-img create -o``."""
        return f"cluster_size={self.cluster_size},extended_l2={'on' if self.extended_l2 else 'off'}"


def has_subclusters(path: Path) -> bool:
    """:returns: whether a layer's file was made with ``extended_l2`` (qcow2 specification: incompatible bit 4)."""
    try:
        with path.open("rb") as image:
            header = image.read(80)
    except FileNotFoundError:
        return False  # removed meanwhile
    return len(header) == 80 and bool(int.from_bytes(header[72:80], "big") & 1 << 4)


class LayerFiles:
    """The directory of layer files.

    :param directory: where they are; made if missing.
    :param image_tool: path of ``qemu-img``.
    :param options: layout of new layers.
    """

    def __init__(self, directory: Path, image_tool: Path, options: ImageOptions) -> None:
        self.directory = directory
        self.lost_and_found = directory.parent / "lost+found"
        self._image_tool = image_tool
        self._options = options
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.tools = Tools(directory)

    def path(self, guid: str) -> Path:
        """:returns: where the layer's file is or would be."""
        return self.directory / (guid + SUFFIX)

    def require_file(self, guid: str) -> Path:
        """:returns: the path of a layer that is to be opened.

        :raises BackendError: there is something else in its place, such as a symbolic link to somebody's file.
        """
        path = self.path(guid)
        with contextlib.suppress(FileNotFoundError):  # whoever opens it says so
            if not stat.S_ISREG(path.lstat().st_mode):
                raise BackendError(f"{path} is not a file, but a link or a directory: put the layer's file back")
        return path

    async def create(self, guid: str, size: int, parent: str | None) -> None:
        """Make an empty layer of ``size`` bytes; replaces what a crash left half made. Durable on return.

        :raises PoolFull: no room; nothing is left behind.
        :raises BackendError: QEMU's tool refuses.
        """
        backing = ["-b", parent + SUFFIX, "-F", "qcow2"] if parent else []
        layout = self._options.as_argument()
        async with self._attempt(guid) as path:
            await self.tools.run(
                self._image_tool, "create", "-q", "-u", "-f", "qcow2", "-o", layout, *backing, path, size
            )

    @asynccontextmanager
    async def _attempt(self, guid: str) -> AsyncIterator[Path]:
        """The name under which a layer's file is made; after the block it takes the layer's place, durably, and if
        that fails nothing of either is left."""
        path = self.path(guid)
        part = self.directory / f"{guid}.{secrets.token_hex(8)}.part"
        path.unlink(missing_ok=True)
        try:
            yield part
            await asyncio.to_thread(self._put, part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            raise

    def _put(self, part: Path, path: Path) -> None:
        part.chmod(0o600)
        _fsync(part)
        part.rename(path)
        self.sync_directory()

    def drop_attempts(self) -> None:
        """Remove what attempts of an earlier service left. Call when none of its tools runs any more. Blocks."""
        for path in list(self.present()):
            if _ATTEMPT.fullmatch(path.name):
                path.unlink()

    async def grow(self, guid: str, size: int) -> None:
        """Grow a layer that nobody has open to at least ``size`` bytes. Durable on return."""
        if self.virtual_size(guid) < size:
            await self._resize(guid, size)
        await self.settle(guid)

    async def _resize(self, guid: str, size: int) -> None:
        # In place: what is left of it is ended before the next service touches a layer.
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            try:
                await self.tools.run(self._image_tool, "resize", "-q", _alone(self.require_file(guid)), size)
                return
            except Locked:
                # the lock of a daemon that was killed stays for some milliseconds after its end
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(LOCK_RETRY_SECONDS)

    def virtual_size(self, guid: str) -> int:
        """:returns: the layer's size in bytes as its header says (qcow2 specification: bytes 24 to 31)."""
        with self.path(guid).open("rb") as image:
            return int.from_bytes(image.read(32)[24:], "big")

    async def copy(self, source: str, target: str) -> None:
        """Copy a layer's file, sharing blocks where the file system can. Durable on return.

        :raises PoolFull: no room; nothing is left behind.
        """
        original = self.require_file(source)
        async with self._attempt(target) as path:
            words = ("--sparse=always", "--reflink=auto", "--", original, path)
            await self.tools.run("cp", *words, seconds=self._whole(source))

    def _whole(self, guid: str) -> float:
        """:returns: seconds in which even a slow disk has read a layer's whole file."""
        return PATIENCE_SECONDS + self.allocated(guid) / _SLOW_DISK

    def replace(self, source: str, target: str) -> None:
        """Put the file of ``source`` in the place of ``target``'s; nothing happens when that was done. Blocks."""
        path = self.path(source)
        if path.exists():
            self.seal(source)
            path.rename(self.path(target))
        self.sync_directory()

    def has_subclusters(self, guid: str) -> bool:
        """:returns: whether the layer was made with ``extended_l2``."""
        return has_subclusters(self.path(guid))

    def granule(self, guid: str) -> int:
        """:returns: bytes of the largest unit in which the layer, or a new one put over it, maps its data."""
        try:
            with self.path(guid).open("rb") as image:
                cluster = 1 << int.from_bytes(image.read(24)[20:], "big")  # qcow2 specification: cluster_bits
        except FileNotFoundError:
            return self._options.granule  # removed meanwhile
        own = cluster // SUBCLUSTERS if self.has_subclusters(guid) else cluster
        return max(own, self._options.granule)

    async def settle(self, guid: str) -> None:
        """All that was written to the layer's file is durable on return."""
        await asyncio.to_thread(self._sync, self.path(guid))

    async def check(self, guid: str) -> str | None:
        """:returns: what ``qemu-img check`` finds wrong with a layer that nobody writes to, or None."""
        image = _alone(self.require_file(guid))
        status, said = await self.tools.outcome(self._image_tool, "check", "-q", "-U", image, seconds=self._whole(guid))
        # 3 means leaked clusters only: space, not data, is lost when a process is killed
        return None if status in (0, 3) else said or f"qemu-img check ended with status {status}"

    def seal(self, guid: str) -> None:
        """Guard a frozen layer against accidental writes; nothing happens when its file is gone."""
        self._set_mode(guid, 0o444)

    def unseal(self, guid: str) -> None:
        """Allow writes to a layer's file; nothing happens when it is gone."""
        self._set_mode(guid, 0o600)

    def _set_mode(self, guid: str, mode: int) -> None:
        """Not of what a link in its place leads to: that is not ours."""
        try:
            descriptor = os.open(self.path(guid), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        except OSError as error:
            log.error("%s is not a layer's file: %s", self.path(guid), error.strerror)
            return
        try:
            os.fchmod(descriptor, mode)
        finally:
            os.close(descriptor)

    def remove(self, guid: str) -> None:
        """Unlink a layer's file; missing is fine. Durable after :meth:`sync_directory`."""
        self.path(guid).unlink(missing_ok=True)

    def sync_directory(self) -> None:
        """The directory's entries are durable on return. Blocks."""
        _fsync(self.directory)

    def length(self, guid: str) -> int:
        """:returns: bytes from the first to the last of the layer's file, 0 if it is missing."""
        try:
            return self.path(guid).stat().st_size
        except FileNotFoundError:
            return 0

    def allocated(self, guid: str) -> int:
        """:returns: bytes that the layer's file takes on disk, 0 if it is missing."""
        try:
            return self.path(guid).stat().st_blocks * 512
        except FileNotFoundError:
            return 0

    def present(self) -> Iterator[Path]:
        """:returns: every file in the directory."""
        with os.scandir(self.directory) as entries:
            yield from (Path(entry.path) for entry in entries)

    def set_aside(self, path: Path) -> Path:
        """Move a file that no row knows to lost+found, where nothing ever removes it. :returns: its new place."""
        self.lost_and_found.mkdir(mode=0o700, exist_ok=True)
        target = self.lost_and_found / path.name
        number = 0
        while target.exists():
            number += 1
            target = self.lost_and_found / f"{path.name}.{number}"
        path.rename(target)
        return target

    def _sync(self, path: Path) -> None:
        _fsync(path)
        _fsync(self.directory)


def _alone(path: Path) -> str:
    """The image without its backing chain: the header's idea of a parent is advisory and must not be followed."""
    options: dict[str, Any] = {
        "driver": "qcow2",
        "backing": None,
        "file": {"driver": "file", "filename": str(path)},
    }
    return "json:" + json.dumps(options)


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
