"""Rate limits: waiting out the answer 429."""

from openvstorage.client.clock import Clock, growing
from openvstorage.client.errors import RateLimited
from openvstorage.client.wire import Answer

__all__ = ["RATE_LIMIT_SECONDS", "RateWait"]

# Open vStorage locks an address out for 60 s and does not say for how much longer.
RATE_LIMIT_SECONDS = 90.0


class RateWait:
    """The waiting of one call. Not shared between threads.

    :param limit: seconds of waiting, all answers 429 of the call together, after which it gives up.
    """

    def __init__(self, clock: Clock, limit: float = RATE_LIMIT_SECONDS) -> None:
        self._clock = clock
        self._limit = limit
        self._waited = 0.0
        self._pauses = growing(0.5, 2.0, 10.0)

    def wait_out(self, endpoint: str, answer: Answer) -> None:
        """Sleep as long as ``answer`` asks for (Retry-After in seconds), else a growing time.

        :raises RateLimited: if that would go beyond the limit.
        """
        asked = answer.headers.get("Retry-After", "")
        pause = max(float(asked), 0.1) if asked.isdigit() else next(self._pauses)
        if self._waited + pause > self._limit:
            raise RateLimited(endpoint=endpoint, seconds=self._waited)
        self._clock.sleep(pause)
        self._waited += pause
