"""What a vDisk may read, block by block, while requests overlap, snapshots are taken and daemons are killed.

Every request has two ticks of one clock: when it was sent and when its answer was seen. A request is out of the race
once another one, sent after its answer, has been answered: that is all that NBD promises, and all that is assumed.
What was acknowledged and not flushed may be taken back by a kill where the vDisk's durability says so.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from tests.torture.content import Values, name, value_of
from tests.torture.image import Image

__all__ = ["DiskModel", "Op", "Window", "tick"]

#: How many requests of a vDisk are remembered for the history of a wrong block.
REMEMBERED = 30_000

#: Blocks in the largest cluster of a layer, 128 KiB.
CLUSTER_BLOCKS = 256

_clock = itertools.count(1)


def tick() -> int:
    """:returns: the next instant, the same clock for all threads."""
    return next(_clock)


class Op:
    """A request that changes blocks, or what is known of them instead.

    :ivar values: what its blocks hold when it was carried out last; several when nobody knows which.
    :ivar sent: tick before it was sent. :ivar answered: tick after its answer; None while it may still be carried out.
    :ivar durable: whether a kill can not take it back.
    :ivar certain: whether it has been carried out and replaces what was there: not so for a trim, and for a request
        that was not answered or failed.
    :ivar doubtful: blocks for which it may not have been, although it was answered.
    """

    __slots__ = ("answered", "certain", "count", "doubtful", "durable", "first", "kind", "sent", "values")

    def __init__(self, kind: str, first: int, count: int, values: tuple[int, ...], *, certain: bool = True) -> None:
        self.kind = kind
        self.first = first
        self.count = count
        self.values = values
        self.sent = tick()
        self.answered: int | None = None
        self.durable = False
        self.certain = certain
        self.doubtful: list[range] = []

    def replaces(self, block: int) -> bool:
        """:returns: whether a block holds nothing from before it."""
        return self.certain and not any(block in blocks for blocks in self.doubtful)

    @classmethod
    def known(cls, kind: str, block: int, values: Iterable[int], at: int = 0) -> Op:
        """:returns: what is known of one block since an instant."""
        op = cls(kind, block, 1, tuple(values))
        op.sent = op.answered = at
        op.durable = True
        return op

    def __str__(self) -> str:
        values = ", ".join(name(value) for value in self.values)
        state = "" if self.certain or self.kind.startswith("trim") else " (not answered, or failed)"
        kept = "durable" if self.durable else "not flushed"
        span = f"blocks {self.first}+{self.count}"
        return f"{self.sent}-{self.answered or 'open'} {self.kind} {span}: {values}; {kept}{state}"


@dataclass(eq=False)
class Window:
    """Something that reads a part of a vDisk at an instant between its begin and its end: a read, or a snapshot."""

    first: int
    count: int
    settled: Values
    choices: dict[int, list[Op]]
    late: list[Op]
    opened: int
    killed: bool = False

    def meets(self, op: Op) -> bool:
        """:returns: whether an op touches it."""
        return op.first < self.first + self.count and self.first < op.first + op.count

    def is_under_a_write(self, block: int) -> bool:
        """:returns: whether a write to a block was in flight at some time since it was opened."""
        return any(
            op.kind.startswith("write") and (op.answered is None or op.answered > self.opened)
            for op in self.choices.get(block, ())
        )


def _doubt(zero: Op, write: Op) -> None:
    """A zero request beside a write that it overlaps may leave the rest of the write's clusters as they were: a fault
    of QEMU that is not worked around, ``lost-zero-overlap`` in docs/qemu-bugs.md."""
    first, end = write.first, write.first + write.count
    overlap = zero.first < end and first < zero.first + zero.count
    if zero.kind.startswith("zero") and write.kind.startswith(("write", "zero")) and overlap:
        zero.doubtful.append(
            range(first // CLUSTER_BLOCKS * CLUSTER_BLOCKS, -(-end // CLUSTER_BLOCKS) * CLUSTER_BLOCKS)
        )


class DiskModel:
    """One vDisk. Thread-safe.

    :param number: 1 to 65534, of this vDisk alone.
    :param keeps_acknowledged: whether what was acknowledged survives a kill; else what was flushed.
    """

    def __init__(self, number: int, image: Image, *, keeps_acknowledged: bool) -> None:
        self.number = number
        self.keeps_acknowledged = keeps_acknowledged
        self.lock = threading.RLock()
        self.settled: Values
        self.history: deque[Op] = deque(maxlen=REMEMBERED)
        self._open: dict[int, list[Op]] = {}
        self._windows: list[Window] = []
        self._flying: set[Op] = set()
        self._unflushed: list[Op] = []
        self._writes = 0
        self._suspect = False
        self.become(image)

    @property
    def blocks(self) -> int:
        """Its size."""
        return len(self.settled)

    def become(self, image: Image) -> None:
        """The vDisk is new, or was rolled back: it reads like this image, and nobody writes."""
        with self.lock:
            now = tick()
            self.settled = image.settled.copy()
            self._open = {
                block: [Op.known("as its source", block, values, now)] for block, values in image.allowed().items()
            }
            self._flying.clear()
            self._unflushed.clear()

    def grow(self, blocks: int) -> None:
        """It has so many blocks now; the new ones read as zeroes."""
        with self.lock:
            self.settled = np.concatenate([self.settled, np.zeros(blocks - self.blocks, np.uint64)])

    # requests

    def send(self, kind: str, first: int, count: int) -> Op:
        """A request is about to be sent. :param kind: ``write``, ``zero...`` or ``trim``."""
        with self.lock:
            if kind.startswith("write"):
                self._writes += 1
                values: tuple[int, ...] = (value_of(self.number, self._writes),)
            else:
                values = (0,)
            op = Op(kind, first, count, values, certain=not kind.startswith("trim"))
            for other in self._flying:
                _doubt(op, other)
                _doubt(other, op)
            opened = self._open
            for block in range(first, first + count):
                ops = opened.get(block)
                if ops is None:
                    opened[block] = [op]
                else:
                    ops.append(op)
            self._flying.add(op)
            self.history.append(op)
            for window in self._windows:
                if window.meets(op):
                    window.late.append(op)
            return op

    def answered(self, op: Op, *, durable: bool) -> None:
        """It was carried out. :param durable: it asked for that (FUA)."""
        with self.lock:
            op.answered = tick()
            self._flying.discard(op)
            if durable or self.keeps_acknowledged:
                self._settle(op)
            else:
                self._unflushed.append(op)

    def failed(self, op: Op) -> None:
        """It was answered with an error: it may have been carried out in part."""
        with self.lock:
            op.certain = False
            op.answered = tick()
            self._flying.discard(op)

    def lost(self, op: Op) -> None:
        """The connection ended before its answer. As long as the daemon lives it may still be carried out."""
        with self.lock:
            op.certain = False

    def forget(self, ops: Iterable[Op]) -> None:
        """These lost ones have been carried out by now, or never will be."""
        with self.lock:
            for op in ops:
                op.certain = False
                op.answered = tick()
                self._flying.discard(op)

    def begin_flush(self) -> list[Op]:
        """A flush is about to be sent. :returns: what it makes durable, for :meth:`end_flush`."""
        with self.lock:
            covered, self._unflushed = self._unflushed, []
            return covered

    def end_flush(self, covered: list[Op], *, done: bool) -> None:
        """A flush was answered, or not."""
        with self.lock:
            if not done:
                self._unflushed += covered
                return
            for op in covered:
                self._settle(op)

    def _settle(self, op: Op) -> None:
        op.durable = True
        if not op.certain:
            return
        opened, settled, value, sent = self._open, self.settled, op.values[0], op.sent
        for block in range(op.first, op.first + op.count):
            ops = opened.get(block)
            if ops is None or op not in ops or not op.replaces(block):
                continue  # a later one has made it unimportant, or what was before may be there still
            if len(ops) > 1:
                ops = [other for other in ops if other.answered is None or other.answered >= sent]
            if len(ops) == 1:
                settled[block] = value
                del opened[block]
            else:
                opened[block] = ops

    # kills

    def suspect(self, killing: bool) -> None:
        """Its daemon is about to be killed, or was not after all."""
        with self.lock:
            self._suspect = killing

    def killed(self) -> None:
        """Its daemon was killed and all its connections have ended: what is not kept may be gone."""
        with self.lock:
            now = tick()
            self.forget(list(self._flying))
            for window in self._windows:
                window.killed = True
            opened, self._open = self._open, {}
            for block, ops in opened.items():
                left = list(self._possible(block, ops, durable=not self.keeps_acknowledged))
                for window in self._windows:
                    if window.first <= block < window.first + window.count:
                        window.choices.setdefault(block, []).extend(left)
                values = {value for op in left for value in op.values}
                if len(values) == 1:
                    self.settled[block] = values.pop()
                else:
                    self._open[block] = [Op.known("after a kill", block, values, now)]
            self._unflushed.clear()
            self._suspect = False
            note = Op.known("the daemon was killed", 0, (), now)
            note.count = self.blocks
            self.history.append(note)

    # reading

    def _possible(self, block: int, ops: list[Op], *, durable: bool) -> Iterator[Op]:
        """Which of them a block may hold. :param durable: after a kill that takes back what is not durable."""
        strong = [
            op.sent for op in ops if op.replaces(block) and op.answered is not None and (op.durable or not durable)
        ]
        if not strong:
            yield Op.known("before", block, (int(self.settled[block]),))
            yield from ops
            return
        last = max(strong)
        yield from (op for op in ops if op.answered is None or op.answered >= last)

    def open_window(self, first: int = 0, count: int | None = None) -> Window:
        """Something begins to read."""
        with self.lock:
            count = self.blocks - first if count is None else count
            end = first + count
            many = count > len(self._open)
            blocks = [b for b in self._open if first <= b < end] if many else [*range(first, end)]
            choices = {}
            for block in blocks:
                ops = self._open.get(block)
                if ops is not None:
                    choices[block] = list(self._possible(block, ops, durable=False))
                    if self._suspect:
                        choices[block] += self._possible(block, ops, durable=not self.keeps_acknowledged)
            window = Window(first, count, self.settled[first:end].copy(), choices, [], tick(), self._suspect)
            self._windows.append(window)
            return window

    def close_window(self, window: Window) -> Image:
        """It has read. :returns: what it may have seen."""
        with self.lock:
            self._windows.remove(window)
            window.killed |= self._suspect
        first, end = window.first, window.first + window.count
        for op in window.late:
            for block in range(max(op.first, first), min(op.first + op.count, end)):
                known = window.choices.get(block)
                if known is None:
                    value = int(window.settled[block - first])
                    known = window.choices[block] = [Op.known("before", block, (value,))]
                known.append(op)
        return Image(window.settled, window.choices, first=first)

    def found(self, values: Values, first: int) -> None:
        """These values were read while nothing was in flight, after a flush: the vDisk holds them from now on."""
        with self.lock:
            if self._flying:
                return
            end = first + len(values)
            self.settled[first:end] = values
            for block in [block for block in self._open if first <= block < end]:
                del self._open[block]

    def history_of(self, block: int, last: int = 40) -> list[str]:
        """:returns: the last requests that touched a block, oldest first."""
        with self.lock:
            touched = [op for op in self.history if op.first <= block < op.first + op.count]
            return [str(op) for op in touched[-last:]]
