"""Supervisor: starts programs, finds them again, and stops them. It knows nothing of OpenStack.

Each program runs in a session of its own and outlives the command that started it. Its record holds pid, start time and
boot id, which together name one process for ever: a pid that was given to somebody else is never signalled. Children
carry a mark in their environment as well, so that what a killed command left behind is found too.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from openvstorage.aio.errors import ProgramFailed
from openvstorage.aio.paths import Paths, write_private

__all__ = [
    "Identity",
    "Program",
    "Supervisor",
    "base_environment",
    "end_processes",
    "processes_running",
    "processes_with",
]

_MARK_STATE = "OPENVSTORAGE_AIO_STATE"
_MARK_PROGRAM = "OPENVSTORAGE_AIO_PROGRAM"
_POLL_SECONDS = 0.05
_KILL_SECONDS = 10.0


def base_environment() -> dict[str, str]:
    """Return the environment that children start from: little of ours, no proxy and no OpenStack credentials.

    A proxy would catch requests to 127.0.0.1, and an OS_* variable of the caller's would be believed.
    """
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        "no_proxy": "127.0.0.1,localhost",
        "NO_PROXY": "127.0.0.1,localhost",
        "PYTHONWARNINGS": "ignore",
    }


def _stat(pid: int) -> tuple[str, int, int] | None:
    """Return (state letter, session, start time in clock ticks) of a process, None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name stands in brackets and may hold spaces and brackets itself.
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[3]), int(fields[19])


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _environment_of(pid: int) -> dict[str, str]:
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return {}
    pairs = (item.partition(b"=") for item in raw.split(b"\0") if item)
    return {os.fsdecode(key): os.fsdecode(value) for key, _, value in pairs}


