"""Which requests a writer sends: at random, and in sequences that have found faults or might.

What is chosen follows from the seed alone, not from what is answered when.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from tests.torture.content import BLOCK

__all__ = ["Batch", "Request", "Traffic"]

KIB = 1024 // BLOCK
#: Sizes of clusters and sub-clusters in blocks: at their edges QEMU does different things.
_GRAINS = (4 * KIB, 64 * KIB, 128 * KIB)
LARGEST = 1024 * KIB
#: Size of the part of a vDisk that half of the random requests go to, so that they overlap.
_HOT = 1024 * KIB


@dataclass(frozen=True, slots=True)
class Request:
    """A request in blocks. :ivar kind: read, write, zero, trim or flush."""

    kind: str
    first: int = 0
    count: int = 0
    fua: bool = False
    no_hole: bool = False
    fast: bool = False

    @property
    def label(self) -> str:
        """Kind and flags, as they are counted."""
        flags = [name for name in ("fua", "no_hole", "fast") if getattr(self, name)]
        return " ".join([self.kind, *flags])


#: Requests that are in flight together; the next batch of a sequence is sent when all of them are answered.
Batch = list[Request]


class Traffic:
    """What one writer does. :param chance: its own stream of decisions."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._hot = 0

    def single(self, blocks: int) -> Request:
        """:returns: a request for a vDisk of so many blocks."""
        chance = self._chance
        kind = chance.choices(["write", "read", "zero", "trim", "flush"], [46, 22, 14, 10, 8])[0]
        if kind == "flush":
            return Request(kind)
        first, count = self._span(blocks)
        return self._request(kind, first, count)

    def depth(self) -> int:
        """:returns: how many requests to keep in flight for a while."""
        return self._chance.choice([1, 2, 4, 8, 16, 32])

    def sequence(self, blocks: int) -> Iterator[Batch]:
        """:returns: a sequence of batches."""
        if self._chance.random() < 0.7:
            return self._zero_race(blocks)
        return self._overwrite(blocks)

    def starts_sequence(self) -> bool:
        """:returns: whether it is time for a sequence; asked before each request."""
        return self._chance.random() < 0.004

    def _span(self, blocks: int) -> tuple[int, int]:
        chance = self._chance
        most = chance.choices([8, 16, 128, 512, LARGEST], [30, 30, 28, 9, 3])[0]
        count = min(chance.randint(1, most), blocks)
        if chance.random() < 0.01:
            self._hot = chance.randrange(blocks)
        if chance.random() < 0.5:
            first = min(self._hot + chance.randrange(_HOT), blocks - 1)
        else:
            first = chance.randrange(blocks)
        if chance.random() < 0.5:  # as file systems do
            first, count = first // 8 * 8, max(8, count // 8 * 8)
        first = min(first, blocks - 1)
        return first, min(count, blocks - first)

    def _request(self, kind: str, first: int, count: int) -> Request:
        chance = self._chance
        fua = kind in ("write", "zero") and chance.random() < 0.04
        no_hole = kind == "zero" and chance.random() < 0.5
        fast = kind == "zero" and chance.random() < 0.2
        return Request(kind, first, count, fua, no_hole, fast)

    def _zero_race(self, blocks: int) -> Iterator[Batch]:
        """Whole clusters written, zeroed with their space kept; then in each, in flight together, a write to one part
        and something that zeroes or trims the rest; then others are written. QEMU 7.2 and 10.0 free the cluster under
        the write."""
        chance = self._chance
        grain = chance.choice(_GRAINS[1:])
        number = chance.choice([4, 16, 64])
        first = chance.randrange(max(1, blocks // grain - 2 * number)) * grain
        other = first + number * grain
        clusters = [first + index * grain for index in range(number) if first + (index + 1) * grain <= blocks]
        if chance.random() < 0.8:
            yield [Request("write", at, grain) for at in clusters]
        yield [Request("zero", at, grain, no_hole=chance.random() < 0.9) for at in clusters]
        if chance.random() < 0.3:
            yield [Request("flush")]
        exact = chance.random() < 0.5
        batch: Batch = []
        for at in clusters:
            part = 8 if exact else chance.choice([1, 3, 7, 8, 9, 64, 100])
            kind = "zero" if exact else chance.choice(["zero", "zero", "trim"])
            pair = [
                Request("write", at, part),
                Request(kind, at + part, grain - part, no_hole=not exact and chance.random() < 0.2),
            ]
            if not exact and chance.random() < 0.3:  # the write at the end, the zeroes before it
                pair = [Request("write", at + grain - part, part), Request(kind, at, grain - part)]
            if not exact and chance.random() < 0.5:
                pair.reverse()
            batch += pair
        yield batch
        yield [Request("flush")]
        yield [
            Request("write", at, grain) for at in range(other, other + number * grain, grain) if at + grain <= blocks
        ]
        yield [Request("read", at, grain) for at in clusters]

    def _overwrite(self, blocks: int) -> Iterator[Batch]:
        """One area changed by everything at once, in parts of every size."""
        chance = self._chance
        grain = chance.choice(_GRAINS)
        first = chance.randrange(max(1, blocks // grain - 4)) * grain
        for _ in range(chance.randint(2, 5)):
            batch: Batch = []
            for _ in range(chance.randint(4, 24)):
                kind = chance.choice(["write", "write", "zero", "trim", "read"])
                start = chance.randrange(3 * grain)
                count = min(chance.choice([1, 2, 8, grain // 2, grain]), blocks - first - start)
                if count > 0:
                    batch.append(self._request(kind, first + start, count))
            yield batch
            if chance.random() < 0.5:
                yield [Request("flush")]
        yield [Request("read", first, min(4 * grain, blocks - first))]
