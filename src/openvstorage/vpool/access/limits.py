"""The limit on how often one address may call.

Open vStorage's rule: so many calls in so many seconds, whether they succeed or not; the call above that locks the
address out for a while, and calls during the lock-out do not extend it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from openvstorage.vpool.access.errors import LockedOut, TooManyCalls

__all__ = ["RateLimit", "RateLimiter"]

#: Addresses remembered at most; the ones quiet for longest are forgotten first.
ADDRESSES = 10_000


@dataclass(frozen=True, slots=True)
class RateLimit:
    """A limit.

    :ivar calls: how many calls an address has in ``seconds``; 0 for no limit.
    :ivar lockout: seconds for which it is refused afterwards.
    """

    calls: int
    seconds: float = 60.0
    lockout: float = 60.0


@dataclass(slots=True)
class _Address:
    calls: deque[float] = field(default_factory=deque)
    locked_until: float = 0.0


class RateLimiter:
    """Counts calls by address, in memory of this process.

    :param limit: the limit; ``RateLimit(calls=0)`` switches it off.
    :param now: seconds that never go back; replaced in tests.
    """

    def __init__(self, limit: RateLimit, *, now: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._now = now
        self._addresses: dict[str, _Address] = {}

    def check(self, address: str) -> None:
        """Count a call.

        :param address: whose call it is.
        :raises TooManyCalls: this call is one too many; the address is locked out.
        :raises LockedOut: the address is locked out already.
        """
        limit = self._limit
        if limit.calls <= 0:
            return
        now = self._now()
        seen = self._addresses.pop(address, None) or _Address()
        self._addresses[address] = seen  # the newest is last
        if len(self._addresses) > ADDRESSES:
            self._addresses.pop(next(iter(self._addresses)))
        if now < seen.locked_until:
            raise LockedOut(retry_after=_whole(seen.locked_until - now))
        while seen.calls and seen.calls[0] <= now - limit.seconds:
            seen.calls.popleft()
        if len(seen.calls) >= limit.calls:
            seen.calls.clear()
            seen.locked_until = now + limit.lockout
            raise TooManyCalls(retry_after=_whole(limit.lockout), calls=limit.calls, seconds=f"{limit.seconds:g}")
        seen.calls.append(now)


def _whole(seconds: float) -> int:
    return max(1, math.ceil(seconds))
