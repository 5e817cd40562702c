"""The opening of an NBD connection: fixed newstyle handshake, optional STARTTLS, and the choice of an export.

Follows the public NBD protocol document. Only what current servers speak is understood: ``NBD_OPT_GO`` is required
(QEMU 2.11, nbdkit 1.2 and nbd-server 3.16 have it), there is no fall-back to the options before it. Structured
replies are not negotiated, so the transmission phase has simple replies only.
"""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass

from openvstorage.edge.errors import EdgeError, ExportRefused, ProtocolViolated, TlsFailed, TransportError

__all__ = ["ExportInfo", "negotiate", "receive_exactly", "receive_into"]

_MAGIC_SERVER = b"NBDMAGIC"
_MAGIC_OPTION = b"IHAVEOPT"
_MAGIC_OPTION_REPLY = 0x0003E889045565A9

_FLAG_FIXED_NEWSTYLE = 1 << 0
_FLAG_NO_ZEROES = 1 << 1

_OPT_STARTTLS = 5
_OPT_GO = 7

_REP_ACK = 1
_REP_INFO = 3
_REP_ERROR = 1 << 31
_REP_ERR_POLICY = _REP_ERROR | 2
_REP_ERR_TLS_REQD = _REP_ERROR | 5
_REP_ERR_UNKNOWN = _REP_ERROR | 6
_REP_ERR_SHUTDOWN = _REP_ERROR | 7

_INFO_EXPORT = 0
_INFO_BLOCK_SIZE = 3

_FLAG_READ_ONLY = 1 << 1
_FLAG_SEND_FLUSH = 1 << 2
_FLAG_SEND_FUA = 1 << 3
_FLAG_SEND_TRIM = 1 << 5
_FLAG_SEND_WRITE_ZEROES = 1 << 6

# The document's limit for anything that is not a request: a longer option reply is no NBD.
_MAX_REPLY = 64 * 1024
_DEFAULT_MAX_BLOCK = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ExportInfo:
    """What the server said about the export at the handshake; it stays true for the life of the connection.

    :ivar size: bytes.
    :ivar minimum_block: offset and length of every request must be multiples of it.
    :ivar preferred_block: bytes at which requests are efficient.
    :ivar maximum_block: longest payload of one request, in bytes.
    """

    size: int
    read_only: bool
    can_flush: bool
    can_fua: bool
    can_trim: bool
    can_zero: bool
    minimum_block: int = 1
    preferred_block: int = 4096
    maximum_block: int = _DEFAULT_MAX_BLOCK


def receive_into(sock: socket.socket, view: memoryview) -> None:
    """Fill ``view`` from the socket; blocks until it is full or the socket's timeout passes.

    :raises EOFError: the peer closed the connection before.
    :raises OSError: what the socket says, a timeout among it.
    """
    while view:
        received = sock.recv_into(view)
        if not received:
            raise EOFError("connection closed by the server")
        view = view[received:]


def receive_exactly(sock: socket.socket, length: int) -> bytes:
    """Read ``length`` bytes; blocks and raises as ``receive_into``."""
    data = bytearray(length)
    receive_into(sock, memoryview(data))
    return bytes(data)


def negotiate(
    sock: socket.socket, server: str, export: str, tls: ssl.SSLContext | None, tls_hostname: str | None
) -> tuple[socket.socket, ExportInfo]:
    """Go from a fresh connection to the transmission phase of one export. Blocking.

    :param server: the server's name in error messages.
    :param tls: context to start TLS with before the export is named; None is plain NBD.
    :param tls_hostname: name that the server's certificate must carry.
    :returns: the socket to go on with (wrapped when TLS was started) and the export's facts.
    :raises ExportRefused: the server does not give this export.
    :raises TlsFailed: TLS is demanded or not possible, or a certificate does not fit.
    :raises ProtocolViolated: the peer is not a fixed newstyle NBD server with NBD_OPT_GO.
    :raises TransportError: the connection broke or made no progress for the socket's timeout.
    """
    try:
        _greet(sock, server)
        if tls is not None:
            sock = _start_tls(sock, server, tls, tls_hostname)
        return sock, _go(sock, server, export)
    except EdgeError:
        raise
    except ssl.SSLError as error:
        raise TlsFailed(server=server, reason=str(error)) from error
    except TimeoutError as error:
        raise TransportError(server=server, reason="no answer during the handshake") from error
    except (EOFError, OSError) as error:
        if isinstance(sock, ssl.SSLSocket):
            # With TLS 1.3 a client is done before the server has looked at its certificate; QEMU hangs up wordlessly.
            reason = f"it hung up after TLS had begun ({error}): no grant for this host, or not its certificate?"
            raise TlsFailed(server=server, reason=reason) from error
        raise TransportError(server=server, reason=str(error)) from error


