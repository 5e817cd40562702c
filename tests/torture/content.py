"""What a block holds: 512 bytes that say which write they are of, so that a wrong block tells where it came from.

A *value* is one number: 0 for a block of zeroes, else the vDisk that it was written to in its upper 16 bits, and the
number of the write, counted from 1 on each vDisk, in the lower 48.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["BLOCK", "TORN", "Values", "describe", "fill", "recognise", "value_of"]

BLOCK = 512
_WORDS = BLOCK // 8
#: What a block is said to hold that is neither zeroes nor what any write left at its place.
TORN = (1 << 64) - 1
_MAGIC = 0x6F76735F746F7274
_STRIDE = 0x9E3779B97F4A7C15

Values = NDArray[np.uint64]


def value_of(disk: int, write: int) -> int:
    """:returns: the value of a write. :param disk: 1 to 65534. :param write: from 1."""
    return disk << 48 | write


def fill(value: int, first: int, count: int) -> bytearray:
    """:returns: the bytes of ``count`` blocks from block ``first`` on, written with ``value``."""
    return bytearray(_expected(np.full(count, value, np.uint64), first).tobytes())


def recognise(data: bytes | bytearray | memoryview, first: int) -> Values:
    """:returns: the value of each block of ``data``, which was read from block ``first`` on."""
    words = np.frombuffer(data, np.uint64).reshape(-1, _WORDS)
    found = words[:, 0] ^ np.uint64(_MAGIC)
    empty = ~words.any(axis=1)
    found[empty] = 0
    wrong = (words != _expected(found, first)).any(axis=1)
    found[wrong] = TORN
    return found


def describe(data: bytes | bytearray | memoryview) -> str:
    """:returns: what one block says of itself, for a person."""
    words = np.frombuffer(data, np.uint64)
    if not words.any():
        return "zeroes"
    value, block = int(words[0]) ^ _MAGIC, int(words[1])
    if (words == _expected(np.array([value], np.uint64), block)[0]).all():
        return f"block {block} of {name(value)}"
    return f"no whole block, beginning {bytes(data[:32]).hex()}"


def name(value: int) -> str:
    """:returns: a value for a person."""
    if value in (0, TORN):
        return "zeroes" if value == 0 else "no value"
    return f"write {value & (1 << 48) - 1} to vDisk {value >> 48}"


def _expected(values: Values, first: int) -> NDArray[np.uint64]:
    """The words of blocks from ``first`` on with these values; zeroes where the value is 0."""
    blocks = np.arange(first, first + len(values), dtype=np.uint64)
    words = np.empty((len(values), _WORDS), np.uint64)
    words[:] = np.arange(_WORDS, dtype=np.uint64) * np.uint64(_STRIDE)
    words += (values * np.uint64(_STRIDE) + blocks)[:, None]
    words[:, 0] = values ^ np.uint64(_MAGIC)
    words[:, 1] = blocks
    words[values == 0] = 0
    return words
