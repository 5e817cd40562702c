"""A guest that writes numbered blocks, flushes, and knows exactly what it may rely on."""

from __future__ import annotations

import random
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.patience import PATIENCE

from openvstorage.edge.errors import EdgeError
from openvstorage.edge.nbd import NbdClient

SLOT = 4096
_STAMP = struct.Struct("<QQ")


@dataclass
class Ledger:
    """What a vDisk must read, slot by slot.

    :ivar stable: the number last flushed; 0 for never written.
    :ivar pending: numbers written since, of which any may be there or not.
    """

    stable: dict[int, int] = field(default_factory=dict)
    pending: dict[int, set[int]] = field(default_factory=dict)

    def copy(self) -> Ledger:
        """:returns: what it says now."""
        return Ledger(dict(self.stable), {slot: set(numbers) for slot, numbers in self.pending.items()})

    def allows(self, slot: int, number: int) -> bool:
        """:returns: whether a slot may read this number."""
        return number == self.stable.get(slot, 0) or number in self.pending.get(slot, ())


class Writer(threading.Thread):
    """Writes each number to a slot of the first vDisk, flushes, then to the same slot of the next one, and so on.

    So a number is never on a later vDisk without being, flushed, on the ones before. A lost connection is made again:
    same address, same port, same export.
    """

    def __init__(self, grants: Sequence[Mapping[str, Any]], slots: int, seed: int) -> None:
        super().__init__(name="writer", daemon=True)
        self._grants = grants
        self._slots = slots
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._moved = threading.Condition(self._lock)
        self._ledgers = [Ledger() for _ in grants]
        self._clients: list[NbdClient | None] = [None for _ in grants]
        self._ending = False
        self.number = 0
        self.connections = 0
        self.failure: BaseException | None = None

    def ledgers(self) -> tuple[int, list[Ledger]]:
        """:returns: the number being written, and what each vDisk must read."""
        with self._lock:
            return self.number, [ledger.copy() for ledger in self._ledgers]

    def wait_for(self, more: int, seconds: float = PATIENCE) -> None:
        """Wait until so many more numbers are flushed everywhere. :raises AssertionError: they are not, in time."""
        with self._moved:
            goal = self.number + more
            there = self._moved.wait_for(lambda: self.number >= goal or self.failure, seconds)
        assert self.failure is None, f"the writer failed: {self.failure!r}"
        assert there, f"the writer stands at {self.number}"

    def finish(self) -> None:
        """Stop after the number under way; it is flushed."""
        self._ending = True
        self.join(PATIENCE)
        assert not self.is_alive(), "the writer hangs"
        assert self.failure is None, f"the writer failed: {self.failure!r}"

    def run(self) -> None:
        """See the class."""
        try:
            while not self._ending:
                with self._lock:
                    self.number += 1
                slot = self._chance.randrange(self._slots)
                for disk in range(len(self._grants)):
                    self._put(disk, slot)
                with self._moved:
                    self._moved.notify_all()
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            self.failure = error
        finally:
            for client in self._clients:
                if client is not None:
                    client.close()

    def _put(self, disk: int, slot: int) -> None:
        """Write and flush, over as many connections as it takes."""
        ledger = self._ledgers[disk]
        with self._lock:
            ledger.pending.setdefault(slot, set()).add(self.number)
        while not self._try(disk, slot):
            self._clients[disk] = None
        with self._lock:
            ledger.stable[slot] = self.number
            del ledger.pending[slot]

    def _try(self, disk: int, slot: int) -> bool:
        try:
            client = self._clients[disk]
            if client is None:
                client = self._clients[disk] = self._connect(disk)
                self.connections += 1
            client.write(slot * SLOT, stamp(slot, self.number))
            client.flush()
        except EdgeError:
            return False
        return True

    def _connect(self, disk: int) -> NbdClient:
        grant = self._grants[disk]
        return NbdClient.connect(grant["host"], grant["port"], grant["export_name"], timeout=60)


def stamp(slot: int, number: int) -> bytes:
    """:returns: what a slot holds."""
    return _STAMP.pack(number, slot) * (SLOT // _STAMP.size)


def numbers(data: bytes) -> list[int]:
    """:returns: the number of each slot of a vDisk, 0 for one never written.

    :raises AssertionError: a slot is torn or another's.
    """
    found = []
    for slot, at in enumerate(range(0, len(data), SLOT)):
        block = data[at : at + SLOT]
        number, owner = _STAMP.unpack_from(block)
        assert block == (stamp(slot, number) if number else bytes(SLOT)), f"slot {slot} holds {owner}: {block[:32]!r}"
        found.append(number)
    return found
