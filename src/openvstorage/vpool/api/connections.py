"""Connections to the API: how many one address may have, counted from the moment they are accepted.

Each connection costs a descriptor, of which the process has a limited number, long before anybody has said who is
calling. One over the limit is closed before its TLS handshake: nothing of it was read, so a client knows that nothing
was done.
"""

from __future__ import annotations

import logging
import resource
import socket
import time
from collections import Counter
from typing import Any

__all__ = ["CountedListener"]

log = logging.getLogger(__name__)

#: One address never gets more than this part of the process's descriptors: exports need most of them.
DESCRIPTORS_SHARE = 4
#: How many are closed in a row before the event loop goes on with its other work.
CLOSED_AT_ONCE = 64
#: How often an address at its limit is told of in the log.
WARNING_SECONDS = 60.0


class CountedListener(socket.socket):
    """A listening socket that closes what comes from an address with too many open connections.

    :ivar limit: most open connections of one address; with few descriptors it is a quarter of them.
    """

    limit: int = 256

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._open: Counter[str] = Counter()
        self._warned: dict[str, float] = {}

    def accept(self) -> tuple[socket.socket, Any]:
        """Accept the next connection of an address that may have it; the others are closed on the way.

        :raises OSError: as of any socket; ``BlockingIOError`` when nobody else waits.
        """
        for _ in range(CLOSED_AT_ONCE):
            accepted, peer = super().accept()
            address = peer[0]
            if self._open.get(address, 0) < self._allowed():
                self._open[address] += 1
                family, kind, protocol = accepted.family, accepted.type, accepted.proto
                return _Counted(self, address, family, kind, protocol, fileno=accepted.detach()), peer
            accepted.close()
            self._warn(address)
        raise BlockingIOError  # so many that others have to have their turn first

    def released(self, address: str) -> None:
        """A connection of this address has been closed."""
        self._open[address] -= 1
        if self._open[address] <= 0:
            del self._open[address]

    def _allowed(self) -> int:
        return min(self.limit, max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // DESCRIPTORS_SHARE))

    def _warn(self, address: str) -> None:
        now = time.monotonic()
        self._warned = {known: at for known, at in self._warned.items() if now - at < WARNING_SECONDS}
        if address not in self._warned:
            self._warned[address] = now
            log.warning(
                "connections of %s are closed: it has %d open already (connections_per_address)",
                address,
                self._open[address],
            )


class _Counted(socket.socket):
    """A connection that says when it is closed."""

    _listener: CountedListener | None = None

    def __init__(self, listener: CountedListener, address: str, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._listener, self._address = listener, address

    def close(self) -> None:
        """Close it, and make room for another one of its address."""
        super().close()
        self._release()

    def __del__(self) -> None:
        """A connection that was lost on its way to a transport has been closed too."""
        self._release()

    def _release(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.released(self._address)
