"""A guest: one thread that writes to one vDisk over its connections, and knows what must be readable."""

from __future__ import annotations

import errno
import queue
import random
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any

from tests.torture.connection import Connection, Ended, Hung, Location, NotLetIn, wait_for_any
from tests.torture.content import BLOCK, fill, recognise
from tests.torture.judge import read_blocks, tell
from tests.torture.model import DiskModel, Op, Window
from tests.torture.report import Report
from tests.torture.traffic import Batch, Request, Traffic

__all__ = ["Locate", "Writer"]

#: Says where the vDisk is served; with True as its argument it asks the service anew.
Locate = Callable[[bool], Location]

#: Seconds until a connection must be there again, whatever was killed.
CONNECT_SECONDS = 300.0
_GREETING_SECONDS = 30.0
#: Seconds for which a request that was cut off may still be carried out by a daemon that lives.
_LINGER_SECONDS = 5.0


class Writer(threading.Thread):
    """Sends requests while it has a place to send them to. What others may ask of it they ask by its methods, each of
    which gives a future.

    :param vdisk: the vDisk's name, for reports.
    :param rate: requests per second, at most, but for bursts.
    """

    def __init__(self, vdisk: str, model: DiskModel, chance: random.Random, report: Report, rate: float) -> None:
        super().__init__(name=f"writer-{vdisk}", daemon=True)
        self.model = model
        self._vdisk = vdisk
        self._chance = chance
        self._report = report
        self._traffic = Traffic(chance)
        self._asked: queue.Queue[tuple[Callable[[], Any], Future[Any]]] = queue.Queue()
        self._locate: Locate | None = None
        self._connections: list[Connection] = []
        self._number = 1
        self._depth = 1
        self._left = 0
        self._rate = rate
        self._due = 0.0
        self._sequence: Iterator[Batch] | None = None
        self._batch: Batch = []
        self._lost: list[tuple[Op, float]] = []
        self._killing = threading.Lock()
        self._kills = 0
        self._kills_done = 0
        self._killed_at = 0.0
        self._away = 0.0
        self._quiet = False
        self._ending = False

    # asked by other threads

    def enter(self, locate: Locate) -> Future[None]:
        """Write there from now on."""
        return self._ask(partial(self._enter, locate))

    def leave(self) -> Future[None]:
        """Wait for all answers, flush, disconnect."""
        return self._ask(self._leave)

    def abandon(self) -> Future[None]:
        """Go on, but do not come back once the connections end."""
        return self._ask(self._abandon)

    def cut(self) -> Future[int]:
        """After a revocation: whatever is connected must have ended. :returns: how many were still served."""
        return self._ask(self._cut)

    def verify(self) -> Future[int]:
        """Flush, read every block and compare. :returns: how many."""
        return self._ask(self._verify)

    def quiet(self, quiet: bool) -> Future[None]:
        """Send nothing by itself, or do so again."""
        return self._ask(partial(self._set_quiet, quiet))

    def end(self) -> None:
        """End the thread, once it has done what it was asked before."""
        self._ask(self._end)

    def is_being_killed(self) -> None:
        """The vDisk's daemon is about to be killed by the caller, who says afterwards how it went."""
        with self._killing:
            self._kills += 1
            self.model.suspect(True)

    def was_killed(self, killed: bool) -> None:
        """It is dead, or was not killed after all."""
        with self._killing:
            if killed:
                self._kills_done = self._kills
                self._killed_at = time.monotonic()
            else:
                self._kills -= 1
                if not self._kills:
                    self.model.suspect(False)

    # the thread

    def run(self) -> None:
        """See the class."""
        while not self._ending:
            try:
                self._step()
            except Hung as hung:
                self._report.violated("hang", f"{self._vdisk}: {hung}", vdisk=self._vdisk)
                self._disconnect()
            except Exception:  # noqa: BLE001 - a fault of the checker must not pass for a success
                self._report.violated("checker", f"{self._vdisk}: {traceback.format_exc()}", vdisk=self._vdisk)
                self._disconnect()
                time.sleep(1)
        self._disconnect()

    def _step(self) -> None:
        try:
            work, future = self._asked.get(block=self._locate is None and not self._connections, timeout=0.1)
        except queue.Empty:
            work = None
        if work is not None:
            try:
                future.set_result(work())
            except Exception as error:  # noqa: BLE001 - told to whoever asked
                self._disconnect()
                future.set_exception(error)
            return
        self._see_kills()
        self._forget_lost()
        if self._locate is not None:
            self._connect()
        if self._connections:
            if not self._quiet:
                self._send_more()
            self._turn()

    def _turn(self) -> None:
        """Wait shortly for answers."""
        if self._quiet and not self._flying():
            seconds = 0.2
        else:
            ahead = self._due - time.monotonic()
            seconds = min(0.05, ahead) if ahead > 0 else 0.05 if self._flying() else 0.0
        wait_for_any(self._connections, seconds)
        for connection in self._connections:
            try:
                connection.turn(0)
            except Hung as hung:
                self._report.violated("hang", f"{self._vdisk}: {hung}", vdisk=self._vdisk)
                connection.close()
        if any(connection.ended for connection in self._connections):
            self._disconnect()

    def _flying(self) -> int:
        return sum(connection.in_flight for connection in self._connections)

    # connections

    def _enter(self, locate: Locate) -> None:
        self._locate = locate
        self._away = time.monotonic()
        self._number = self._chance.choice([1, 1, 2])

    def _abandon(self) -> None:
        self._locate = None

    def _leave(self) -> None:
        self._settle()
        self._locate = None
        self._disconnect()

    def _cut(self) -> int:
        self._locate = None
        alive = 0
        for connection in self._connections:
            answers: list[int | None] = []
            try:
                connection.finish()
                connection.flush(answers.append)
                connection.finish()
            except Ended:
                continue
            alive += answers != [None]
        self._disconnect()
        # the revocation is over, so nothing of this is carried out any more
        self.model.forget(op for op, _ in self._lost)
        self._lost.clear()
        return alive

    def _set_quiet(self, quiet: bool) -> None:
        self._quiet = quiet
        if quiet:
            self._settle()

    def _end(self) -> None:
        self._ending = True

    def _ask(self, work: Callable[[], Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self._asked.put((work, future))
        return future

    def _connect(self) -> None:
        """Have as many connections as are wanted, unless that takes longer than a moment."""
        if self._connections or self._kills:
            return
        assert self._locate is not None
        try:
            location = self._locate(self._away > 0 and time.monotonic() - self._away > 0.5)
            for _ in range(self._number):
                self._connections.append(Connection(location, _GREETING_SECONDS))
                self._report.count("connections", "made")
                if not self._connections[0].flushes_for_all:
                    break
        except (NotLetIn, Hung, OSError) as error:
            self._disconnect()
            if time.monotonic() - self._away > CONNECT_SECONDS:
                self._away = time.monotonic()
                self._report.violated(
                    "hang", f"{self._vdisk}: no connection for {CONNECT_SECONDS:.0f} s: {error}", vdisk=self._vdisk
                )
            time.sleep(0.05)

    def _disconnect(self) -> None:
        """Everything that is not answered is lost; a sequence is given up."""
        for connection in self._connections:
            connection.close()
        if self._connections:
            self._away = time.monotonic()
        self._connections = []
        self._sequence, self._batch = None, []

    def _see_kills(self) -> None:
        """Once all connections to a killed daemon have ended: what is not kept may be gone."""
        with self._killing:
            if not self._kills_done:
                return
            if self._connections and time.monotonic() - self._killed_at < 10:
                return
            if self._connections:  # it was another daemon than ours
                self.model.suspect(False)
            else:
                self.model.killed()
                self._lost.clear()
            self._kills -= self._kills_done
            self._kills_done = 0

    def _forget_lost(self) -> None:
        now = time.monotonic()
        if self._lost and now - self._lost[0][1] > _LINGER_SECONDS:
            self.model.forget(op for op, since in self._lost if now - since > _LINGER_SECONDS)
            self._lost = [(op, since) for op, since in self._lost if now - since <= _LINGER_SECONDS]

    def _settle(self) -> None:
        """Everything answered and flushed, over as many connections as it takes, and nothing lost of which it is not
        known whether it is carried out. :raises Hung: that takes too long."""
        deadline = time.monotonic() + 2 * CONNECT_SECONDS
        while True:
            if time.monotonic() > deadline:
                raise Hung(f"nothing could be flushed for {2 * CONNECT_SECONDS:.0f} s")
            self._see_kills()
            self._forget_lost()
            if self._locate is not None:
                self._connect()
            elif not self._connections:
                return
            if not self._connections:
                continue
            while self._flying():
                self._turn()
            if self._connections and self._flush_all() and not self._kills and not self._lost:
                self._sequence, self._batch = None, []
                return
            time.sleep(0.01)

    def _flush_all(self) -> bool:
        for connection in list(self._connections):
            try:
                self._send(Request("flush"), connection)
            except Ended:
                self._disconnect()
                return False
        while self._flying():
            self._turn()
        return bool(self._connections)

    # requests

    def _send_more(self) -> None:
        now = time.monotonic()
        if now < self._due and self._sequence is None:
            return
        while self._flying() < self._depth or self._sequence is not None:
            self._due = max(self._due, now) + 1 / self._rate
            if not self._left:
                self._depth, self._left = self._traffic.depth(), self._chance.randint(50, 400)
            if self._sequence is None and self._traffic.starts_sequence():
                self._sequence, self._batch = self._traffic.sequence(self._blocks()), []
            if self._sequence is not None and not self._next_of_sequence():
                return
            request = self._batch.pop(0) if self._sequence is not None else self._traffic.single(self._blocks())
            self._left -= 1 if self._left else 0
            try:
                self._send(request, self._chance.choice(self._connections))
            except Ended:
                self._disconnect()
                return

    def _next_of_sequence(self) -> bool:
        """:returns: whether there is something to send now."""
        if self._batch:
            return True
        if self._flying():
            return False
        assert self._sequence is not None
        batch = next(self._sequence, None)
        if not batch:
            self._sequence = None
            return False
        self._batch = batch
        return True

    def _blocks(self) -> int:
        return min([self.model.blocks, *(connection.blocks for connection in self._connections)])

    def _send(self, request: Request, connection: Connection) -> None:
        """:raises Ended: it was not sent."""
        first, count = request.first, request.count
        if request.kind == "flush":
            covered = self.model.begin_flush()
            try:
                connection.flush(partial(self._flushed, covered))
            except Ended:
                self.model.end_flush(covered, done=False)
                raise
            return
        if request.kind == "read":
            window = self.model.open_window(first, count)
            try:
                connection.read(first, count, partial(self._read, window))
            except Ended:
                self.model.close_window(window)
                raise
            return
        op = self.model.send(request.label, first, count)
        answer = partial(self._changed, request, op)
        try:
            if request.kind == "write":
                connection.write(first, fill(op.values[0], first, count), answer, fua=request.fua)
            elif request.kind == "zero":
                flags = {"fua": request.fua, "no_hole": request.no_hole, "fast": request.fast}
                connection.zero(first, count, answer, **flags)
            else:
                connection.trim(first, count, answer)
        except Ended:
            self.model.failed(op)
            raise

    def _changed(self, request: Request, op: Op, code: int | None) -> None:
        if code == 0:
            self.model.answered(op, durable=request.fua)
            self._report.count("requests", request.label)
        elif code is None:
            self.model.lost(op)
            self._lost.append((op, time.monotonic()))
            self._report.count("requests", "not answered")
        else:
            self.model.failed(op)
            if request.fast and code in (errno.ENOTSUP, errno.EOPNOTSUPP):
                self._report.count("requests", "zero fast, refused")
            else:
                self._failed(f"{request.label} of blocks {op.first}+{op.count}", code)

    def _flushed(self, covered: list[Op], code: int | None) -> None:
        self.model.end_flush(covered, done=code == 0)
        self._report.count("requests", "flush" if code == 0 else "not answered")
        if code:
            self._failed("flush", code)

    def _read(self, window: Window, code: int | None, data: bytearray) -> None:
        image = self.model.close_window(window)
        if code is None:
            self._report.count("requests", "not answered")
        elif code:
            self._failed(f"read of blocks {window.first}+{window.count}", code)
        else:
            self._report.count("requests", "read")
            self._report.count("blocks compared", "read beside writes", window.count)
            wrong = image.compare(recognise(data, window.first), window.first)
            # QEMU empties a cluster before it writes to it, under the eyes of whoever reads just then.
            emptied = [one for one in wrong if one.found == 0 and window.is_under_a_write(one.block)]
            self._report.count("blocks compared", "zeroes under a write in flight", len(emptied))
            wrong = [one for one in wrong if one not in emptied]
            if wrong:
                kept = {w.block: bytes(data[(w.block - window.first) * BLOCK :][:BLOCK]) for w in wrong}
                where = f"{self._vdisk}, read of {window.first}+{window.count} sent at {window.opened}"
                tell(self._report, where, wrong, self.model.history_of, kept)

    def _failed(self, what: str, code: int) -> None:
        text = f"{self._vdisk}: {what} failed: {errno.errorcode.get(code, code)}"
        self._report.violated("request failed", text, vdisk=self._vdisk)

    def _verify(self) -> int:
        """See :meth:`verify`."""
        deadline = time.monotonic() + 3 * CONNECT_SECONDS
        while time.monotonic() < deadline:
            self._settle()
            if not self._connections:
                raise Hung("nothing serves the vDisk")
            blocks, served = self.model.blocks, self._connections[0].blocks
            if served != blocks:
                self._disconnect()
                self._settle()
                served = self._connections[0].blocks if self._connections else blocks
                if served != blocks:
                    text = f"{self._vdisk}: the export has {served} blocks, the vDisk was given {blocks}"
                    self._report.violated("size", text, vdisk=self._vdisk)
                    return 0
            window, kept = self.model.open_window(), dict[int, bytes]()
            try:
                values = read_blocks(self._connections[0], 0, blocks, kept)
            except Ended:
                self.model.close_window(window)
                self._disconnect()
                continue
            wrong = self.model.close_window(window).compare(values, 0)
            tell(self._report, self._vdisk, wrong, self.model.history_of, kept)
            self.model.found(values, 0)
            self._report.count("blocks compared", "vDisks, whole", blocks)
            return blocks
        raise Hung("the vDisk could not be read whole")
