"""Which process a daemon is, beyond its pid: pids are used again, also by strangers and after a reboot.

A process is watched and signalled through a pidfd, which works alike for a child and for a daemon that an earlier
service started, and can never hit another process.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Identity", "Process"]


@dataclass(frozen=True, slots=True)
class Identity:
    """One process of one boot of this machine.

    :ivar pid: process id.
    :ivar start_time: when it started, in clock ticks since boot (field 22 of ``/proc/PID/stat``).
    :ivar boot_id: the kernel's random id of the boot.
    """

    pid: int
    start_time: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Identity:
        """The identity of a living process.

        :raise ProcessLookupError: there is none, or it is a zombie.
        """
        return cls(pid, _start_time(pid), _boot_id())

    @classmethod
    def of_child(cls, pid: int) -> Identity:
        """The identity of a child whose status was not collected yet, also when it has ended already."""
        return cls(pid, _start_time(pid, zombies=True), _boot_id())

    def alive(self) -> bool:
        """Whether this very process lives: same boot, same pid, same start time, and no zombie."""
        try:
            return Identity.of(self.pid) == self
        except ProcessLookupError:
            return False


class Process:
    """A handle on a living process; its end is noticed by the event loop.

    :param identity: the process. Must be called with a running event loop.
    :param child: whether it is a child of this process, then its status is collected.
    :param on_exit: called once, in the event loop, when it has ended.
    :raise ProcessLookupError: it has ended already, or its pid is another's by now.
    """

    def __init__(self, identity: Identity, *, child: bool, on_exit: Callable[[], None]) -> None:
        self.identity = identity
        #: exit status of a child that has ended (negative: killed by that signal); None for others.
        self.status: int | None = None
        self._child = child
        self._on_exit = on_exit
        self._loop = asyncio.get_running_loop()
        self._pidfd = os.pidfd_open(identity.pid)
        # The pidfd fixes the process; only now can the check not be overtaken by a reuse of the pid. A child's pid
        # is not used again before its status is collected, so that one may have ended already.
        if not child and not identity.alive():
            os.close(self._pidfd)
            raise ProcessLookupError(identity.pid)
        self._loop.add_reader(self._pidfd, self._ended)

    @property
    def pidfd(self) -> int:
        """The file descriptor of the process, -1 when it has ended or was let go."""
        return self._pidfd

    def kill(self) -> None:
        """Send SIGKILL; nothing happens if the process has ended. Does not wait."""
        if self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def let_go(self) -> None:
        """Stop watching; the process lives on."""
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _ended(self) -> None:
        if self._child:
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
            if result is not None:
                killed = result.si_code != os.CLD_EXITED
                self.status = -result.si_status if killed else result.si_status
        self.let_go()
        self._on_exit()


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def _start_time(pid: int, *, zombies: bool = False) -> int:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        raise ProcessLookupError(pid) from None
    # The command name stands in brackets and may hold anything, also brackets.
    values = text.rpartition(")")[2].split()
    if values[0] in ("Z", "X") and not zombies:
        raise ProcessLookupError(pid)
    return int(values[19])
