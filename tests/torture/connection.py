"""A connection to an export by libnbd, which is not ours, with many requests in flight.

One thread uses a connection. A connection that has ended stays so; whoever wants to go on makes another.
"""

from __future__ import annotations

import contextlib
import errno
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.torture.content import BLOCK
from tests.torture.libnbd import nbd

__all__ = ["Connection", "Ended", "Hung", "Location", "NotLetIn", "wait_for_any"]

#: How long a request, or a handshake, may take while the service does its work.
PATIENCE_SECONDS = 240.0
_GONE = {errno.ENOTCONN, errno.ESHUTDOWN, errno.EPIPE, errno.ECONNRESET}

#: Called with the errno of the answer, 0 for success; None when the connection ended before it.
Answer = Callable[[int | None], None]


class NotLetIn(Exception):
    """The handshake was refused, or cut off. Asking again may help."""


class Ended(Exception):
    """The connection has ended."""


class Hung(Exception):
    """Something was waited for too long; the text says what."""


@dataclass(frozen=True)
class Location:
    """Where an export is. :ivar tls: directory of the host's certificate, None for plain NBD."""

    host: str
    port: int
    export: str
    tls: Path | None = None


class Connection:
    """See above. :param patience: seconds that the handshake may take.

    :raises NotLetIn: the server refuses. :raises Hung: it does not answer.
    """

    def __init__(self, location: Location, patience: float = PATIENCE_SECONDS) -> None:
        self.location = location
        self._flying: dict[int, tuple[Answer, float, str, Any]] = {}
        handle = nbd.NBD()
        handle.set_export_name(location.export)
        handle.set_tls(nbd.TLS_REQUIRE if location.tls else nbd.TLS_DISABLE)
        if location.tls:
            handle.set_tls_certificates(str(location.tls))
        self._handle = handle
        deadline = time.monotonic() + patience
        try:
            handle.aio_connect_tcp(location.host, str(location.port))
            while handle.aio_is_connecting():
                if time.monotonic() > deadline:
                    raise Hung(f"{location} did not greet within {patience:.0f} s")
                self._wait(0.2)
        except nbd.Error as error:
            raise NotLetIn(str(error)) from None
        if not handle.aio_is_ready():
            raise NotLetIn(f"{location}: cut off in the handshake")
        #: Size of the export.
        self.blocks = int(handle.get_size()) // BLOCK
        #: Whether a flush here covers what was answered on other connections.
        self.flushes_for_all = bool(handle.can_multi_conn())
        self._fast = bool(handle.can_fast_zero())

    @property
    def ended(self) -> bool:
        """Whether it has; every request has got its answer by then."""
        return bool(self._handle.aio_is_dead() or self._handle.aio_is_closed())

    @property
    def events(self) -> int:
        """What libnbd waits for, as :func:`select.poll` takes it."""
        direction = self._handle.aio_get_direction()
        return (select.POLLIN if direction & nbd.AIO_DIRECTION_READ else 0) | (
            select.POLLOUT if direction & nbd.AIO_DIRECTION_WRITE else 0
        )

    def fileno(self) -> int:
        """Of its socket; only while it has not ended."""
        return int(self._handle.aio_get_fd())

    @property
    def in_flight(self) -> int:
        """How many requests are not answered."""
        return len(self._flying)

    def write(self, first: int, data: bytearray, answer: Answer, *, fua: bool = False) -> None:
        """Send a write of whole blocks. :raises Ended: it could not be sent."""
        buffer = nbd.Buffer.from_bytearray(data)
        flags = nbd.CMD_FLAG_FUA if fua else 0
        self._send(
            f"write {first}+{len(data) // BLOCK}", answer, buffer, "aio_pwrite", buffer, first * BLOCK, flags=flags
        )

    def zero(
        self, first: int, count: int, answer: Answer, *, fua: bool = False, no_hole: bool = False, fast: bool = False
    ) -> None:
        """Send a write of zeroes. :param no_hole: keep the space. :param fast: fail if it takes long.

        :raises Ended: it could not be sent.
        """
        flags = (fua and nbd.CMD_FLAG_FUA) | (no_hole and nbd.CMD_FLAG_NO_HOLE)
        if fast and self._fast:
            flags |= nbd.CMD_FLAG_FAST_ZERO
        self._send(f"zero {first}+{count}", answer, None, "aio_zero", count * BLOCK, first * BLOCK, flags=flags)

    def trim(self, first: int, count: int, answer: Answer) -> None:
        """Send a trim. :raises Ended: it could not be sent."""
        self._send(f"trim {first}+{count}", answer, None, "aio_trim", count * BLOCK, first * BLOCK)

    def flush(self, answer: Answer) -> None:
        """Send a flush. :raises Ended: it could not be sent."""
        self._send("flush", answer, None, "aio_flush")

    def read(self, first: int, count: int, answer: Callable[[int | None, bytearray], None]) -> None:
        """Send a read; its answer comes with the bytes. :raises Ended: it could not be sent."""
        buffer = nbd.Buffer(count * BLOCK)

        def answered(code: int | None) -> None:
            answer(code, bytearray() if code != 0 else buffer.to_bytearray())

        self._send(f"read {first}+{count}", answered, buffer, "aio_pread", buffer, first * BLOCK)

    def refuses_writes(self) -> bool | None:
        """Try to write the first block as a client that does not care what it may. None: the connection ended."""
        strict = self._handle.get_strict_mode()
        self._handle.set_strict_mode(strict & ~nbd.STRICT_COMMANDS)
        codes: list[int | None] = []
        self.write(0, bytearray(BLOCK), codes.append)
        self.finish()
        return None if codes[0] is None else codes[0] != 0

    def turn(self, seconds: float) -> None:
        """Wait for something to happen, and hand out answers.

        :raises Hung: a request has not been answered for too long.
        """
        with contextlib.suppress(nbd.Error):  # what ended the connection; the answers say so
            self._wait(seconds)
        self._hand_out()
        now = time.monotonic()
        for _, since, what, _ in self._flying.values():
            if now - since > PATIENCE_SECONDS:
                raise Hung(f"{what} was not answered within {PATIENCE_SECONDS:.0f} s at {self.location}")

    def finish(self) -> None:
        """Wait until everything has its answer. :raises Hung: it does not come."""
        while self._flying:
            self.turn(0.2)

    def close(self) -> None:
        """Leave; what is in flight counts as not answered."""
        if self.ended:
            self._hand_out()
            return
        flying, self._flying = self._flying, {}
        try:
            self._handle.aio_disconnect()
            self._wait(0)
        except nbd.Error:
            pass
        for answer, *_ in flying.values():
            answer(None)

    def _send(self, what: str, answer: Answer, buffer: Any, verb: str, *arguments: Any, **options: Any) -> None:
        try:
            cookie = getattr(self._handle, verb)(*arguments, **options)
        except nbd.Error as error:
            if self.ended:
                raise Ended(str(error)) from None
            raise
        # the buffer is kept here: it has to live until the answer
        self._flying[cookie] = (answer, time.monotonic(), what, buffer)

    def _wait(self, seconds: float) -> None:
        handle = self._handle
        if self.ended:
            return
        events = self.events
        poller = select.poll()
        poller.register(handle.aio_get_fd(), events)
        for _, happened in poller.poll(seconds * 1000):
            if happened & (select.POLLIN | select.POLLHUP | select.POLLERR) and events & select.POLLIN:
                handle.aio_notify_read()
            elif happened and events & select.POLLOUT:
                handle.aio_notify_write()

    def _hand_out(self) -> None:
        ended = self.ended
        while self._flying:
            cookie = self._handle.aio_peek_command_completed()
            if cookie <= 0:
                break
            code: int | None = 0
            try:
                self._handle.aio_command_completed(cookie)
            except nbd.Error as error:
                code = error.errnum or errno.EIO
                if ended or code in _GONE:
                    code = None
            answer, *_ = self._flying.pop(cookie)
            answer(code)
        if ended and self._flying:
            flying, self._flying = self._flying, {}
            for answer, *_ in flying.values():
                answer(None)


def wait_for_any(connections: Sequence[Connection], seconds: float) -> None:
    """Wait until one of them has something to do; :meth:`Connection.turn` does it."""
    poller = select.poll()
    for connection in connections:
        if connection.ended:
            return
        poller.register(connection.fileno(), connection.events)
    poller.poll(max(0.0, seconds) * 1000)
