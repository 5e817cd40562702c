"""Ports: free TCP ports on loopback, chosen once and remembered.

They lie outside the range that the kernel gives to outgoing connections, else such a connection could hold one of them
while its service is down. A port that a stranger took meanwhile is replaced by another, and the caller is told.
"""

from __future__ import annotations

import json
import os
import socket
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

from openvstorage.aio.errors import PortsExhausted
from openvstorage.aio.paths import write_private

__all__ = ["accepts", "choose_ports", "ephemeral_range", "is_free"]

_FIRST = 10000
_LAST = 65000
# Where a vPool service takes the ports of its exports from, one for each vDisk in use.
_EXPORTS = range(26443, 32768)
_EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")


def ephemeral_range(path: Path = _EPHEMERAL) -> range:
    """Return the ports that the kernel may give to an outgoing connection."""
    low, high = path.read_text().split()
    return range(int(low), int(high) + 1)


def is_free(port: int) -> bool:
    """Whether a server could listen on that port of 127.0.0.1 now."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def accepts(port: int) -> bool:
    """Whether a server accepts connections on that port of 127.0.0.1. Blocks up to five seconds."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=5).close()
    except OSError:
        return False
    return True


def choose_ports(
    file: Path,
    names: Iterable[str],
    running: Callable[[str], bool],
    avoid: range | None = None,
) -> tuple[dict[str, int], list[str]]:
    """Return a port for each name, the remembered one where possible, and the names whose port had to change.

    :param file: where the choice is remembered.
    :param names: what needs a port.
    :param running: whether the service of a name runs, so that its port is rightly taken.
    :param avoid: ports not to take; the kernel's ephemeral range unless told.
    Raises PortsExhausted.
    """
    avoid = ephemeral_range() if avoid is None else avoid
    remembered: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    ports: dict[str, int] = {}
    changed: list[str] = []
    # Each state directory begins elsewhere: clouds that are brought up at once should not race for the same ports.
    allowed = [port for port in range(_FIRST, _LAST) if port not in avoid and port not in _EXPORTS]
    begin = zlib.crc32(os.fsencode(file)) % len(allowed) if allowed else 0
    candidates = iter(allowed[begin:] + allowed[:begin])
    for name in names:
        port = remembered.get(name)
        if port is not None and (running(name) or is_free(port)):
            ports[name] = port
            continue
        if port is not None:
            changed.append(name)
        taken = {*ports.values(), *remembered.values()}
        fresh = next((candidate for candidate in candidates if candidate not in taken and is_free(candidate)), None)
        if fresh is None:
            raise PortsExhausted(first=_FIRST, last=_LAST)
        ports[name] = fresh
    write_private(file, json.dumps(ports, indent=2))
    return ports, changed
