"""What the power-loss checker demands: it must not be content with too little, nor ask for too much."""

from __future__ import annotations

import random
import struct
from array import array

import pytest
from tests.power.history import Disk, Moment, Promise, Request, Snapshot, Span, decode
from tests.power.write_log import SECTOR, WriteLog

OLD, NEW = 7, 8


def _span(begun: int, ended: int) -> Span:
    return Span(Moment(begun, begun), Moment(ended, ended))


def _disk(*requests: Request) -> Disk:
    made = _span(0, 1)
    return Disk("guid", "disk", made, sizes=[(2, made)], bases=[(None, made)], requests=list(requests))


def _write(tag: int, begun: int, ended: int, fua: bool = False, kind: str = "write") -> Request:
    return Request(kind, tag, 0, 1, fua, _span(begun, ended))


def _flush(begun: int, ended: int) -> Request:
    return Request("flush", 0, 0, 0, False, _span(begun, ended))


def _allowed(disk: Disk, instant: int, promise: Promise) -> set[int]:
    (expected,) = disk.expected(instant, promise)
    return {number for number in (0, OLD, NEW) if not expected.wrong(array("Q", [number, 0]))}


def test_acknowledged_what_was_answered_must_be_there_and_what_was_not_may_be():
    disk = _disk(_write(OLD, 10, 20), _write(NEW, 30, 40))
    allowed = {at: _allowed(disk, at, Promise.ACKNOWLEDGED) for at in (10, 15, 20, 30, 35, 40)}
    assert allowed == {10: {0}, 15: {0, OLD}, 20: {OLD}, 30: {OLD}, 35: {OLD, NEW}, 40: {NEW}}


def test_flushed_only_what_was_answered_before_a_flush_began_must_be_there():
    disk = _disk(_write(OLD, 10, 20), _flush(25, 50), _write(NEW, 30, 40))
    assert _allowed(disk, 24, Promise.FLUSHED) == {0, OLD}
    assert _allowed(disk, 45, Promise.FLUSHED) == {0, OLD, NEW}
    assert _allowed(disk, 50, Promise.FLUSHED) == {OLD, NEW}


def test_a_flush_that_began_before_the_answer_promises_nothing():
    disk = _disk(_write(OLD, 10, 20), _flush(15, 50))
    assert _allowed(disk, 60, Promise.FLUSHED) == {0, OLD}


def test_fua_and_a_snapshot_make_durable_what_was_answered():
    assert _allowed(_disk(_write(OLD, 10, 20, fua=True)), 20, Promise.FLUSHED) == {OLD}
    disk = _disk(_write(OLD, 10, 20))
    disk.snapshots.append(Snapshot("guid", "snapshot", _span(30, 40)))
    assert _allowed(disk, 39, Promise.FLUSHED) == {0, OLD}
    assert _allowed(disk, 40, Promise.FLUSHED) == {OLD}


def test_a_trim_leaves_the_old_or_zeroes_and_a_later_write_decides():
    disk = _disk(_write(OLD, 10, 20), _write(0, 30, 40, kind="trim"))
    assert _allowed(disk, 50, Promise.ACKNOWLEDGED) == {0, OLD}
    disk.requests.append(_write(NEW, 60, 70))
    assert _allowed(disk, 80, Promise.ACKNOWLEDGED) == {NEW}


def test_a_torn_sector_and_one_of_another_place_are_told():
    def sector(number: int, place: int) -> bytes:
        return struct.pack("<QQ", number, place) * 32

    assert decode(sector(OLD, 0) + bytes(SECTOR)) == (array("Q", [OLD, 0]), [])
    assert decode(sector(OLD, 0) + sector(OLD, 5))[1]
    assert decode(bytes(SECTOR) + sector(NEW, 1)[:256] + sector(OLD, 1)[256:])[1]


@pytest.fixture
def log(tmp_path):
    """Two writes, a flush, a discard, a write."""
    path = tmp_path / "log"
    sectors = [struct.pack("<QQQL", 0x6A736677736872, 1, 5, SECTOR)]
    for first, count, flags, data in (
        (0, 1, 0, b"a"),
        (1, 1, 0, b"b"),
        (0, 0, 1, b""),
        (0, 1, 4, b""),
        (1, 1, 0, b"c"),
    ):
        sectors += [struct.pack("<QQQQ", first, count, flags, 0), *([data * SECTOR] if data else [])]
    path.write_bytes(b"".join(piece.ljust(SECTOR, b"\0") for piece in sectors))
    with WriteLog(path) as opened:
        yield opened


def test_the_log_is_on_the_medium_up_to_the_last_flush(log):
    assert [log.flushed_before(instant) for instant in range(6)] == [0, 0, 0, 3, 3, 3]
    assert log.flushed_before(5, forget=1) == 0
    assert log.data(log.entries[1]) == b"b" * SECTOR
    assert log.data(log.entries[3]) == bytes(SECTOR)


def test_any_part_of_what_was_not_flushed_may_survive(log):
    seen = set()
    for seed in range(200):
        seen.add(tuple((piece.offset, piece.data[:1]) for piece in log.survivors(3, 5, random.Random(seed))))
    discard, write = (0, b"\0"), (SECTOR, b"c")
    assert seen == {(), (discard,), (write,), (discard, write)}
