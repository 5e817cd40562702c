"""Metadata caches: how much of a storage daemon's memory each layer of a chain gets for its mapping table.

A read asks every layer that it passes where the data is. What is not cached costs one more read of the disk, which all
others of the same vDisk wait for. So a layer gets what its table needs, while the budget of the daemon lasts; QEMU's
own default is up to 32 MiB for each layer. Memory is only used as far as it is touched, and what was not used for ten
minutes is given back.
"""

from __future__ import annotations

from collections.abc import Sequence

#: Bytes of a layer that one byte of its mapping table covers, in either layout of layers: 8 bytes for a cluster of
#: 64 KiB, 16 for one of 128 KiB with sub-clusters (qcow2 specification, "Cluster mapping").
COVERED_BY_BYTE = 8192
#: No layer gets less, in bytes.
FLOOR = 1024**2
#: QEMU looks at each part of a cache at each flush, so there are not more parts of one than this.
MOST_PARTS = 2048
SMALLEST_PART, LARGEST_PART = 4096, 64 * 1024


def part(cache: int) -> int:
    """Tell in which parts the mapping table of a layer is cached and written.

    QEMU's own choice is a whole cluster: each newly written block costs 64 or 128 KiB of table at the next flush.

    :param cache: bytes of the layer's cache.
    :returns: bytes, a power of two that no cluster of ours is smaller than.
    """
    size = SMALLEST_PART
    while size < LARGEST_PART and cache // size > MOST_PARTS:
        size *= 2
    return size


def need(size: int, file_bytes: int | None) -> int:
    """Tell how large a cache covers a whole layer.

    :param size: virtual size of the layer in bytes.
    :param file_bytes: length of its file, which the table is a part of; None for a layer that is written to and grows.
    :returns: bytes.
    """
    whole = -(-size // COVERED_BY_BYTE)
    return max(FLOOR, whole if file_bytes is None else min(whole, file_bytes))


def shares(needs: Sequence[int], budget: int) -> list[int]:
    """Divide the budget of a daemon among its layers: the modest get what they need, the others the same each.

    :param needs: bytes that each layer needs, in any order.
    :param budget: bytes for all of them; exceeded only where the floor of each layer comes to more.
    :returns: bytes of each layer, in the same order.
    """
    granted = [0] * len(needs)
    left = budget
    by_need = sorted(range(len(needs)), key=lambda index: needs[index])
    for served, index in enumerate(by_need):
        equal = left // (len(needs) - served)
        granted[index] = max(FLOOR, min(needs[index], equal))
        left = max(0, left - granted[index])
    return granted