def _greet(sock: socket.socket, server: str) -> None:
    greeting = receive_exactly(sock, 18)
    if greeting[:8] != _MAGIC_SERVER or greeting[8:16] != _MAGIC_OPTION:
        raise ProtocolViolated(server=server, reason="its greeting is not that of a newstyle NBD server")
    (flags,) = struct.unpack(">H", greeting[16:])
    if not flags & _FLAG_FIXED_NEWSTYLE:
        raise ProtocolViolated(server=server, reason="it does not offer the fixed newstyle handshake")
    sock.sendall(struct.pack(">I", flags & (_FLAG_FIXED_NEWSTYLE | _FLAG_NO_ZEROES)))


def _start_tls(sock: socket.socket, server: str, context: ssl.SSLContext, hostname: str | None) -> socket.socket:
    _send_option(sock, _OPT_STARTTLS, b"")
    kind, _data = _receive_option_reply(sock, server, _OPT_STARTTLS)
    if kind != _REP_ACK:
        raise TlsFailed(server=server, reason="the server does not offer TLS for this export")
    return context.wrap_socket(sock, server_hostname=hostname)


def _go(sock: socket.socket, server: str, export: str) -> ExportInfo:
    name = export.encode()
    _send_option(sock, _OPT_GO, struct.pack(">I", len(name)) + name + struct.pack(">HH", 1, _INFO_BLOCK_SIZE))
    size_and_flags: tuple[int, int] | None = None
    blocks = (1, 4096, _DEFAULT_MAX_BLOCK)
    while True:
        kind, data = _receive_option_reply(sock, server, _OPT_GO)
        if kind == _REP_ACK:
            break
        if kind & _REP_ERROR:
            raise _refusal(kind, data, server, export)
        if kind != _REP_INFO or len(data) < 2:
            raise ProtocolViolated(server=server, reason=f"unexpected option reply {kind:#x}")
        (info,) = struct.unpack(">H", data[:2])
        if info == _INFO_EXPORT and len(data) == 12:
            size_and_flags = struct.unpack(">QH", data[2:])
        elif info == _INFO_BLOCK_SIZE and len(data) == 14:
            blocks = struct.unpack(">III", data[2:])
    if size_and_flags is None:
        raise ProtocolViolated(server=server, reason="it did not tell the export's size")
    return _export_info(size_and_flags, blocks, server)


def _export_info(size_and_flags: tuple[int, int], blocks: tuple[int, int, int], server: str) -> ExportInfo:
    size, flags = size_and_flags
    minimum, preferred, maximum = blocks
    if minimum < 1 or minimum & (minimum - 1) or maximum < minimum:
        raise ProtocolViolated(server=server, reason=f"block sizes {minimum}/{preferred}/{maximum} make no sense")
    return ExportInfo(
        size=size,
        read_only=bool(flags & _FLAG_READ_ONLY),
        can_flush=bool(flags & _FLAG_SEND_FLUSH),
        can_fua=bool(flags & _FLAG_SEND_FUA),
        can_trim=bool(flags & _FLAG_SEND_TRIM),
        can_zero=bool(flags & _FLAG_SEND_WRITE_ZEROES),
        minimum_block=minimum,
        preferred_block=preferred,
        # 0xffffffff means "no limit"; a payload is cut at 32 MiB all the same, which every server takes.
        maximum_block=min(maximum, _DEFAULT_MAX_BLOCK),
    )


def _refusal(kind: int, data: bytes, server: str, export: str) -> EdgeError:
    text = data.decode(errors="replace")
    if kind == _REP_ERR_TLS_REQD:
        return TlsFailed(server=server, reason="the server wants TLS and this client was not told to use it")
    if kind == _REP_ERR_SHUTDOWN:
        return TransportError(server=server, reason="the server is shutting down")
    words = {_REP_ERR_UNKNOWN: "it is not there", _REP_ERR_POLICY: "not allowed"}.get(kind, f"error {kind:#x}")
    return ExportRefused(server=server, export=export, reason=f"{words} ({text})" if text else words)


def _send_option(sock: socket.socket, option: int, data: bytes) -> None:
    sock.sendall(_MAGIC_OPTION + struct.pack(">II", option, len(data)) + data)


def _receive_option_reply(sock: socket.socket, server: str, option: int) -> tuple[int, bytes]:
    magic, answered, kind, length = struct.unpack(">QIII", receive_exactly(sock, 20))
    if magic != _MAGIC_OPTION_REPLY or answered != option or length > _MAX_REPLY:
        raise ProtocolViolated(server=server, reason="an option was answered with something else")
    return kind, receive_exactly(sock, length)
