"""What was asked of a pool and acknowledged, when; and what must therefore be there after the power went.

Time is the number of entries in the device's log: what was acknowledged when it had N entries must be there at each
instant from N on, what began when it had N entries can not be there at an instant up to N. Beside it stands the
machine's clock, for the order among requests of different clients.
"""

from __future__ import annotations

import json
import struct
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TypeVar

from tests.power.write_log import SECTOR

__all__ = ["Disk", "Expectation", "GrantOf", "History", "Presence", "Promise", "Request", "Snapshot", "Span", "decode"]

_STAMP = struct.Struct("<QQ")
_NEVER = 1 << 62
#: A sector is so many words of eight bytes.
_WORDS = SECTOR // 8
T = TypeVar("T")

#: What each sector of a vDisk holds: the number of the request that wrote it, 0 for zeroes.
Content = array


class Promise(Enum):
    """What is kept when the power goes."""

    ACKNOWLEDGED = "acknowledged"
    FLUSHED = "flushed"


class Presence(Enum):
    """Whether something exists at an instant."""

    ABSENT = "absent"
    EITHER = "either"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class Moment:
    """:ivar entries: in the log. :ivar ns: of the machine's monotonic clock."""

    entries: int
    ns: int


_END_OF_TIME = Moment(_NEVER, _NEVER)


@dataclass(slots=True)
class Span:
    """From before something was asked for until after it was acknowledged, which may never have been."""

    begun: Moment
    ended: Moment = _END_OF_TIME

    def presence(self, instant: int) -> Presence:
        """:returns: whether its effect is there at an instant."""
        if self.begun.entries >= instant:
            return Presence.ABSENT
        return Presence.PRESENT if self.ended.entries <= instant else Presence.EITHER


@dataclass(frozen=True, slots=True)
class Request:
    """A request to a vDisk: ``write``, ``zero`` and ``punch`` (zeroes that keep or give up the space), ``trim``,
    ``flush``."""

    kind: str
    tag: int
    first: int
    sectors: int
    fua: bool
    span: Span


@dataclass(slots=True)
class GrantOf:
    """A grant for as long as it was meant to exist."""

    guid: str
    uri: str
    span: Span
    revoked: Span | None = None


@dataclass(slots=True)
class Lasting:
    """Something that is made and deleted."""

    guid: str
    name: str
    created: Span
    deleted: Span | None = None

    def presence(self, instant: int) -> Presence:
        """:returns: whether it exists at an instant."""
        made = self.created.presence(instant)
        gone = self.deleted.presence(instant) if self.deleted else Presence.ABSENT
        if made is Presence.ABSENT or gone is Presence.PRESENT:
            return Presence.ABSENT
        return made if gone is Presence.ABSENT else Presence.EITHER


@dataclass(slots=True)
class Snapshot(Lasting):
    """:ivar content: what it read when it was read after it was taken, None if nobody looked."""

    content: Content[int] | None = None


@dataclass(slots=True)
class Disk(Lasting):
    """A vDisk.

    :ivar promise: its durability.
    :ivar sizes: in sectors, with when they were asked for, oldest first.
    :ivar bases: what it was made of or rolled back to, likewise; None for zeroes.
    :ivar records: of its writers.
    """

    promise: Promise = Promise.ACKNOWLEDGED
    sizes: list[tuple[int, Span]] = field(default_factory=list)
    bases: list[tuple[Content[int] | None, Span]] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    grants: list[GrantOf] = field(default_factory=list)
    records: list[Path] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)

    def load(self) -> None:
        """Read the records of its writers, which have ended."""
        self.requests = sorted(
            (request for record in self.records for request in _read(record)), key=lambda request: request.span.begun.ns
        )

    def spans(self) -> list[Span]:
        """:returns: when operations on it and its snapshots were under way."""
        things: list[Lasting] = [self, *self.snapshots]
        found = [span for thing in things for span in (thing.created, thing.deleted) if span]
        return found + [span for _, span in (*self.sizes[1:], *self.bases[1:])]

    def possible_sizes(self, instant: int) -> set[int]:
        """:returns: sizes in sectors that it may have."""
        return set(_possible(self.sizes, instant))

    def expected(self, instant: int, promise: Promise) -> list[Expectation]:
        """:returns: contents of which it must have one."""
        settled = self._settled(instant, promise)
        return [
            _overlay(base, self._largest, self.requests, settled, lambda request: request.span.begun.entries < instant)
            for base in _possible(self.bases, instant)
        ]

    def expected_of(self, snapshot: Snapshot, instant: int, promise: Promise) -> list[Expectation]:
        """:returns: contents of which a snapshot must have one."""
        taken = snapshot.created
        if taken.presence(instant) is Presence.PRESENT:
            if snapshot.content is not None:
                return [Expectation(snapshot.content)]
            # taking it made durable what was acknowledged before
            return self.expected_when_taken(snapshot)
        # Not acknowledged: it may have been finished by the next start, from what was there.
        settled = self._settled(instant, promise)
        return [
            _overlay(
                base,
                self._largest,
                self.requests,
                lambda request: request.span.ended.ns < taken.begun.ns and settled(request),
                lambda request: request.span.begun.entries < instant,
            )
            for base in _possible(self.bases, instant)
        ]

    def expected_when_taken(self, snapshot: Snapshot) -> list[Expectation]:
        """:returns: contents of which a snapshot that was taken must have one, whatever happened afterwards."""
        taken = snapshot.created
        return [
            _overlay(
                base,
                self._largest,
                self.requests,
                lambda request: request.span.ended.ns < taken.begun.ns,
                lambda request: request.span.begun.ns < taken.ended.ns,
            )
            for base in _possible(self.bases, taken.ended.entries)
        ]

    @property
    def _largest(self) -> int:
        return max(size for size, _ in self.sizes)

    def _settled(self, instant: int, promise: Promise) -> Callable[[Request], bool]:
        """:returns: a function that says whether a request must be there at an instant."""
        if promise is Promise.ACKNOWLEDGED:
            return lambda request: request.span.ended.entries <= instant
        # A flush makes durable what was acknowledged before it began, on whatever connection; so does a snapshot.
        barriers = [request.span for request in self.requests if request.kind == "flush"]
        barriers += [snapshot.created for snapshot in self.snapshots]
        last = max((span.begun.ns for span in barriers if span.ended.entries <= instant), default=-1)
        return lambda request: request.span.ended.ns < last or (request.fua and request.span.ended.entries <= instant)


