"""Layer files: one qcow2 image per layer, named by the layer's guid, all in one directory.

Everything here is bytes. What may be removed is decided elsewhere and committed before this module is asked.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openvstorage.vpool.backends.base import BackendError, PoolFull
from openvstorage.vpool.image_lock import tells_of_a_lock

log = logging.getLogger(__name__)

SUFFIX = ".qcow2"
LOCK_PATIENCE_SECONDS = 5.0
LOCK_RETRY_SECONDS = 0.1


class Locked(BackendError):
    """Another process has the image open."""


@dataclass(frozen=True, slots=True)
class ImageOptions:
    """How new layers are laid out; chosen by probing the QEMU at hand.

    :ivar cluster_size: bytes.
    :ivar extended_l2: sub-clusters: less write amplification, but QEMU 7.2 aborts when it merges such layers.
    """

    cluster_size: int
    extended_l2: bool

    def as_argument(self) -> str:
        """:returns: the value of ``qemu-img create -o``."""
        return f"cluster_size={self.cluster_size},extended_l2={'on' if self.extended_l2 else 'off'}"


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

    def path(self, guid: str) -> Path:
        """:returns: where the layer's file is or would be."""
        return self.directory / (guid + SUFFIX)

    async def create(self, guid: str, size: int, parent: str | None) -> None:
        """Make an empty layer of ``size`` bytes; replaces what a crash left half made. Durable on return.

        :raises PoolFull: no room; nothing is left behind.
        :raises BackendError: QEMU's tool refuses.
        """
        path = self.path(guid)
        path.unlink(missing_ok=True)
        backing = ["-b", parent + SUFFIX, "-F", "qcow2"] if parent else []
        try:
            await self._run(
                "create", "-q", "-u", "-f", "qcow2", "-o", self._options.as_argument(), *backing, path, size
            )
            await asyncio.to_thread(self._sync, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    async def grow(self, guid: str, size: int) -> None:
        """Grow a layer that nobody has open to at least ``size`` bytes. Durable on return."""
        if self.virtual_size(guid) < size:
            await self._resize(guid, size)
        await self.settle(guid)

    async def _resize(self, guid: str, size: int) -> None:
        deadline = time.monotonic() + LOCK_PATIENCE_SECONDS
        while True:
            try:
                await self._run("resize", "-q", _alone(self.path(guid)), size)
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
        path = self.path(target)
        try:
            await self._tool("cp", "--sparse=always", "--reflink=auto", "--", self.path(source), path)
            path.chmod(0o600)
            await asyncio.to_thread(self._sync, path)
        except BaseException:
            path.unlink(missing_ok=True)
            raise

    def replace(self, source: str, target: str) -> None:
        """Put the file of ``source`` in the place of ``target``'s; nothing happens when that was done. Blocks."""
        path = self.path(source)
        if path.exists():
            self.seal(source)
            path.rename(self.path(target))
        self.sync_directory()

    def has_subclusters(self, guid: str) -> bool:
        """:returns: whether the layer was made with ``extended_l2`` (qcow2 specification: incompatible bit 4)."""
        try:
            with self.path(guid).open("rb") as image:
                header = image.read(80)
        except FileNotFoundError:
            return False  # removed meanwhile
        return len(header) == 80 and bool(int.from_bytes(header[72:80], "big") & 1 << 4)

    def cluster_size(self, guid: str) -> int:
        """:returns: bytes of the layer's clusters (qcow2 specification: bytes 20 to 23)."""
        with self.path(guid).open("rb") as image:
            return 1 << int.from_bytes(image.read(24)[20:], "big")

    def is_dirty(self, guid: str) -> bool:
        """:returns: whether the layer's reference counts are out of date, because a daemon that counted lazily was
        killed (qcow2 specification: incompatible bit 0). What is read is right nevertheless."""
        try:
            with self.path(guid).open("rb") as image:
                header = image.read(80)
        except FileNotFoundError:
            return False  # removed meanwhile
        return len(header) == 80 and bool(header[79] & 1)

    async def recount(self, guids: Iterable[str]) -> None:
        """Bring the reference counts of dirty layers up to date. Repeated after a crash it goes on from any state.

        A layer that somebody has open stays as it is, and so does a damaged one: QEMU reads it or refuses it.
        """
        for guid in guids:
            if not self.is_dirty(guid):
                continue
            mode = self.path(guid).stat().st_mode
            self.unseal(guid)
            try:
                await self._run("check", "-q", "-r", "all", _alone(self.path(guid)))
                await self.settle(guid)
            except Locked:
                log.debug("layer %s is in use: its reference counts are brought up to date later", guid)
            except BackendError as error:
                log.warning("the reference counts of layer %s can not be brought up to date: %s", guid, error)
            finally:
                self.path(guid).chmod(mode)

    async def settle(self, guid: str) -> None:
        """All that was written to the layer's file is durable on return."""
        await asyncio.to_thread(self._sync, self.path(guid))

    async def check(self, guid: str) -> str | None:
        """:returns: what ``qemu-img check`` finds wrong with a layer that nobody writes to, or None."""
        process = await self._spawn(self._image_tool, "check", "-q", "-U", _alone(self.path(guid)))
        out, err = await process.communicate()
        # 3 means leaked clusters only: space, not data, is lost when a process is killed
        return None if process.returncode in (0, 3) else (out + err).decode(errors="replace").strip()

    def seal(self, guid: str) -> None:
        """Guard a frozen layer against accidental writes; nothing happens when its file is gone."""
        with contextlib.suppress(FileNotFoundError):
            self.path(guid).chmod(0o444)

    def unseal(self, guid: str) -> None:
        """Allow writes to a layer's file; nothing happens when it is gone."""
        with contextlib.suppress(FileNotFoundError):
            self.path(guid).chmod(0o600)

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

    async def _run(self, *arguments: object) -> str:
        return await self._tool(self._image_tool, *arguments)

    async def _tool(self, program: Path | str, *arguments: object) -> str:
        process = await self._spawn(program, *arguments)
        try:
            out, err = await process.communicate()
        except BaseException:
            # what it writes must not come after what is done about our end
            process.kill()
            await process.wait()
            raise
        if process.returncode:
            text = err.decode(errors="replace").strip()
            if "No space left on device" in text or "Disk quota exceeded" in text:
                raise PoolFull()
            failure = Locked if tells_of_a_lock(text) else BackendError
            raise failure(f"{Path(program).name} {arguments[0]} failed: {text}")
        return out.decode()

    async def _spawn(self, program: Path | str, *arguments: object) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            str(program),
            *(str(argument) for argument in arguments),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )


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
