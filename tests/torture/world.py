"""What there should be: vDisks with their writers and snapshots."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.torture.image import Cut, Image
from tests.torture.model import DiskModel
from tests.torture.report import Report
from tests.torture.settings import Settings
from tests.torture.writer import Writer

from openvstorage.client import Grant

__all__ = ["Disk", "Snap", "World"]


@dataclass(eq=False)
class Snap:
    """A snapshot. :ivar image: what it holds. :ivar cut: its instant, shared by a group; None where a kill was near."""

    guid: str
    label: str
    image: Image
    cut: Cut | None


@dataclass(eq=False)
class Disk:
    """A vDisk.

    :ivar lock: held by whoever manages it; guards everything but the model and the writer.
    :ivar grant: the writer's, None while nobody writes.
    :ivar gone: it has been deleted.
    """

    name: str
    guid: str
    model: DiskModel
    writer: Writer
    snaps: list[Snap] = field(default_factory=list)
    grant: Grant | None = None
    gone: bool = False
    lock: threading.Lock = field(default_factory=threading.Lock)


class World:
    """All vDisks. Thread-safe."""

    def __init__(self, settings: Settings, report: Report) -> None:
        self._settings = settings
        self._report = report
        self._lock = threading.Lock()
        self._number = 0
        self._disks: dict[str, Disk] = {}
        self._promised = 0

    def next_number(self) -> int:
        """:returns: a number that no vDisk had."""
        with self._lock:
            self._number += 1
            return self._number

    def promise(self) -> bool:
        """Ask for room for one vDisk more; who gets it calls :meth:`redeem` when it is there or not."""
        with self._lock:
            if len(self._disks) + self._promised >= self._settings.vdisks:
                return False
            self._promised += 1
            return True

    def redeem(self) -> None:
        """See :meth:`promise`."""
        with self._lock:
            self._promised -= 1

    def add(self, number: int, name: str, guid: str, image: Image, *, keeps_acknowledged: bool) -> Disk:
        """A vDisk is there; its writer runs."""
        model = DiskModel(number, image, keeps_acknowledged=keeps_acknowledged)
        rate = self._settings.rate / self._settings.vdisks
        writer = Writer(name, model, self._settings.chance(f"writer {number}"), self._report, rate)
        disk = Disk(name, guid, model, writer)
        writer.start()
        with self._lock:
            self._disks[guid] = disk
        return disk

    def remove(self, disk: Disk) -> None:
        """It was deleted."""
        disk.gone = True
        disk.writer.end()
        with self._lock:
            del self._disks[disk.guid]

    def disks(self) -> list[Disk]:
        """:returns: all there are, oldest first."""
        with self._lock:
            return list(self._disks.values())

    def of(self, guid: str) -> Disk | None:
        """:returns: the vDisk of that guid."""
        with self._lock:
            return self._disks.get(guid)

    @contextmanager
    def some(self, chance: random.Random, number: int = 1) -> Iterator[list[Disk]]:
        """Manage some vDisks that nobody else manages now; fewer than asked for, even none, if there are no more."""
        held: list[Disk] = []
        try:
            for disk in chance.sample(disks := self.disks(), len(disks)):
                if len(held) < number and disk.lock.acquire(blocking=False):
                    if disk.gone:
                        disk.lock.release()
                    else:
                        held.append(disk)
            yield held
        finally:
            for disk in held:
                disk.lock.release()
