"""The log of a block device: what was written to it, in which order, and what was flushed when.

It is written by QEMU's ``blklogwrites`` in the format of Linux' dm-log-writes: a sector with the superblock (magic,
version, number of entries, size of a sector), then each entry's header in a sector of its own (sector, number of
sectors, flags, length of a comment) and its data behind it, unless it is a discard.
"""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

SECTOR = 512
#: ext4 takes for granted that its superblock, in the first 4 KiB, is written whole: it refuses to be mounted otherwise.
WHOLE_BYTES = 4096

_SUPER = struct.Struct("<QQQL")
_ENTRY = struct.Struct("<QQQQ")
_MAGIC = 0x6A736677736872
_FLUSH, _FUA, _DISCARD = 1, 2, 4


class BadLog(Exception):
    """The log is not what it should be: the harness is wrong, or QEMU's driver."""


def position(log: int) -> int:
    """:returns: how many entries the log has; ``log`` is a descriptor of it. May be asked while it is written."""
    magic, _, entries, _ = _SUPER.unpack(os.pread(log, _SUPER.size, 0).ljust(_SUPER.size, b"\0"))
    return int(entries) if magic == _MAGIC else 0


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened to the device.

    :ivar flush: all entries before this one are on the medium once it is in the log.
    :ivar fua: this entry's own data is on the medium once it is in the log.
    :ivar discard: the range reads as zeroes afterwards; there is no data.
    :ivar offset: of the range on the device, in bytes; ``length`` likewise.
    :ivar at: where the data is in the log, in bytes.
    """

    flush: bool
    fua: bool
    discard: bool
    offset: int
    length: int
    at: int


@dataclass(frozen=True, slots=True)
class Survivor:
    """A piece of an entry that is on the medium after the power went: bytes from ``offset`` on."""

    offset: int
    data: bytes


class WriteLog:
    """A log that is not written any more. Use it by ``with``.

    :ivar entries: all of them, in order.
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.entries = list(self._read())
        self._flushes = [number for number, entry in enumerate(self.entries) if entry.flush]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def flushed_before(self, instant: int, forget: int = 0) -> int:
        """:returns: how many entries from the start are on the medium for certain, of the first ``instant`` ones.

        :param forget: take so many of the last flushes for not having happened: a device that lies.
        """
        done = [number for number in self._flushes if number < instant]
        kept = done[: len(done) - forget] if forget else done
        return kept[-1] + 1 if kept else 0

    def survivors(self, start: int, instant: int, chance: random.Random) -> Iterator[Survivor]:
        """What of the entries from ``start`` to ``instant`` is on the medium: any subset, in pieces of sectors.

        A device may have written down each sector that it was given or not, until it is flushed. That later data of a
        sector wins over earlier is no restriction: the earlier alone is there if the later is left out. Only entries at
        the start of the device stay in one piece, see :data:`WHOLE_BYTES`.

        :param chance: decides: nothing, everything, whole entries, or single sectors of them.
        """
        keep = chance.choice((0.0, 0.1, 0.5, 0.9, 1.0))
        torn = chance.random() < 0.5
        for entry in self.entries[start:instant]:
            if entry.fua:
                yield Survivor(entry.offset, self.data(entry))
            elif not torn or entry.offset < WHOLE_BYTES:
                if chance.random() < keep:
                    yield Survivor(entry.offset, self.data(entry))
            else:
                data = self.data(entry)
                for at in range(0, entry.length, SECTOR):
                    if chance.random() < keep:
                        yield Survivor(entry.offset + at, data[at : at + SECTOR])

    def data(self, entry: Entry) -> bytes:
        """:returns: what the entry's range holds after it."""
        if entry.discard:
            return bytes(entry.length)
        data = os.pread(self._descriptor, entry.length, entry.at)
        if len(data) != entry.length:
            raise BadLog(f"the log ends inside an entry at byte {entry.at}")
        return data

    def _read(self) -> Iterator[Entry]:
        magic, version, count, sector = _SUPER.unpack(os.pread(self._descriptor, _SUPER.size, 0))
        if magic != _MAGIC or version != 1 or sector != SECTOR:
            raise BadLog(f"no log of version 1 with sectors of {SECTOR} bytes")
        at = SECTOR
        for _ in range(count):
            first, sectors, flags, _ = _ENTRY.unpack(os.pread(self._descriptor, _ENTRY.size, at))
            yield Entry(
                flush=bool(flags & _FLUSH),
                fua=bool(flags & _FUA),
                discard=bool(flags & _DISCARD),
                offset=first * SECTOR,
                length=sectors * SECTOR,
                at=at + SECTOR,
            )
            at += SECTOR + (0 if flags & _DISCARD else sectors * SECTOR)


def apply(entries: WriteLog, start: int, end: int, image: int) -> None:
    """Write the entries from ``start`` to ``end`` to an image, given by its descriptor."""
    for entry in entries.entries[start:end]:
        if entry.length:
            os.pwrite(image, entries.data(entry), entry.offset)
