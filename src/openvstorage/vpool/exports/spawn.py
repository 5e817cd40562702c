"""Starting a process that outlives this one, or ends with it, with its output in a file."""

from __future__ import annotations

import errno
import os
import re
import subprocess
from collections.abc import Sequence
from pathlib import Path

from openvstorage.vpool.image_lock import tells_of_a_lock

__all__ = ["TIED", "Output", "reason_of", "spawn"]

#: What a program is run by so that the kernel kills it when we end. Without a shell between: the tie is kept over exec,
#: not by children. It is to the thread that forks; here that is the event loop's, which ends last.
TIED = ("setpriv", "--pdeathsig", "KILL", "--")


class Output:
    """What a process has written to a log file since it was started."""

    def __init__(self, path: Path, start: int) -> None:
        self._path = path
        self._start = start

    def raw(self) -> str:
        """All it has printed so far."""
        with self._path.open("rb") as file:
            file.seek(self._start)
            return file.read().decode(errors="replace")

    def text(self) -> str:
        """Its lines as one, without the program's name and the option values it quotes."""
        lines = self.raw().strip().splitlines()
        lines = [re.sub(r"^\S*qemu-storage-daemon: ", "", line) for line in lines]
        return "; ".join(re.sub(r"^--\S+ \{.*\}: ", "", line) for line in lines) or "it ended without a word"

    def tells_of_a_lock(self) -> bool:
        """Whether it complains that another process holds the lock of an image."""
        return tells_of_a_lock(self.text())


def spawn(
    words: Sequence[str], log_file: Path, fds: Sequence[int] = (), *, outlives: bool = True
) -> tuple[int, Output]:
    """Start a process in a session of its own; blocks for the moment that takes.

    Its environment is bare: ours may hold passwords, and its errors shall be in English. What it makes only its own
    user can open.

    :param words: program and arguments.
    :param log_file: its output is appended here; made with mode 0600.
    :param fds: file descriptors that it inherits under the same numbers.
    :param outlives: whether it lives on when this process ends.
    :return: its pid and its output. The caller notices its end and collects its status.
    :raise OSError: the program cannot be run, or the log not be opened.
    """
    log = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        said = Output(log_file, os.fstat(log).st_size)
        process = subprocess.Popen(
            words if outlives else [*TIED, *words],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={"PATH": os.defpath, "LC_ALL": "C"},
            pass_fds=fds,
            start_new_session=True,
            umask=0o077,
        )
    finally:
        os.close(log)
    # The status is collected through a pidfd: this object must neither wait for the process nor warn of it.
    process.returncode = 0
    return process.pid, said


def reason_of(error: OSError) -> str:
    """:returns: why a process could not be started, and what helps."""
    if error.errno in (errno.EAGAIN, errno.ENOMEM):
        return (
            f"{os.strerror(error.errno)}: the machine, or the service's unit (TasksMax=) or user (ulimit -u), "
            "has no process or memory to spare"
        )
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return f"{os.strerror(error.errno)}: raise the limit of open files (LimitNOFILE=, ulimit -n)"
    return f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)
