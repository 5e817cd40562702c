"""A synchronous NBD client: the bytes of one export, without a device node, a kernel module or a C library.

    with NbdClient.connect("127.0.0.1", 10809, "disk") as nbd:
        nbd.write(0, b"hello")
        nbd.flush()

One request after the other is the simple use. For throughput requests can be in flight together: ``submit_write`` and
``submit_read`` return at once (or when the window has room again), ``wait`` and ``drain`` collect the answers. A server
may do requests in flight in any order: who submits two that overlap waits for the first before the second.

A client belongs to one thread (native or green) at a time; it takes no locks. Every blocking call ends: ``timeout``
seconds without a byte of progress raise ``TransportError``, after which the client is of no more use.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import socket
import ssl
import struct
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from openvstorage.edge.errors import ProtocolViolated, RequestFailed, RequestInvalid, TransportError
from openvstorage.edge.nbd_handshake import ExportInfo, negotiate, receive_exactly, receive_into

__all__ = ["NbdClient", "Request"]

Buffer = bytes | bytearray | memoryview

_REQUEST = struct.Struct(">IHHQQI")
_REPLY = struct.Struct(">IIQ")
_MAGIC_REQUEST = 0x25609513
_MAGIC_SIMPLE_REPLY = 0x67446698

_READ, _WRITE, _DISC, _FLUSH, _TRIM, _ZEROES = 0, 1, 2, 3, 4, 6
_NAMES = {_READ: "read", _WRITE: "write", _FLUSH: "flush", _TRIM: "trim", _ZEROES: "zero"}
_FLAG_FUA = 1 << 0
_FLAG_NO_HOLE = 1 << 1

# Error numbers on the wire are the document's own; those not named there mean EINVAL.
_WIRE_ERRORS = {
    1: errno.EPERM,
    5: errno.EIO,
    12: errno.ENOMEM,
    22: errno.EINVAL,
    28: errno.ENOSPC,
    75: errno.EOVERFLOW,
    95: errno.EOPNOTSUPP,
    108: errno.ESHUTDOWN,
}
# Trim and zero carry no payload, so their length is bound by the 32-bit field only; keep it a multiple of any block.
_MAX_RANGE = 1 << 30
# Below this a header and its payload go out in one segment: copying is cheaper than a second system call.
_COPY_LIMIT = 64 * 1024


@dataclass(slots=True, eq=False)
class Request:
    """A request in flight, made by a ``submit_`` method and given to ``NbdClient.wait``.

    :ivar done: the answer has arrived.
    """

    command: int
    offset: int
    length: int
    buffer: memoryview | None = field(default=None, repr=False)
    done: bool = False
    error: RequestFailed | None = None


class NbdClient:
    """One connection to one export.

    :ivar info: size, abilities and block sizes of the export, as told at the handshake.
    """

    def __init__(self, sock: socket.socket, info: ExportInfo, server: str, window: int = 16) -> None:
        """Take over a negotiated socket; callers use ``connect``.

        :param window: how many requests may be in flight, 1 or more.
        """
        self.info = info
        self._socket: socket.socket | None = sock
        self._server = server
        self._window = window
        self._cookies = itertools.count(1)
        self._pending: dict[int, Request] = {}
        self._failed: list[Request] = []

    @classmethod
    def connect(
        cls,
        host: str,
        port: int,
        export: str,
        *,
        tls: ssl.SSLContext | None = None,
        tls_hostname: str | None = None,
        timeout: float = 30.0,
        window: int = 16,
    ) -> Self:
        """Connect to an export. Blocking.

        :param host: address or name; ``tls_hostname`` is the name in its certificate, ``host`` when not given.
        :param timeout: seconds without progress after which a call gives up, now and in later calls.
        :raises TransportError: nothing listens there, it does not answer or is no NBD server (see its subclasses).
        :raises ExportRefused: the server does not give this export.
        """
        server = f"{host}:{port}"
        try:
            sock = socket.create_connection((host, port), timeout=timeout)
        except OSError as error:
            raise TransportError(server=server, reason=str(error)) from error
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            negotiated, info = negotiate(sock, server, export, tls, tls_hostname or host)
        except BaseException:
            sock.close()
            raise
        return cls(negotiated, info, server, window)

    def __enter__(self) -> Self:
        """Give the client itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect; what was not flushed is as durable as the server likes."""
        self.close()

    @property
    def size(self) -> int:
        """Size of the export in bytes, as it was when the client connected."""
        return self.info.size

    @property
    def closed(self) -> bool:
        """Whether the connection is gone, closed by ``close`` or by an error."""
        return self._socket is None

    def read(self, offset: int, length: int) -> bytes:
        """Read ``length`` bytes; longer ones than the server takes at once are cut into several requests.

        :raises RequestInvalid: not within the export, or not aligned to its minimum block.
        :raises RequestFailed: the server answered with an error.
        :raises TransportError: the connection broke or timed out.
        """
        data = bytearray(length)
        self.read_into(offset, data)
        return bytes(data)

    def read_into(self, offset: int, buffer: bytearray | memoryview) -> None:
        """Fill ``buffer`` with the bytes at ``offset``; raises as ``read`` does."""
        self._wait_all([self.submit_read(offset + at, part) for at, part in self._parts(buffer)])

    def write(self, offset: int, data: Buffer, *, fua: bool = False) -> None:
        """Write ``data``; when it returns the server has taken it, and with ``fua`` it is on stable storage.

        :raises RequestInvalid: not within the export, not aligned, read-only, or FUA is not offered.
        :raises RequestFailed: the server answered with an error, for example ENOSPC.
        :raises TransportError: the connection broke or timed out; the bytes may or may not be written.
        """
        self._wait_all([self.submit_write(offset + at, part, fua=fua) for at, part in self._parts(data)])

    def flush(self) -> None:
        """Return when everything that was written over this connection before is on stable storage.

        Requests still in flight are waited for first; an error of one of them is raised here. Raises as ``write``.
        """
        self.drain()
        if self.info.can_flush:
            self.wait(self._submit(_FLUSH, 0, 0))

    def trim(self, offset: int, length: int) -> None:
        """Tell the server that a range is not needed any more; what it reads as afterwards is undefined.

        Does nothing where the export cannot trim, for it is advice. Raises as ``write``.
        """
        if self.info.can_trim:
            self._ranges(_TRIM, offset, length, 0)

    def zero(self, offset: int, length: int, *, may_trim: bool = True) -> None:
        """Make a range read as zeroes.

        :param may_trim: whether the server may give the space back.
        Where the export has no such request zeroes are written. Raises as ``write``.
        """
        if self.info.can_zero:
            self._ranges(_ZEROES, offset, length, 0 if may_trim else _FLAG_NO_HOLE)
            return
        block = bytes(min(length, 1 << 20))
        for at in range(offset, offset + length, len(block) or 1):
            self.write(at, memoryview(block)[: offset + length - at])

    def submit_read(self, offset: int, buffer: memoryview) -> Request:
        """Ask for one block (at most ``info.maximum_block`` bytes) to be read into ``buffer``, without waiting for it.

        ``buffer`` belongs to the client until ``wait`` or ``drain``. Raises RequestInvalid and TransportError.
        """
        return self._submit(_READ, offset, len(buffer), buffer=buffer)

    def submit_write(self, offset: int, data: Buffer, *, fua: bool = False) -> Request:
        """Send one block (at most ``info.maximum_block`` bytes) without waiting for the answer.

        An error in the answer is raised by ``wait`` for this request, else by the next ``drain`` or ``flush``.
        Raises RequestInvalid and TransportError.
        """
        # The server may be blocked in sending us read data; a payload sent now could wait for it for ever.
        while any(request.buffer is not None for request in self._pending.values()):
            self._receive()
        return self._submit(_WRITE, offset, len(data), payload=data, flags=_FLAG_FUA if fua else 0)

    def submit_zero(self, offset: int, length: int) -> Request:
        """Ask for a range (at most ``info.maximum_block`` bytes) to be made zero without waiting for the answer.

        The server may give its space back. Errors come as those of ``submit_write``, and where the export has no such
        request zeroes are written.
        """
        if not self.info.can_zero:
            return self.submit_write(offset, bytes(length))
        return self._submit(_ZEROES, offset, length)

    def wait(self, request: Request) -> None:
        """Block until ``request`` is answered. Raises RequestFailed with its error, or TransportError."""
        while not request.done:
            self._receive()
        if request.error is not None:
            if request in self._failed:
                self._failed.remove(request)
            raise request.error

    def drain(self) -> None:
        """Block until no request is in flight; raises the first error that nobody has seen yet."""
        while self._pending:
            self._receive()
        if self._failed:
            first, self._failed = self._failed[0], []
            assert first.error is not None
            raise first.error

    def close(self) -> None:
        """Say goodbye and close the connection; harmless when it is gone. Does not wait for requests in flight."""
        if self._socket is None:
            return
        with contextlib.suppress(OSError):
            self._socket.sendall(_REQUEST.pack(_MAGIC_REQUEST, 0, _DISC, 0, 0, 0))
        self._drop()

    def _wait_all(self, requests: list[Request]) -> None:
        """Wait for every one before an error is raised: the buffers are the caller's again afterwards."""
        while not all(request.done for request in requests):
            self._receive()
        failed = [request for request in requests if request.error is not None]
        self._failed = [request for request in self._failed if request not in failed]
        if failed:
            self.wait(failed[0])

    def _parts(self, data: Buffer) -> list[tuple[int, memoryview]]:
        view, step = memoryview(data).cast("B"), self.info.maximum_block
        return [(at, view[at : at + step]) for at in range(0, len(view), step)]

    def _ranges(self, command: int, offset: int, length: int, flags: int) -> None:
        end = offset + length
        for at in range(offset, end, _MAX_RANGE):
            self.wait(self._submit(command, at, min(_MAX_RANGE, end - at), flags=flags))

    def _check(self, command: int, offset: int, length: int, flags: int) -> None:
        info = self.info
        reason = ""
        if offset < 0 or offset + length > info.size:
            reason = f"the export has {info.size} bytes"
        elif (offset | length) % info.minimum_block:
            reason = f"it is not aligned to blocks of {info.minimum_block} bytes"
        elif info.read_only and command in (_WRITE, _TRIM, _ZEROES):
            reason = "the export is read-only"
        elif flags & _FLAG_FUA and not info.can_fua:
            reason = "the server does not offer FUA"
        elif command in (_READ, _WRITE) and length > info.maximum_block:
            reason = f"the server takes {info.maximum_block} bytes at once"
        if reason:
            raise RequestInvalid(command=_NAMES[command], offset=offset, length=length, reason=reason)

    def _submit(
        self,
        command: int,
        offset: int,
        length: int,
        *,
        payload: Buffer | None = None,
        buffer: memoryview | None = None,
        flags: int = 0,
    ) -> Request:
        self._check(command, offset, length, flags)
        while len(self._pending) >= self._window:
            self._receive()
        cookie = next(self._cookies)
        request = Request(command, offset, length, buffer)
        header = _REQUEST.pack(_MAGIC_REQUEST, flags, command, cookie, offset, length)
        sock = self._connected()
        try:
            if payload is not None and length > _COPY_LIMIT:
                sock.sendall(header)
                sock.sendall(payload)
            else:
                sock.sendall(header + bytes(payload) if payload is not None else header)
        except OSError as error:
            raise self._broken(error) from error
        self._pending[cookie] = request
        return request

    def _receive(self) -> None:
        """Take one answer from the wire and mark its request."""
        sock = self._connected()
        try:
            magic, code, cookie = _REPLY.unpack(receive_exactly(sock, _REPLY.size))
            request = self._pending.pop(cookie, None)
            if magic != _MAGIC_SIMPLE_REPLY or request is None:
                self._drop()
                raise ProtocolViolated(server=self._server, reason="an answer belongs to no request")
            if not code and request.buffer is not None:
                receive_into(sock, request.buffer)
        except (EOFError, OSError) as error:
            raise self._broken(error) from error
        request.done = True
        if code:
            number = _WIRE_ERRORS.get(code, errno.EINVAL)
            name = _NAMES[request.command]
            request.error = RequestFailed(command=name, offset=request.offset, length=request.length, errno=number)
            self._failed.append(request)

    def _connected(self) -> socket.socket:
        if self._socket is None:
            raise TransportError(server=self._server, reason="the connection is closed")
        return self._socket

    def _broken(self, error: OSError | EOFError) -> TransportError:
        self._drop()
        reason = "no progress before the timeout"
        if not isinstance(error, TimeoutError):
            reason = (
                f"the connection broke ({error}): access to the volume ended, here or with TLS on another host of it, "
                "or its storage process was replaced; repeat the whole operation"
            )
        return TransportError(server=self._server, reason=reason)

    def _drop(self) -> None:
        sock, self._socket = self._socket, None
        if sock is not None:
            sock.close()
