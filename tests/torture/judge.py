"""Reading an export whole, and telling of blocks that hold what they must not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from tests.torture.connection import Connection, Ended
from tests.torture.content import BLOCK, TORN, Values, describe, name, recognise
from tests.torture.image import Wrong
from tests.torture.report import Report

__all__ = ["read_blocks", "tell"]

_PIECE = (1 << 20) // BLOCK
_AT_ONCE = 8

#: Gives the bytes of a block that was read, for the report.
Bytes = Callable[[int], bytes]


def read_blocks(connection: Connection, first: int, end: int, kept: dict[int, bytes]) -> Values:
    """Read blocks ``first`` to ``end``, many requests at a time.

    :param kept: gets the bytes of blocks that hold no value, by number.
    :raises Ended: the connection ended. :raises OSError: the server answered with an error.
    :raises connection.Hung: it does not answer.
    """
    values = np.empty(end - first, np.uint64)
    codes: list[int | None] = []

    def arrived(at: int, code: int | None, data: bytearray) -> None:
        codes.append(code)
        if code != 0:
            return
        found = recognise(data, at)
        values[at - first : at - first + len(found)] = found
        for index in np.flatnonzero(found == TORN)[:16].tolist():
            kept[at + index] = bytes(data[index * BLOCK : (index + 1) * BLOCK])

    at = first
    while at < end or connection.in_flight:
        while at < end and connection.in_flight < _AT_ONCE:
            count = min(_PIECE, end - at)
            connection.read(at, count, lambda code, data, at=at: arrived(at, code, data))  # type: ignore[misc]
            at += count
        connection.turn(0.2)
        if connection.ended or None in codes:
            raise Ended(f"{connection.location} ended during a read")
        if any(codes):
            raise OSError(next(code for code in codes if code), f"a read failed at {connection.location}")
    return values


def tell(
    report: Report,
    where: str,
    wrong: Sequence[Wrong],
    history: Callable[[int], list[str]],
    kept: dict[int, bytes] | None = None,
) -> None:
    """Keep wrong blocks as violations, neighbours together.

    :param where: the vDisk, or the snapshot. :param history: gives the last requests that touched a block.
    :param kept: bytes of blocks that hold no value.
    """
    for run in _runs(wrong):
        one = run[0]
        found = name(one.found) if kept is None or one.block not in kept else describe(kept[one.block])
        expected = " or ".join(name(value) for value in one.expected)
        report.count("wrong blocks", where, len(run))
        report.violated(
            "wrong blocks",
            f"{where}: {len(run)} blocks from block {one.block} on: expected {expected}, found {found}",
            vdisk=where,
            offset=one.block * BLOCK,
            expected=expected,
            found=found,
            history=history(one.block),
        )


def _runs(wrong: Sequence[Wrong]) -> list[list[Wrong]]:
    """Neighbours that are wrong in the same way, together."""
    runs: list[list[Wrong]] = []
    for one in wrong:
        last = runs[-1][-1] if runs else None
        alike = last and last.block + 1 == one.block and (last.expected, last.found) == (one.expected, one.found)
        if alike:
            runs[-1].append(one)
        else:
            runs.append([one])
    return runs
