"""The rate limit, as Open vStorage's token endpoint has it."""

from __future__ import annotations

import pytest

from openvstorage.vpool.access.errors import LockedOut, TooManyCalls
from openvstorage.vpool.access.limits import ADDRESSES, RateLimit, RateLimiter


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def limiter(clock: Clock) -> RateLimiter:
    return RateLimiter(RateLimit(calls=5), now=clock)


def reach(limiter: RateLimiter, address: str = "a") -> None:
    for _ in range(5):
        limiter.check(address)
    with pytest.raises(TooManyCalls) as reached:
        limiter.check(address)
    assert reached.value.retry_after == 60


def test_sixth_call_in_a_minute_locks_out(limiter: RateLimiter, clock: Clock) -> None:
    reach(limiter)
    clock.now = 59.5
    with pytest.raises(LockedOut) as locked:
        limiter.check("a")
    assert locked.value.retry_after == 1


def test_blocked_calls_do_not_extend_the_lockout(limiter: RateLimiter, clock: Clock) -> None:
    reach(limiter)
    for clock.now in (10.0, 30.0, 59.0):
        with pytest.raises(LockedOut):
            limiter.check("a")
    clock.now = 60.0
    limiter.check("a")


def test_window_slides(limiter: RateLimiter, clock: Clock) -> None:
    for clock.now in (0.0, 10.0, 20.0, 30.0, 40.0, 60.0, 70.0):
        limiter.check("a")
    clock.now = 71.0
    with pytest.raises(TooManyCalls):
        limiter.check("a")


def test_addresses_are_counted_apart(limiter: RateLimiter) -> None:
    reach(limiter)
    limiter.check("b")


def test_zero_switches_it_off() -> None:
    limiter = RateLimiter(RateLimit(calls=0))
    for _ in range(1000):
        limiter.check("a")


def test_memory_is_bounded(limiter: RateLimiter) -> None:
    for number in range(ADDRESSES + 10):
        limiter.check(str(number))
    assert len(limiter._addresses) == ADDRESSES
