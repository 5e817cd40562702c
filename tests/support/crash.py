"""Killing the vPool at a chosen moment: child processes, boundaries, guests and daemons without a service.

Everything here runs in the test's own process except what :func:`in_child` is given. No event loop runs between two
calls, so that forking is safe.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.crash_world import BLOCK, fill
from tests.support.patience import PATIENCE

from openvstorage.edge.errors import EdgeError
from openvstorage.edge.nbd import NbdClient
from openvstorage.vpool.exports import leftovers
from openvstorage.vpool.pool import MARKER, PoolDirectory

#: A guest that has lost its server gives up after this long.
GUEST_SECONDS = 2.0


@dataclass
class Killer:
    """A boundary hook that counts boundaries and kills the process, with no chance to tidy up, at the n-th.

    :ivar types: operation types whose boundaries count.
    :ivar at: which one, from 0; None to count only.
    :ivar journal: a file to which each boundary is appended before anything else happens, for the parent to read.
    """

    types: frozenset[str]
    at: int | None
    journal: Path
    armed: bool = True
    seen: int = field(default=0)

    async def __call__(self, operation: str, name: str) -> None:
        if not self.armed or operation not in self.types:
            return
        with self.journal.open("a") as file:
            file.write(f"{operation}:{name}\n")
        if self.seen == self.at:
            await self.strike()
        self.seen += 1

    async def strike(self) -> None:
        """Does not return."""
        os.kill(os.getpid(), signal.SIGKILL)

    def passed(self) -> list[str]:
        """:returns: the boundaries as ``type:name``, in their order."""
        return self.journal.read_text().split() if self.journal.exists() else []


@dataclass
class Hanger(Killer):
    """The same, but at the n-th boundary the operation hangs for ever.

    :ivar reached: set when it does.
    """

    reached: asyncio.Event = field(default_factory=asyncio.Event)

    async def strike(self) -> None:
        """Does not return."""
        self.reached.set()
        await asyncio.Event().wait()


def in_child(work: Callable[[], Coroutine[Any, Any, None]], patience: float = PATIENCE) -> bool:
    """Run something in a process of its own.

    :param patience: seconds that it may take.
    :returns: whether it was killed by SIGKILL.
    :raises AssertionError: it raised, or ended in any third way; its traceback is in our standard error.
    """
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            asyncio.run(work())
            status = 0
        except BaseException:  # noqa: BLE001 - a child never returns into the test
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    deadline = time.monotonic() + patience
    with os.fdopen(os.pidfd_open(pid), "rb", closefd=True) as watched:
        ended = _wait_readable(watched.fileno(), deadline - time.monotonic())
    if not ended:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise AssertionError(f"the child hung for {patience:.0f} s")
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "the child failed: its traceback is in the captured stderr"
    return False


def _wait_readable(descriptor: int, seconds: float) -> bool:
    import select

    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(seconds * 1000))


async def until(condition: Callable[[], Awaitable[bool]], what: str, seconds: float = PATIENCE) -> None:
    """Wait for a condition. :raises AssertionError: it did not come true in time."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        await asyncio.sleep(0.01)


def daemons(data: Path) -> list[leftovers.Leftover]:
    """:returns: living storage daemons of a data directory, of whatever service process."""
    marker = data / MARKER
    if not marker.exists():
        return []
    guid = json.loads(marker.read_text())["guid"]
    return leftovers.find(PoolDirectory(data).run_dir(guid))


def kill_daemons(data: Path) -> int:
    """Kill them all and wait for their end. :returns: how many there were."""
    found = daemons(data)
    for daemon in found:
        kill(daemon.identity.pid)
    return len(found)


def kill(pid: int) -> None:
    """Kill a process and wait until it is gone or a zombie (who its parent is does not matter)."""
    descriptor = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        assert _wait_readable(descriptor, PATIENCE), f"process {pid} survives SIGKILL"
    finally:
        os.close(descriptor)


def guest_writes(grant: dict[str, Any], block: int, seconds: float = GUEST_SECONDS) -> bool | None:
    """Write and flush one block as a guest whose storage is still there would.

    :returns: whether it was flushed; None when it was sent but not answered, so that nobody can tell.
    """
    try:
        nbd = NbdClient.connect(grant["host"], grant["port"], grant["export_name"], timeout=seconds)
    except EdgeError:
        return False
    with nbd:
        try:
            nbd.write(block * BLOCK, fill("W"))
            nbd.flush()
        except EdgeError:
            return None
    return True
