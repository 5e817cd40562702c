"""The TCP sockets of another process, as the kernel tells of them and, where it allows that, as handles of our own."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LISTENING", "TcpRow", "descriptors", "peers", "shut_down", "take", "tcp"]

LISTENING = "0A"
_ESTABLISHED = "01"
#: The same number on every architecture that Linux gave the system call to since 5.6, Alpha excepted.
_SYS_PIDFD_GETFD = 438


@dataclass(frozen=True, slots=True)
class TcpRow:
    """One TCP socket.

    :ivar local: address and port at this end. :ivar remote: at the other end.
    :ivar state: as the kernel writes it, two digits.
    :ivar inode: what names the socket for as long as it is open; ``0`` if no process has accepted it yet.
    """

    local: tuple[str, int]
    remote: tuple[str, int]
    state: str
    inode: str


def tcp(pid: int) -> list[TcpRow]:
    """The TCP sockets of the network namespace that a process is in.

    :raise OSError: the process has ended.
    """
    rows = []
    for name in ("tcp", "tcp6"):
        path = Path(f"/proc/{pid}/net/{name}")
        if not path.exists() and name == "tcp6":
            continue
        for line in path.read_text(encoding="ascii").splitlines()[1:]:
            values = line.split()
            rows.append(TcpRow(_place(values[1]), _place(values[2]), values[3], values[9]))
    return rows


def peers(pid: int, port: int) -> list[tuple[str, int]]:
    """Address and port of every client connected to a port of this machine, in the network namespace of a process.

    :raise OSError: the process has ended.
    """
    return [row.remote for row in tcp(pid) if row.state == _ESTABLISHED and row.local[1] == port]


def descriptors(pid: int) -> dict[str, int]:
    """The sockets that a process has open: inode to file descriptor.

    :raise OSError: the process has ended, or it is another user's.
    """
    folder = f"/proc/{pid}/fd"
    found = {}
    for name in os.listdir(folder):
        with contextlib.suppress(FileNotFoundError):
            target = os.readlink(f"{folder}/{name}")
            if target.startswith("socket:["):
                found[target[8:-1]] = int(name)
    return found


def take(pidfd: int, fd: int) -> int:
    """A file descriptor of our own for what a process has open; that one keeps its own. The caller closes it.

    :param pidfd: an open pidfd of the process. :param fd: the number that it has there.
    :raise OSError: it is not open any more, or the kernel does not allow it (another user's process, Yama).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(_SYS_PIDFD_GETFD, pidfd, fd, 0)
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


def shut_down(pidfd: int, fd: int, inode: str) -> None:
    """End a connection that another process has: both ends read the end of the stream. Nothing if it is closed already.

    :param inode: of the connection, in case that the number is another's by now.
    :raise OSError: the kernel does not allow it.
    """
    try:
        with socket.socket(fileno=take(pidfd, fd)) as taken:
            if str(os.fstat(taken.fileno()).st_ino) == inode:
                taken.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        if not _is_over(error):
            raise


def _is_over(error: OSError) -> bool:
    """Whether the descriptor was closed, is no socket any more, or the other end was faster."""
    return error.errno in (errno.EBADF, errno.ENOTSOCK, errno.ENOTCONN)


def _place(text: str) -> tuple[str, int]:
    address, _, port = text.rpartition(":")
    raw = bytes.fromhex(address)
    # The kernel prints each 32-bit word in the machine's byte order.
    words = b"".join(int.from_bytes(raw[at : at + 4], "big").to_bytes(4, sys.byteorder) for at in range(0, len(raw), 4))
    return socket.inet_ntop(socket.AF_INET if len(words) == 4 else socket.AF_INET6, words), int(port, 16)
