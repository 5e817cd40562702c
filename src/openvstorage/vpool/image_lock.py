"""The lock that each of QEMU's programs holds on an image that it has open, as another one tells of it."""

from __future__ import annotations

import re

__all__ = ["tells_of_a_lock"]

_REFUSED = re.compile(r'Failed to get (shared )?"[^"]+" lock')


def tells_of_a_lock(said: str) -> bool:
    """:returns: whether a program complains that another process has the image open."""
    return bool(_REFUSED.search(said))