@dataclass(slots=True)
class History:
    """All of a run.

    :ivar served: when the service was first healthy.
    """

    served: Span
    disks: list[Disk] = field(default_factory=list)
    config: dict[str, object] = field(default_factory=dict)

    def spans(self) -> list[Span]:
        """:returns: when operations were under way."""
        found = [span for disk in self.disks for span in disk.spans()]
        for disk in self.disks:
            found += [span for grant in disk.grants for span in (grant.span, grant.revoked) if span]
        return found


@dataclass(slots=True)
class Expectation:
    """What a vDisk may read.

    :ivar certain: the request's number for each sector.
    :ivar open: for sectors that may hold several: all of these.
    """

    certain: Content[int]
    open: dict[int, set[int]] = field(default_factory=dict)

    def wrong(self, content: Content[int]) -> list[str]:
        """:returns: a sentence for each sector that holds what it must not."""
        wanted = self.certain[: len(content)]
        for sector, numbers in self.open.items():
            if sector < len(content) and content[sector] in numbers:
                wanted[sector] = content[sector]
        if wanted == content:
            return []
        return [
            f"sector {sector} holds {content[sector]:x} and not {self._shown(sector)}"
            for sector in range(len(wanted))
            if content[sector] != wanted[sector]
        ]

    def _shown(self, sector: int) -> str:
        numbers = self.open.get(sector, {self.certain[sector]})
        return " or ".join(f"{number:x}" for number in sorted(numbers))


def decode(raw: bytes) -> tuple[Content[int], list[str]]:
    """Read what a vDisk holds.

    :returns: the number of each sector, and a sentence for each sector that nobody can have written so.
    """
    words = array("Q", raw)
    numbers, owners = words[::_WORDS], words[1::_WORDS]
    repeated = all(words[at::_WORDS] == numbers and words[at + 1 :: _WORDS] == owners for at in range(2, _WORDS, 2))
    owned = all(
        owner == (sector if number else 0) for sector, (number, owner) in enumerate(zip(numbers, owners, strict=True))
    )
    return (numbers, []) if repeated and owned else (numbers, list(_strange(raw)))


def _strange(raw: bytes) -> Iterator[str]:
    for sector, at in enumerate(range(0, len(raw), SECTOR)):
        piece = raw[at : at + SECTOR]
        number, owner = _STAMP.unpack_from(piece)
        if piece != _STAMP.pack(number, sector if number else 0) * (SECTOR // _STAMP.size):
            yield f"sector {sector} holds {number:x} of sector {owner}, or a mixture"


def _possible(values: Iterable[tuple[T, Span]], instant: int) -> list[T]:
    found: list[T] = []
    for value, span in values:
        presence = span.presence(instant)
        if presence is Presence.PRESENT:
            found = [value]
        elif presence is Presence.EITHER:
            found.append(value)
    return found


def _overlay(
    base: Content[int] | None,
    sectors: int,
    requests: Iterable[Request],
    settled: Callable[[Request], bool],
    begun: Callable[[Request], bool],
) -> Expectation:
    certain = base[:] if base is not None else array("Q")
    certain.extend(array("Q", bytes(8 * (sectors - len(certain)))))
    result = Expectation(certain)
    for request in requests:
        if request.kind == "flush" or not begun(request):
            continue
        area = range(request.first, request.first + request.sectors)
        if settled(request) and request.kind != "trim":
            certain[area.start : area.stop] = array("Q", [request.tag]) * len(area)
            for sector in result.open.keys() & area:
                del result.open[sector]
        else:
            # a trim that is done leaves what was there, or zeroes
            for sector in area:
                result.open.setdefault(sector, {certain[sector]}).add(request.tag)
    return result


def _read(record: Path) -> Iterable[Request]:
    with record.open() as lines:
        for line in lines:
            row = json.loads(line)
            span = Span(Moment(*row["begun"]), Moment(*row["ended"]))
            yield Request(row["kind"], row["tag"], row["first"], row["sectors"], row["fua"], span)
