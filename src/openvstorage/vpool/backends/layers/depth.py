"""Skip layers: why a chain stays short with any number of live snapshots.

Every 8th layer of a line absorbs, while it is still active, what the last 8 hold, every 64th what the last 64 hold,
and so on. Its parent is then 8 (64, 512) layers further down, so that a reader passes at most 7 layers of each power.
A named layer below is not changed by this, only bypassed. Measured: 9 layers deep at 100 live snapshots.
"""

from __future__ import annotations

from collections.abc import Sequence

STRIDE = 8
#: A snapshot waits for a merge only when the chain is deeper than this, which needs many snapshots within seconds.
MAX_DEPTH = 32


def absorbed_by(ordinal: int) -> int:
    """:returns: how many layers below a layer with this ordinal are absorbed by it; 0 for an ordinary layer."""
    if ordinal <= 0 or ordinal % STRIDE:
        return 0
    span = STRIDE
    while ordinal % (span * STRIDE) == 0:
        span *= STRIDE
    return span


def skip_target(ordinals: Sequence[int]) -> int | None:
    """Find the layer that the head should lie on directly.

    :param ordinals: ordinals of the chain, head first.
    :returns: index in the sequence of the new parent, or None when the head already lies where it should. It is the
        first layer at or below the head's stride; the bottom one stays when the line began there.
    """
    span = absorbed_by(ordinals[0])
    if not span:
        return None
    goal = ordinals[0] - span
    for index, ordinal in enumerate(ordinals[1:], start=1):
        if ordinal <= goal:
            return index if index > 1 else None
    return None
