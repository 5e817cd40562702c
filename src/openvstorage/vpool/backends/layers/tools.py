"""Programs that work on layer files (``qemu-img``, ``cp``), and their end.

A tool that outlives its service writes when others have gone on with the file. So each dies with the service that
started it, and carries a mark in its environment by which the next service finds and ends what lived on all the same:
the child of a wrapper, or one whose service died before the kernel was told of the tie. Storage daemons have no such
mark: they outlive the service on purpose.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from openvstorage.vpool.backends.base import BackendError, PoolFull
from openvstorage.vpool.exports.identity import Identity, Process
from openvstorage.vpool.exports.spawn import TIED, reason_of
from openvstorage.vpool.image_lock import tells_of_a_lock

__all__ = ["Locked", "Tools"]

log = logging.getLogger(__name__)

#: In the environment of each tool: of which directory's layers.
MARK = "OPENVSTORAGE_TOOL_OF"
#: For a tool whose work does not depend on how much data there is. A disk may be slow, but not for ever.
PATIENCE_SECONDS = 120.0
#: Of a burst of changes the rest waits: more at a time take longer in all, and processes run out.
RUNNING_AT_ONCE = 16
#: A killed process ends at once, unless it waits for a disk that hangs.
END_SECONDS = 30.0
_SAID_BYTES = 64 * 1024
#: How the tools of version 0.1.0's first builds, which had no mark, begin.
_UNMARKED = (("create", "-q", "-u"), ("resize", "-q"), ("--sparse=always", "--reflink=auto", "--"))


class Locked(BackendError):
    """Another process has the image open."""


class Tools:
    """Runs programs on the files of one directory.

    :param directory: of the layers; must exist.
    :raises BackendError: ``setpriv`` is missing.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._running = asyncio.Semaphore(RUNNING_AT_ONCE)
        place = directory.stat()
        self._mark = f"{MARK}={place.st_dev}:{place.st_ino}"
        if shutil.which(TIED[0]) is None:
            raise BackendError(f"{TIED[0]} is not installed, which ends tools with the service: install util-linux")

    async def run(self, program: Path | str, *arguments: object, seconds: float = PATIENCE_SECONDS) -> str:
        """Run a program to its end. :returns: what it says.

        When the task is cancelled or the time is over, it has been killed and has ended before this returns.

        :param seconds: how long it may take.
        :raises PoolFull: no room. :raises Locked: another process has the image open.
        :raises BackendError: it failed, took too long, or can not be started.
        """
        status, said = await self.outcome(program, *arguments, seconds=seconds)
        if status == 0:
            return said
        if "No space left on device" in said or "Disk quota exceeded" in said:
            raise PoolFull()
        failure = Locked if tells_of_a_lock(said) else BackendError
        raise failure(f"{_name(program, arguments)} failed: {said or f'status {status}'}")

    async def outcome(
        self, program: Path | str, *arguments: object, seconds: float = PATIENCE_SECONDS
    ) -> tuple[int, str]:
        """The same for a program whose failure is an answer. :returns: its exit status, and what it says."""
        words = [str(program), *(str(argument) for argument in arguments)]
        # Memory, not a pipe: nobody has to read while it runs, and who keeps it open keeps nobody waiting.
        said = os.memfd_create("said", os.MFD_CLOEXEC)
        try:
            async with self._running:
                status = await self._run(words, said, seconds)
            return status, os.pread(said, _SAID_BYTES, 0).decode(errors="replace").strip()
        except TimeoutError:
            raise BackendError(
                f"{_name(program, arguments)} did not end within {seconds:.0f} s and was killed: "
                f"see whether the disk of {self._directory} hangs"
            ) from None
        except OSError as error:
            raise BackendError(f"{_name(program, arguments)} can not be started: {reason_of(error)}") from error
        finally:
            os.close(said)

    async def _run(self, words: Sequence[str], said: int, seconds: float) -> int:
        ended = asyncio.Event()
        process = self._start(words, said, ended)
        try:
            async with asyncio.timeout(seconds):
                await ended.wait()
        except BaseException:
            # what it writes must not come after what is done about our end
            _kill_group(process.identity.pid)
            await ended.wait()
            raise
        return process.status or 0

    def _start(self, words: Sequence[str], said: int, ended: asyncio.Event) -> Process:
        """Start it in a session of its own, so that it can be killed with its children, and Ctrl-C does not reach it.

        Texts are told apart below, so they shall be in English.
        """
        name, _, value = self._mark.partition("=")
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", name: value}
        child = subprocess.Popen(
            [*TIED, *words],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            env=environment,
            start_new_session=True,
        )
        try:
            process = Process(Identity.of_child(child.pid), child=True, on_exit=ended.set)
        except BaseException:  # such as no file descriptor left to watch it with
            _kill_group(child.pid)
            child.wait()
            raise
        child.returncode = 0  # its status is collected through the pidfd
        return process

    async def end_leftovers(self, seconds: float = END_SECONDS) -> None:
        """End what an earlier service's tools are still doing here. Call before any of ours runs.

        :raises BackendError: one does not end: what it writes to would not be safe from it.
        """
        try:
            async with asyncio.timeout(seconds):
                # again, since one may have started another just before its end
                while found := await asyncio.to_thread(self._leftovers):
                    for identity in found:
                        log.warning("a tool of an earlier service (pid %d) is ended", identity.pid)
                        await _end(identity)
        except TimeoutError:
            pids = ", ".join(str(identity.pid) for identity in self._leftovers())
            raise BackendError(
                f"a tool of an earlier service does not end (pid {pids}), and would write under this one: "
                f"see whether the disk of {self._directory} hangs"
            ) from None

    def _leftovers(self) -> list[Identity]:
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdecimal() and entry.name != str(os.getpid()):
                with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
                    identity = Identity.of(int(entry.name))  # first: what is read then is of this process or a later
                    if entry.stat().st_uid == os.geteuid() and self._is_ours(entry):
                        found.append(identity)
        return found

    def _is_ours(self, entry: Path) -> bool:
        if self._mark in _texts(entry / "environ"):
            return True
        words = _texts(entry / "cmdline")
        inside = f"{self._directory}{os.sep}"
        return any(inside in word for word in words) and any(_holds(words, start) for start in _UNMARKED)


async def _end(identity: Identity) -> None:
    ended = asyncio.Event()
    try:
        process = Process(identity, child=False, on_exit=ended.set)
    except ProcessLookupError:
        return
    try:
        process.kill()
        await ended.wait()
    finally:
        process.let_go()


def _kill_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def _texts(path: Path) -> list[str]:
    return path.read_bytes().decode(errors="replace").split("\0")


def _holds(words: Sequence[str], part: Sequence[str]) -> bool:
    return any(tuple(words[at : at + len(part)]) == tuple(part) for at in range(len(words)))


def _name(program: Path | str, arguments: Sequence[object]) -> str:
    return " ".join([Path(program).name, *itertools.islice(map(str, arguments), 1)])
