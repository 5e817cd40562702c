"""Zeroes in data that is written, so that they can be sent as requests to make zero, which take no space."""

from __future__ import annotations

from collections.abc import Iterator

__all__ = ["GRAIN", "runs"]

GRAIN = 64 * 1024
"""Zeroes are looked for in pieces of this size: the usual cluster of a thin image, below which nothing is saved."""

_ZEROES = bytes(GRAIN)


def runs(view: memoryview, offset: int) -> Iterator[tuple[bool, int, int]]:
    """Cut data into runs of whole grains of zeroes and of anything else, in order.

    :param view: bytes. :param offset: where they go; grains begin at multiples of their size there.
    :returns: whether it is zeroes, and where in ``view`` it begins and ends. Zeroes that fill no grain count as else.
    """
    began, zero, start = 0, False, 0
    while start < len(view):
        end = min(start + GRAIN - (offset + start) % GRAIN, len(view))
        is_zero = _is_zero_grain(view[start:end])
        if is_zero != zero:
            if start > began:
                yield zero, began, start
            began, zero = start, is_zero
        start = end
    if start > began:
        yield zero, began, start


def _is_zero_grain(piece: memoryview) -> bool:
    # The ends are looked at first, because comparing needs a copy.
    return len(piece) == GRAIN and piece[0] == 0 and piece[-1] == 0 and bytes(piece) == _ZEROES
