"""What happens to a pool until its power goes: operations through the API beside clients that write."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import threading
import time
from array import array
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tests.power.history import Disk, GrantOf, History, Moment, Promise, Snapshot, Span, decode
from tests.power.service import PowerService
from tests.power.write_log import SECTOR, position

from openvstorage.client import Client

__all__ = ["Clockwork", "Scenario", "read_all"]

MIB_SECTORS = 1024**2 // SECTOR
_SCRIPT = Path(__file__).with_name("writer.py")
#: libnbd's module is made for Debian's own Python.
_PYTHON = "/usr/bin/python3"
_PATIENCE_SECONDS = 300.0
#: Requests of a writer from one flush to the next, about.
_FLUSH_EVERY = {Promise.ACKNOWLEDGED: 200, Promise.FLUSHED: 40}
T = TypeVar("T")


class Clockwork:
    """Tells the time in entries of the device's log. :param log: its file."""

    def __init__(self, log: Path) -> None:
        self._log = os.open(log, os.O_RDONLY | os.O_CLOEXEC)

    def now(self) -> Moment:
        """:returns: this moment."""
        return Moment(position(self._log), time.monotonic_ns())

    def during(self, span: Span, work: Callable[[], T]) -> T:
        """Do something, and note in ``span`` when it was acknowledged. :returns: its result."""
        result = work()
        span.ended = self.now()
        return result


@dataclass
class _Attached:
    """A vDisk of the scenario's, with the clients that write to it."""

    disk: Disk
    grant: GrantOf | None = None
    writers: list[subprocess.Popen[bytes]] = field(default_factory=list)


