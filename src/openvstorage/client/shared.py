"""Shared values: what many threads need and one of them fetches, a token or the list of features."""

import copy
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from openvstorage.client.clock import Clock
from openvstorage.client.errors import OpenvStorageError

__all__ = ["Shared"]

_T = TypeVar("_T")


class Shared(Generic[_T]):
    """A value that is fetched when it is needed; thread-safe.

    Threads that wait while another one fetches get its value, or its failure: otherwise they would all run into the
    same timeout or rate limit, one after the other.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._value: _T | None = None
        self._fault: OpenvStorageError | None = None
        self._fault_at = 0.0

    def get(self, usable: Callable[[_T], bool], fetch: Callable[[], _T]) -> _T:
        """Give the value; ``fetch`` it if there is none or it is no longer ``usable``. May block.

        :raises OpenvStorageError: what ``fetch`` raises, here or in the thread that was waited for.
        """
        asked = self._clock.monotonic()
        with self._lock:
            if self._value is not None and usable(self._value):
                return self._value
            if self._fault is not None and self._fault_at > asked:
                # A copy, because raising changes an exception and other threads may be handling this one.
                raise copy.copy(self._fault)
            try:
                self._value = fetch()
            except OpenvStorageError as error:
                self._fault, self._fault_at = error, self._clock.monotonic()
                raise
            self._fault = None
            return self._value

    def drop(self, value: _T) -> None:
        """Forget ``value`` if it is still the present one: another thread may have renewed it meanwhile."""
        with self._lock:
            if self._value is value:
                self._value = None
