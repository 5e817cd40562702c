"""The clock: time and waiting as the library sees them, so that tests need not wait for real."""

import time
from collections.abc import Iterator
from typing import Protocol

__all__ = ["Clock", "SystemClock", "growing"]


class Clock(Protocol):
    """What the library needs of time."""

    def monotonic(self) -> float:
        """Give seconds from an arbitrary start; never goes back."""

    def sleep(self, seconds: float) -> None:
        """Block the calling thread for that time."""


class SystemClock:
    """The machine's clock. ``time`` is looked up at each call because eventlet replaces its functions."""

    def monotonic(self) -> float:
        """Give the machine's monotonic time in seconds."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block the calling thread (or green thread) for that time in seconds."""
        time.sleep(seconds)


def growing(first: float, factor: float, largest: float) -> Iterator[float]:
    """Give pauses in seconds without end: ``first``, then each ``factor`` times the one before, up to ``largest``."""
    pause = first
    while True:
        yield pause
        pause = min(pause * factor, largest)
