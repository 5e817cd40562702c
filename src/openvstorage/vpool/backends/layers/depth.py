"""Skip layers: why a chain stays short with any number of live snapshots.

Every 4th layer of a line absorbs, while it is still active, what the last 4 hold, every 16th what the last 16 hold,
and so on. Its parent is then 4 (16, 64) layers further down, so that a reader passes at most 3 layers of each power.
A named layer below is not changed by this, only bypassed.

Why 4: a read that finds nothing in a layer costs the daemon 1.6 microseconds there, beside the 13 of the read itself.
With 100 live snapshots that are each a 64th of the disk, strides of 8 give 10 layers, 0.8 of the random reads of a
single layer and 1.7 times the processor time; strides of 4 give 5 layers, 0.95 and 1.1, for 22 per cent more space
under the snapshots (``make bench``).

When snapshots follow each other faster than layers are absorbed, the chain grows by each of them. Then the head catches
up: it absorbs as many layers as were left out, at the latest when the chain is ``MAX_DEPTH`` deep.
"""

from __future__ import annotations

from collections.abc import Sequence

STRIDE = 4
#: So many layers more than necessary let a head catch up.
TOLERATED = 2 * STRIDE
#: A snapshot waits for a merge only when the chain is this deep, which needs many snapshots within seconds.
MAX_DEPTH = 32


def absorbed_by(ordinal: int) -> int:
    """:returns: how many layers below a layer with this ordinal are absorbed by it; 0 for an ordinary layer."""
    if ordinal <= 0 or ordinal % STRIDE:
        return 0
    span = STRIDE
    while ordinal % (span * STRIDE) == 0:
        span *= STRIDE
    return span


def best_depth(ordinal: int) -> int:
    """:returns: how many layers a chain has in which no head missed what it was to absorb."""
    depth = 1
    while ordinal > 0:
        ordinal -= absorbed_by(ordinal) or 1
        depth += 1
    return depth


def skip_target(ordinals: Sequence[int]) -> int | None:
    """Find the layer that the head should lie on directly.

    :param ordinals: ordinals of the chain, head first.
    :returns: index in the sequence of the new parent, or None when the head already lies where it should. It is the
        first layer at or below the head's stride; the bottom one stays when the line began there. In a chain that
        has grown too deep it is the one that makes it as deep as it should be.
    """
    best = best_depth(ordinals[0])
    if len(ordinals) > best + TOLERATED:
        return len(ordinals) - best + 1
    span = absorbed_by(ordinals[0])
    if not span:
        return None
    goal = ordinals[0] - span
    for index, ordinal in enumerate(ordinals[1:], start=1):
        if ordinal <= goal:
            return index if index > 1 else None
    return None
