"""Listening sockets that outlive the daemon behind them.

The service makes the socket and hands it to the daemon. While the daemon is being replaced, clients that connect
wait in the socket's backlog instead of being refused, so the socket has to be kept; a service that was restarted
takes it out of the living daemon.
"""

from __future__ import annotations

import errno
import socket

from openvstorage.vpool.exports import sockets
from openvstorage.vpool.exports.errors import ListenerUnavailable, PortTaken

__all__ = ["listen", "take_listener"]

_BACKLOG = 128


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
        listening = {row.inode for row in sockets.tcp(pid) if row.state == sockets.LISTENING}
        fds = [fd for inode, fd in sockets.descriptors(pid).items() if inode in listening]
        if not fds:
            raise ListenerUnavailable(pid=pid, reason="it does not listen on TCP")
        taken = socket.socket(fileno=sockets.take(pidfd, fds[0]))
    except OSError as error:
        raise ListenerUnavailable(pid=pid, reason=error.strerror or str(error)) from None
    # Between the look and the taking the daemon may have closed it and opened something else.
    if not taken.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        taken.close()
        raise ListenerUnavailable(pid=pid, reason="the socket changed while it was taken")
    return taken
