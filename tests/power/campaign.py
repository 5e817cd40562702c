"""A recording of a pool on a device, and what is left of it when the power goes at some of its instants."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.power.check import Findings, check_pool
from tests.power.device import CanNotRun, Device, NotMountable, logged, make_file_system, overlaid
from tests.power.history import History, Promise, Span
from tests.power.scenario import Clockwork, Scenario
from tests.power.service import PowerService
from tests.power.write_log import BadLog, WriteLog, apply

__all__ = ["Campaign", "Cut"]

DEVICE_BYTES = 2 * 1024**3
#: Of the instants, so many in a hundred lie inside the first start, and inside an operation; the rest anywhere.
FIRST_START, IN_OPERATION = 6, 50


@dataclass(frozen=True)
class Cut:
    """The power went.

    :ivar instant: entries that were in the log. :ivar flushed: of these, were on the medium for certain.
    :ivar survived: pieces of the others that were on it too. :ivar seconds: that it took to look.
    """

    instant: int
    flushed: int
    survived: int
    seconds: float
    findings: Findings

    def line(self) -> str:
        """:returns: it in a line, and a line for each violation."""
        found = self.findings
        head = (
            f"instant {self.instant}, {self.seconds:.0f} s: {self.instant - self.flushed} entries not flushed, "
            f"{self.survived} pieces of them survived; "
            f"{found.disks} vDisks, {found.snapshots} snapshots, {found.sectors} sectors right; "
            f"{len(found.violations)} violations"
        )
        return "\n    ".join([head, *(violation[-2000:] for violation in found.violations)])

    def as_json(self) -> dict[str, object]:
        """:returns: all of it."""
        return dataclasses.asdict(self)


class Campaign:
    """Record once, then cut the power as often as you like.

    :param work: a directory with room for the log, some gigabytes.
    :param qemu_dir: where QEMU's programs are, None for the PATH.
    :param durabilities: those that vDisks may have.
    :param file_system: ``ext4`` or ``xfs``.
    """

    def __init__(
        self, work: Path, qemu_dir: Path | None, seed: int, durabilities: Sequence[Promise], file_system: str
    ) -> None:
        self._work, self._seed, self._kind = work, seed, file_system
        self._durabilities = durabilities
        self._qemu_dir = qemu_dir.resolve() if qemu_dir else None
        self._daemon, self._image_tool = self._tool("qemu-storage-daemon"), self._tool("qemu-img")
        self._image, self._log = work / "image", work / "log"
        self._history: History | None = None

    def _tool(self, name: str) -> Path:
        found = shutil.which(name, path=str(self._qemu_dir) if self._qemu_dir else None)
        if found is None:
            raise CanNotRun(f"{name} is not in {self._qemu_dir or 'the PATH'}: give --qemu-dir, or run make packages")
        return Path(found)

    def about(self) -> str:
        """:returns: the recording in a phrase."""
        with WriteLog(self._log) as log:
            return f"{len(log.entries)} entries with {sum(entry.flush for entry in log.entries)} flushes"

    def record(self, operations: int) -> dict[str, int]:
        """Use a pool for so many operations. :returns: how often what was done."""
        make_file_system(self._kind, self._image, DEVICE_BYTES)
        _copy(self._image, self._work / "empty")
        self._log.touch()
        clock = Clockwork(self._log)
        with Device(logged(self._image, self._log), self._work / "recording", self._kind, self._daemon) as device:
            device.mount()
            data = device.mounted / "pool"
            service = PowerService(data, self._work / "service.log", self._options())
            history = self._history = History(Span(clock.now()))
            with service:
                history.served.ended = clock.now()
                history.config = json.loads((data / "config.json").read_text())
                scenario = Scenario(service, history, self._log, self._work, self._seed, self._durabilities)
                scenario.run(operations)
                self._end = clock.now().entries
        self._compare_replayed()
        (self._work / "history").write_bytes(pickle.dumps((history, self._end)))
        return scenario.done

    def recall(self) -> None:
        """Take the recording that an earlier run left in the directory, to cut its power again."""
        self._history, self._end = pickle.loads((self._work / "history").read_bytes())

    def cuts(self, instants: int, promise: Promise | None, forget: int = 0) -> Iterator[Cut]:
        """Cut the power at so many instants, in the order of time, and look each time.

        :param promise: what is demanded of every vDisk, None for its own durability.
        :param forget: so many flushes before the cut have not happened.
        """
        chance = random.Random(f"{self._seed}/instants")
        scratch = Path(tempfile.mkdtemp(prefix="cuts-", dir=self._work))
        _copy(self._work / "empty", scratch / "replay")
        medium = os.open(scratch / "replay", os.O_RDWR | os.O_CLOEXEC)
        done = 0
        try:
            with WriteLog(self._log) as log:
                for instant in sorted(self._choose(instants, chance)):
                    flushed = log.flushed_before(instant, forget)
                    apply(log, done, flushed, medium)
                    done = max(done, flushed)
                    yield self._cut(log, instant, flushed, promise, chance, scratch)
        finally:
            os.close(medium)
            shutil.rmtree(scratch)

    def _cut(
        self, log: WriteLog, instant: int, flushed: int, promise: Promise | None, chance: random.Random, scratch: Path
    ) -> Cut:
        assert self._history is not None
        survived, started = 0, time.monotonic()
        nodes = overlaid(scratch / "replay", scratch / "overlay", self._image_tool)
        with Device(nodes, scratch / "replaying", self._kind, self._daemon) as device:
            with device.file.open("r+b", buffering=0) as medium:
                for piece in log.survivors(flushed, instant, chance):
                    os.pwrite(medium.fileno(), piece.data, piece.offset)
                    survived += 1
            findings = self._look(device, instant, promise, scratch)
        return Cut(instant, flushed, survived, time.monotonic() - started, findings)

    def _look(self, device: Device, instant: int, promise: Promise | None, scratch: Path) -> Findings:
        assert self._history is not None
        try:
            device.mount()
        except NotMountable as error:
            return Findings([f"the file system can not be mounted: {error}"])
        messages = scratch / "service.log"
        messages.write_text("")
        data = device.mounted / "pool"
        return check_pool(data, self._history, instant, promise, self._image_tool, scratch, messages)

    def _choose(self, instants: int, chance: random.Random) -> Iterator[int]:
        assert self._history is not None
        served, spans = self._history.served, self._history.spans()
        for number in range(instants):
            share = number * 100 // instants
            if share < FIRST_START:
                yield chance.randint(served.begun.entries, served.ended.entries)
            elif share < FIRST_START + IN_OPERATION:
                span = chance.choice(spans)
                yield chance.randint(span.begun.entries, min(span.ended.entries, self._end))
            else:
                yield chance.randint(served.ended.entries, self._end)

    def _options(self) -> list[str]:
        options = ["--no-edge-tls"]  # libnbd's clients are many, and encryption is nothing that is kept
        return [*options, "--qemu-dir", str(self._qemu_dir)] if self._qemu_dir else options

    def _compare_replayed(self) -> None:
        """The log, applied to what was there at first, must give the device: else nothing that follows means anything.

        :raises BadLog: it does not.
        """
        copy = self._work / "replayed"
        _copy(self._work / "empty", copy)
        with WriteLog(self._log) as log, copy.open("r+b", buffering=0) as file:
            apply(log, 0, len(log.entries), file.fileno())
        with copy.open("rb") as one, self._image.open("rb") as other:
            while piece := one.read(1 << 20):
                if piece != other.read(1 << 20):
                    raise BadLog(f"the log does not give the device again near byte {one.tell()}")
        copy.unlink()


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--sparse=always", "--", source, target], check=True)