class Scenario:
    """Two threads, each with vDisks of its own, do operations in a random order; writers run beside them.

    :param service: the service, healthy.
    :param history: where it is noted what was asked for, and acknowledged.
    :param log: the device's log.
    :param work: for records of writers.
    :param seed: decides.
    :param durabilities: those that vDisks may have.
    """

    def __init__(
        self, service: PowerService, history: History, log: Path, work: Path, seed: int, durabilities: Sequence[Promise]
    ) -> None:
        self._service, self._history, self._log, self._work = service, history, log, work
        self._clock = Clockwork(log)
        self._client = Client.from_status(service.status, patience=_PATIENCE_SECONDS)
        self._vpool = str(service.status["vpool_guid"])
        self._seed = seed
        self._durabilities = durabilities
        self._numbers = iter(range(1, 1 << 20))
        self._lock = threading.Lock()
        self._ending = threading.Event()
        self.done: dict[str, int] = {}

    def run(self, operations: int) -> None:
        """Do so many operations, restart the service twice on the way, then stop the writers and read their records.

        :raises OpenvStorageError: an operation failed.
        """
        with ThreadPoolExecutor(2) as threads:
            lines = [threads.submit(self._act, random.Random(f"{self._seed}/{line}")) for line in range(2)]
            try:
                for number, how in enumerate((signal.SIGKILL, signal.SIGTERM), 1):
                    self._wait_for(operations * number // 3)
                    self._count(f"service ended by {how.name}")
                    self._service.end(how)
                    self._service.start()
                self._wait_for(operations)
            finally:
                self._ending.set()
                for line in lines:
                    line.result()
        for disk in self._history.disks:
            disk.load()

    def _wait_for(self, operations: int) -> None:
        while sum(self.done.values()) < operations and not self._ending.is_set():
            self._ending.wait(0.1)

    def _act(self, chance: random.Random) -> None:
        mine: list[_Attached] = []
        try:
            while not self._ending.is_set():
                if not mine:
                    mine.append(self._create(chance))
                    continue
                one = chance.choice(mine)
                acts: list[tuple[int, Callable[[], object]]] = [
                    (2 if len(mine) < 4 else 0, lambda: mine.append(self._create(chance))),
                    (8 if len(one.disk.snapshots) < 8 else 0, lambda one=one: self._snapshot(one)),
                    (3 if len(mine) < 5 and _alive(one) else 0, lambda one=one: mine.append(self._clone(one, chance))),
                    (2, lambda one=one: self._extend(one, chance)),
                    (6 if len(_alive(one)) > 2 else 0, lambda one=one: self._delete_snapshot(one, chance)),
                    (3 if _alive(one) and not one.writers else 0, lambda one=one: self._roll_back(one, chance)),
                    (2 if len(mine) > 2 else 0, lambda one=one: mine.remove(self._delete(one))),
                ]
                chance.choices([act for _, act in acts], [weight for weight, _ in acts])[0]()
                self._ending.wait(chance.random() / 2)
        finally:
            self._ending.set()
            for one in mine:
                self._stop_writers(one)

    def _create(self, chance: random.Random) -> _Attached:
        sectors = chance.choice((16, 24, 48)) * MIB_SECTORS
        span = self._begin("create")
        promise = chance.choice(self._durabilities)
        disk = Disk("", f"disk-{self._number()}", span, promise=promise, sizes=[(sectors, span)], bases=[(None, span)])
        self._history.disks.append(disk)
        disk.guid = self._clock.during(
            span, lambda: self._client.vdisks.create(disk.name, sectors * SECTOR, self._vpool, durability=promise.value)
        )
        one = _Attached(disk)
        if chance.random() < 0.8:
            self._write(one, 0, sectors)
        return one

    def _clone(self, source: _Attached, chance: random.Random) -> _Attached:
        snapshot = chance.choice(_alive(source))
        assert snapshot.content is not None
        span = self._begin("clone")
        promise = chance.choice(self._durabilities)
        disk = Disk("", f"clone-{self._number()}", span, promise=promise, bases=[(snapshot.content, span)])
        disk.sizes.append((len(snapshot.content), span))
        self._history.disks.append(disk)
        disk.guid = self._clock.during(
            span,
            lambda: self._client.vdisks.clone(source.disk.guid, disk.name, snapshot.guid, durability=promise.value),
        )
        one = _Attached(disk)
        if chance.random() < 0.5:
            self._write(one, 0, len(snapshot.content))
        return one

    def _snapshot(self, one: _Attached) -> None:
        span = self._begin("snapshot")
        snapshot = Snapshot("", f"snapshot-{self._number()}", span)
        one.disk.snapshots.append(snapshot)
        snapshot.guid = self._clock.during(span, lambda: self._client.snapshots.create(one.disk.guid, snapshot.name))
        grant = self._grant(one.disk, f"reader-{snapshot.name}", snapshot)
        snapshot.content, strange = read_all(grant.uri, self._work)
        assert not strange, f"{one.disk.name}: {snapshot.name}: {strange[:3]}"
        self._revoke(grant)

    def _extend(self, one: _Attached, chance: random.Random) -> None:
        before = one.disk.sizes[-1][0]
        after = before + chance.choice((1, 8)) * MIB_SECTORS
        span = self._begin("extend")
        one.disk.sizes.append((after, span))
        self._clock.during(span, lambda: self._client.vdisks.extend(one.disk.guid, after * SECTOR))
        if one.writers and len(one.writers) < 3:
            self._write(one, before, after)

    def _delete_snapshot(self, one: _Attached, chance: random.Random) -> None:
        snapshot = chance.choice(_alive(one))
        snapshot.deleted = self._begin("delete snapshot")
        self._clock.during(snapshot.deleted, lambda: self._client.snapshots.delete(one.disk.guid, snapshot.guid))

    def _roll_back(self, one: _Attached, chance: random.Random) -> None:
        """Of a vDisk that no writer has ever had: what they wrote is not undone in the books."""
        if one.disk.records:
            return
        snapshot = chance.choice(_alive(one))
        if one.grant is not None:
            self._revoke(one.grant)
            one.grant = None
        span = self._begin("roll back")
        one.disk.bases.append((snapshot.content, span))
        assert snapshot.content is not None
        one.disk.sizes.append((len(snapshot.content), span))
        self._clock.during(span, lambda: self._client.vdisks.rollback(one.disk.guid, snapshot.guid, keep_newer=True))

    def _delete(self, one: _Attached) -> _Attached:
        self._stop_writers(one)
        span = self._begin("delete")
        one.disk.deleted = span
        for grant in one.disk.grants:
            grant.revoked = grant.revoked or span
        self._clock.during(span, lambda: self._client.vdisks.delete(one.disk.guid, force=True))
        return one

    def _grant(self, disk: Disk, consumer: str, snapshot: Snapshot | None = None) -> GrantOf:
        span = self._begin("grant")
        mode, of = ("rw", None) if snapshot is None else ("ro", snapshot.guid)
        made = self._clock.during(
            span, lambda: self._client.grants.create(disk.guid, "this-host", consumer, mode, snapshot_guid=of)
        )
        grant = GrantOf(made.guid, made.uri, span)
        disk.grants.append(grant)
        return grant

    def _revoke(self, grant: GrantOf) -> None:
        grant.revoked = self._begin("revoke")
        self._clock.during(grant.revoked, lambda: self._client.grants.revoke(grant.guid))

    def _write(self, one: _Attached, first: int, end: int) -> None:
        """Have a client write to a part of it from now on."""
        number = self._number()
        if one.grant is None:
            one.grant = self._grant(one.disk, f"writer-{number}")
        record = self._work / f"writer-{number}"
        numbers = (number, self._seed + number, first, end, _FLUSH_EVERY[one.disk.promise], 60)
        words = [_PYTHON, _SCRIPT, one.grant.uri, self._log, record, *(str(value) for value in numbers)]
        one.disk.records.append(record)
        one.writers.append(subprocess.Popen(words, stdin=subprocess.PIPE))
        self._count("writer")

    def _stop_writers(self, one: _Attached) -> None:
        for writer in one.writers:
            assert writer.stdin is not None
            writer.stdin.close()
        for writer in one.writers:
            if writer.wait(timeout=_PATIENCE_SECONDS):
                raise RuntimeError(f"a writer of {one.disk.name} failed")
        one.writers.clear()

    def _begin(self, what: str) -> Span:
        self._count(what)
        return Span(self._clock.now())

    def _count(self, what: str) -> None:
        with self._lock:
            self.done[what] = self.done.get(what, 0) + 1

    def _number(self) -> int:
        with self._lock:
            return next(self._numbers)


def read_all(uri: str, work: Path) -> tuple[array[int], list[str]]:
    """Read all of an export by libnbd.

    :param work: for a temporary file.
    :returns: as :func:`history.decode`.
    :raises CalledProcessError: it can not be read.
    """
    with tempfile.NamedTemporaryFile(dir=work) as file:
        subprocess.run(["nbdcopy", "--", uri, file.name], check=True, capture_output=True, timeout=_PATIENCE_SECONDS)
        return decode(Path(file.name).read_bytes())


def _alive(one: _Attached) -> list[Snapshot]:
    return [snapshot for snapshot in one.disk.snapshots if snapshot.deleted is None]