def _pids() -> Iterable[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


@dataclass(frozen=True, slots=True)
class Identity:
    """One process, for ever.

    :ivar pid: process id.
    :ivar start_time: clock ticks after boot (field 22 of /proc/PID/stat).
    :ivar boot_id: the boot that the start time counts from.
    """

    pid: int
    start_time: int
    boot_id: str

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """Return the identity of a running process, None if there is none by that pid."""
        stat = _stat(pid)
        return None if stat is None else cls(pid, stat[2], _boot_id())

    def alive(self) -> bool:
        """Whether that very process still runs; a zombie does not."""
        stat = _stat(self.pid)
        return stat is not None and stat[0] != "Z" and stat[2] == self.start_time and self.boot_id == _boot_id()


@dataclass(frozen=True, slots=True)
class Program:
    """What to run.

    :ivar name: names the record and the log file.
    :ivar argv: command line; nothing secret belongs there, any user of the machine can read it.
    :ivar environment: added to :func:`base_environment`.
    :ivar files: configuration it reads at its start; when one changes, ``Supervisor.start`` restarts the program.
    :ivar version: any text that changes when the program's code does.
    :ivar stop_signal: asks it to end.
    :ivar stop_seconds: how long it may take before it is killed.
    :ivar children_outlive: what it started goes on without it until everything is stopped (the exports of a vPool).
    :ivar stop_stage: when everything is stopped, programs of one stage end together, after those of all lower stages:
        what others need to end in order has a higher one than they.
    """

    name: str
    argv: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    version: str = ""
    stop_signal: int = signal.SIGTERM
    stop_seconds: float = 20.0
    children_outlive: bool = False
    stop_stage: int = 0

    def fingerprint(self) -> str:
        """Return a digest of all that makes a running instance out of date when it changes."""
        digest = hashlib.sha256(json.dumps([self.argv, sorted(self.environment.items()), self.version]).encode())
        for path in self.files:
            digest.update(path.read_bytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Record:
    identity: Identity
    argv: tuple[str, ...]
    fingerprint: str
    stop_signal: int
    stop_seconds: float
    children_outlive: bool
    order: float
    stop_stage: int = 0


class Supervisor:
    """The programs of one state directory. Thread-safe for different programs; one command at a time holds it."""

    def __init__(self, paths: Paths) -> None:
        self._paths = paths
        self._given_up = threading.Event()

    def log(self, name: str) -> Path:
        """Return the log file of a program; it need not exist."""
        return self._paths.log / f"{name}.log"

    def names(self) -> list[str]:
        """Return the names of all programs ever started and not stopped, in the order of their start."""
        return list(self._records())

    def identity(self, name: str) -> Identity | None:
        """Return the identity of a program that runs, None if it does not."""
        record = self._read(name)
        return record.identity if record is not None and record.identity.alive() else None

    def started(self, name: str) -> datetime | None:
        """Return when a program that runs was started (UTC), None if it does not run."""
        record = self._read(name)
        return datetime.fromtimestamp(record.order, UTC) if record is not None and record.identity.alive() else None

    def start(self, program: Program) -> bool:
        """Run a program unless it runs already with the same command, configuration and version.

        One that is out of date is stopped first. Returns whether a process was started. Does not wait until the program
        is ready (:meth:`wait_ready`). Raises OSError if it cannot be executed.
        """
        record = self._read(program.name)
        if record is not None and record.identity.alive() and record.fingerprint == program.fingerprint():
            return False
        self.stop(program.name)
        self._end_marked(program.name, program.argv if program.children_outlive else None)
        environment = {
            **base_environment(),
            **program.environment,
            _MARK_STATE: str(self._paths.state),
            _MARK_PROGRAM: program.name,
        }
        with self.log(program.name).open("ab") as log:
            child = subprocess.Popen(
                program.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                cwd=self._paths.state,
                start_new_session=True,
            )
        identity = Identity.of(child.pid)
        if identity is None:  # cannot be: a child that nobody waited for stays at least as a zombie
            raise ProgramFailed(program.name, "vanished at its start", self.log(program.name))
        fresh = _Record(
            identity,
            program.argv,
            program.fingerprint(),
            program.stop_signal,
            program.stop_seconds,
            program.children_outlive,
            time.time(),
            program.stop_stage,
        )
        write_private(self._record(program.name), json.dumps(asdict(fresh)))
        return True

    def wait_ready(self, name: str, ready: Callable[[], bool], seconds: float = 120.0) -> None:
        """Block until ``ready()`` is true.

        Raises ProgramFailed if the program dies before, it takes longer, or the wait is given up.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if self._given_up.is_set():
                raise ProgramFailed(name, "was not waited for, because something else failed", self.log(name))
            if self.identity(name) is None:
                raise ProgramFailed(name, "ended before it was ready", self.log(name))
            if time.monotonic() > deadline:
                raise ProgramFailed(name, f"was not ready after {seconds:.0f} seconds", self.log(name))
            time.sleep(_POLL_SECONDS)

    def give_up(self) -> None:
        """End every wait of :meth:`wait_ready`, now and later; the programs go on."""
        self._given_up.set()

    def stop(self, name: str) -> bool:
        """End a program and everything it started; blocks until it is gone. Returns whether anything ran.

        It is asked first and killed when it takes too long. What is not ours by identity or by mark is never signalled.
        """
        record = self._read(name)
        ran = False
        if record is not None and record.identity.alive():
            ran = True
            _signal(record.identity, record.stop_signal)
            for late in _wait_gone([record.identity], record.stop_seconds):
                _signal(late, signal.SIGKILL)
                _wait_gone([late], _KILL_SECONDS)
        if record is not None and not record.children_outlive:
            # Also when the program itself has died: its children may not have.
            self._end_marked(name)
        self._record(name).unlink(missing_ok=True)
        return ran

    def stop_stage(self, stage: int) -> list[str]:
        """Stop the programs of one stage, all at once; blocks until they are gone. Returns the names that ran."""
        names = [name for name, record in self._records().items() if record.stop_stage == stage]
        with ThreadPoolExecutor(max(1, len(names))) as pool:
            return [name for name, ran in zip(names, pool.map(self.stop, names), strict=True) if ran]

    def stop_all(self) -> list[str]:
        """Stop every program, stage by stage, then what they left behind. Blocks. Returns the names that ran."""
        stages = sorted({record.stop_stage for record in self._records().values()})
        stopped = [name for stage in stages for name in self.stop_stage(stage)]
        self._end_marked(None)
        return stopped

    def _end_marked(self, name: str | None, argv: tuple[str, ...] | None = None) -> None:
        """End what carries our mark: of that program, or of any; with ``argv``, only what runs that command line."""
        marks = {_MARK_STATE: str(self._paths.state), **({} if name is None else {_MARK_PROGRAM: name})}
        end_processes(each for each in processes_with(marks) if argv is None or _runs(each.pid, argv))

    def _record(self, name: str) -> Path:
        return self._paths.run / f"{name}.json"

    def _records(self) -> dict[str, _Record]:
        """Return what is known of each program, in the order of their start."""
        found = {path.stem: self._read(path.stem) for path in self._paths.run.glob("*.json")}
        known = [(name, record) for name, record in found.items() if record is not None]
        return dict(sorted(known, key=lambda pair: (pair[1].order, pair[0])))

    def _read(self, name: str) -> _Record | None:
        try:
            facts = json.loads(self._record(name).read_text())
        except FileNotFoundError:
            return None
        return _Record(**{**facts, "identity": Identity(**facts["identity"]), "argv": tuple(facts["argv"])})


def processes_with(variables: Mapping[str, str]) -> list[Identity]:
    """Return the processes, but this one, that were started with these environment variables."""
    return [
        identity
        for pid in _pids()
        if pid != os.getpid()
        and variables.items() <= _environment_of(pid).items()
        and (identity := Identity.of(pid)) is not None
    ]


def processes_running(matches: Callable[[list[str]], bool]) -> list[Identity]:
    """Return the processes, but this one, whose command line is what is looked for."""
    return [
        identity
        for pid in _pids()
        if pid != os.getpid()
        and (words := _command_line(pid))
        and matches(words)
        and (identity := Identity.of(pid)) is not None
    ]


def end_processes(identities: Iterable[Identity]) -> None:
    """Ask processes to end, and kill those that have not after ten seconds. Blocks until they are gone."""
    left = list(identities)
    for number in (signal.SIGTERM, signal.SIGKILL):
        for identity in left:
            _signal(identity, number)
        left = _wait_gone(left, _KILL_SECONDS)


def _signal(identity: Identity, number: int) -> None:
    # A pidfd is taken before the identity is checked, so the signal cannot reach a successor of the pid.
    try:
        descriptor = os.pidfd_open(identity.pid)
    except ProcessLookupError:
        return
    try:
        if identity.alive():
            signal.pidfd_send_signal(descriptor, number)
    except ProcessLookupError:
        return
    finally:
        os.close(descriptor)


def _runs(pid: int, argv: tuple[str, ...]) -> bool:
    # A script's command line is preceded by its interpreter's, so only the end is compared.
    return _command_line(pid)[-len(argv) :] == list(argv)


def _command_line(pid: int) -> list[str]:
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [os.fsdecode(word) for word in raw.split(b"\0")[:-1]]


def _wait_gone(identities: Iterable[Identity], seconds: float) -> list[Identity]:
    """Wait until the processes have ended, at most that long. Returns those that have not."""
    deadline = time.monotonic() + seconds
    remaining = list(identities)
    while remaining and time.monotonic() < deadline:
        for identity in remaining:
            _reap(identity.pid)
        remaining = [identity for identity in remaining if identity.alive()]
        if remaining:
            time.sleep(_POLL_SECONDS)
    return remaining


def _reap(pid: int) -> None:
    # Programs started by this very command are its children and stay zombies until somebody waits for them.
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return
