"""One change at a time per vDisk.

Waiting is first come, first served. Background work (merges) gives way: when someone else asks for its vDisk it is
told to stop, and takes its turn again later.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Entry:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    give_way: asyncio.Event | None = None


class VDiskLocks:
    """Locks by vDisk guid; kept only while somebody holds or awaits them."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    @asynccontextmanager
    async def hold(self, guids: Iterable[str]) -> AsyncIterator[None]:
        """Hold the locks of all these vDisks; background work on them is told to give way."""
        async with AsyncExitStack() as stack:
            for guid in sorted(set(guids)):
                await stack.enter_async_context(self._one(guid, None))
            yield

    @asynccontextmanager
    async def hold_in_background(self, guid: str) -> AsyncIterator[asyncio.Event | None]:
        """Hold the lock of one vDisk if it is free.

        :returns: an event that is set when someone else wants the vDisk; None when it was not free (and then the
            lock is not held).
        """
        if guid in self._entries:
            yield None
            return
        give_way = asyncio.Event()
        async with self._one(guid, give_way):
            yield give_way

    @asynccontextmanager
    async def _one(self, guid: str, give_way: asyncio.Event | None) -> AsyncIterator[None]:
        entry = self._entries.setdefault(guid, _Entry())
        entry.users += 1
        if entry.give_way is not None:
            entry.give_way.set()
        try:
            async with entry.lock:
                entry.give_way = give_way
                try:
                    yield
                finally:
                    entry.give_way = None
        finally:
            entry.users -= 1
            if not entry.users:
                del self._entries[guid]
