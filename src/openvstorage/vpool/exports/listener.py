"""Listening sockets that outlive the daemon behind them.

The service makes the socket and hands it to the daemon. While the daemon is being replaced, clients that connect
wait in the socket's backlog instead of being refused, so the socket has to be kept; a service that was restarted
takes it out of the living daemon.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import sys
from pathlib import Path

from openvstorage.vpool.exports.errors import ListenerUnavailable, PortTaken

__all__ = ["established_peers", "listen", "take_listener"]

_BACKLOG = 128
_ESTABLISHED = "01"
_LISTENING = "0A"
#: The same number on every architecture that Linux gave the system call to since 5.6, Alpha excepted.
_SYS_PIDFD_GETFD = 438


def listen(host: str, port: int) -> socket.socket:
    """A listening TCP socket whose connections send small answers at once.

    QEMU 7.2 does not set TCP_NODELAY itself (4 KiB reads over TLS: 22 instead of 5100 per second); accepted sockets
    inherit it from this one.

    :param host: an IPv4 or IPv6 address of this machine.
    :param port: TCP port, 0 for a free one.
    :raise PortTaken: another process listens there.
    :raise ValueError: host is not an address.
    :raise OSError: the address is not of this machine, or the port is privileged.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_NUMERICHOST)
    except socket.gaierror:
        raise ValueError(f"not an IP address: {host!r}") from None
    family, _, _, _, address = found[0]
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        # The flag is shared with the daemon, which must not hang when a client leaves before it is accepted.
        listener.setblocking(False)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host=host, port=port) from None
        raise
    return listener


def take_listener(pid: int, pidfd: int) -> socket.socket:
    """A second handle on the listening TCP socket of another process; that one keeps its own.

    :param pid: the process.
    :param pidfd: an open pidfd of it.
    :raise ListenerUnavailable: it has none, or the kernel does not allow it (another user's process, Yama).
    """
    try:
        inodes = {inode for _, state, inode in _tcp_rows(pid) if state == _LISTENING}
        fd = _socket_fd(pid, inodes)
    except OSError as error:
        raise ListenerUnavailable(pid=pid, reason=error.strerror or str(error)) from None
    if fd is None:
        raise ListenerUnavailable(pid=pid, reason="it does not listen on TCP")
    taken = socket.socket(fileno=_pidfd_getfd(pid, pidfd, fd))
    # Between the look and the taking the daemon may have closed it and opened something else.
    if not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        taken.close()
        raise ListenerUnavailable(pid=pid, reason="the socket changed while it was taken")
    return taken


def established_peers(pid: int, port: int) -> list[tuple[str, int]]:
    """Address and port of every client connected to a port of this machine, in the network namespace of a process.

    :raise OSError: the process has ended.
    """
    return [
        (_address(remote), _port(remote))
        for (local, remote), state, _ in _tcp_rows(pid)
        if state == _ESTABLISHED and _port(local) == port
    ]


def _tcp_rows(pid: int) -> list[tuple[tuple[str, str], str, str]]:
    """((local, remote), state, inode) of the TCP sockets that a process's network namespace has."""
    rows = []
    for name in ("tcp", "tcp6"):
        path = Path(f"/proc/{pid}/net/{name}")
        if not path.exists() and name == "tcp6":
            continue
        for line in path.read_text(encoding="ascii").splitlines()[1:]:
            values = line.split()
            rows.append(((values[1], values[2]), values[3], values[9]))
    return rows


def _socket_fd(pid: int, inodes: set[str]) -> int | None:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    folder = f"/proc/{pid}/fd"
    for name in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{name}")
        except FileNotFoundError:
            continue
        if target in wanted:
            return int(name)
    return None


def _pidfd_getfd(pid: int, pidfd: int, fd: int) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(_SYS_PIDFD_GETFD, pidfd, fd, 0)
    if result < 0:
        raise ListenerUnavailable(pid=pid, reason=os.strerror(ctypes.get_errno()))
    return result


def _port(text: str) -> int:
    return int(text.rpartition(":")[2], 16)


def _address(text: str) -> str:
    raw = bytes.fromhex(text.rpartition(":")[0])
    # The kernel prints each 32-bit word in the machine's byte order.
    words = b"".join(int.from_bytes(raw[at : at + 4], "big").to_bytes(4, sys.byteorder) for at in range(0, len(raw), 4))
    return socket.inet_ntop(socket.AF_INET if len(words) == 4 else socket.AF_INET6, words)
