"""Locations: where a QEMU, or the NBD client here, can open a vDisk.

A location is a value. It is built from a grant or parsed from text, never assembled by callers; what a guest or a user
typed is never passed to QEMU as a file name. ``parse_location`` tells the two kinds apart by their scheme.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Protocol, Self
from urllib.parse import quote, unquote, urlsplit

from openvstorage.edge.errors import LocationInvalid

__all__ = ["EdgeLocation", "GrantedExport", "Location", "NbdLocation", "parse_location"]

# NBD protocol, "Values": a string, and so an export name, has at most 4096 bytes.
_MAX_EXPORT_NAME = 4096
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
_EDGE = re.compile(r"openvstorage(?:\+(?P<transport>[a-z]+))?:(?P<rest>.*)", re.DOTALL)
_EDGE_OPTION = re.compile(r"snapshot-timeout=(?P<seconds>[0-9]{1,9})")
_TRANSPORTS = ("tcp", "rdma")


class GrantedExport(Protocol):
    """What a location needs of a grant."""

    @property
    def host(self) -> str:
        """Address or name."""

    @property
    def port(self) -> int:
        """TCP port."""

    @property
    def export_name(self) -> str:
        """NBD export name."""

    @property
    def tls(self) -> bool:
        """Whether TLS has to be started."""


@dataclass(frozen=True, slots=True)
class NbdLocation:
    """An NBD export that a client may open.

    :ivar host: address (IPv6 without brackets) or name the client connects to; with TLS it must match the server
        certificate.
    :ivar port: TCP port, 1 to 65535.
    :ivar export: export name, 1 to 4096 bytes of UTF-8 without NUL (NBD protocol, "export name").
    :ivar tls: whether the client must start TLS before it asks for the export (scheme ``nbds``).

    :raises LocationInvalid: a part is outside these bounds.
    """

    host: str
    port: int
    export: str
    tls: bool = False

    def __post_init__(self) -> None:
        """Refuse parts that a URI, the NBD protocol or QEMU could not carry."""
        _check_host_and_port(self.host, self.port, allow_ipv6=True)
        try:
            length = len(self.export.encode())
        except UnicodeEncodeError as error:
            raise LocationInvalid(text=self.export, reason="an export name is UTF-8") from error
        if not 1 <= length <= _MAX_EXPORT_NAME or "\0" in self.export:
            raise LocationInvalid(text=self.export, reason="an export name has 1 to 4096 bytes and no NUL")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``nbd://host:port/export`` or ``nbds://…``; percent escapes in the export name are resolved.

        :raises LocationInvalid: another scheme, a missing part, or an option, a user or a fragment, which none of
            our locations has.
        """
        if any(ord(character) <= ord(" ") for character in text):
            raise LocationInvalid(text=text, reason="blanks and control characters are not allowed")
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise LocationInvalid(text=text, reason=str(error)) from error
        if parts.scheme not in ("nbd", "nbds"):
            raise LocationInvalid(text=text, reason="it does not begin with nbd:// or nbds://")
        if parts.query or parts.fragment or "@" in parts.netloc or "?" in text or "#" in text:
            raise LocationInvalid(text=text, reason="options, users and fragments are not allowed")
        if not host or port is None or not parts.path.startswith("/"):
            raise LocationInvalid(text=text, reason="it needs a host, a port and an export name")
        # urlsplit lowers the host name's letters, which is harmless: names and addresses do not know case.
        try:
            export = unquote(parts.path[1:], errors="strict")
        except UnicodeDecodeError as error:
            raise LocationInvalid(text=text, reason="an export name is UTF-8") from error
        return cls(host, port, export, tls=parts.scheme == "nbds")

    @classmethod
    def from_grant(cls, grant: GrantedExport) -> Self:
        """Take the location out of a grant, as the library gives it."""
        return cls(grant.host, grant.port, grant.export_name, tls=grant.tls)

    @property
    def uri(self) -> str:
        """The URI as libnbd and ``parse`` read it. QEMU takes ``nbd`` only; for TLS it wants its own options."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'nbds' if self.tls else 'nbd'}://{host}:{self.port}/{quote(self.export, safe='')}"

    def __str__(self) -> str:
        """Give the URI."""
        return self.uri


@dataclass(frozen=True, slots=True)
class EdgeLocation:
    """A vDisk behind Open vStorage's own edge, for hosts with the patched QEMU and libvirt.

    :ivar host: address (IPv4) or name of the StorageDriver; the edge cannot parse IPv6 literals.
    :ivar port: its edge port; there is no default worth trusting.
    :ivar name: devicename without leading ``/`` and without ``.raw``; folders are allowed, ``:`` is not.
    :ivar transport: ``tcp`` or ``rdma``.
    :ivar snapshot_timeout: seconds that a snapshot may take, None for QEMU's own default (120).

    :raises LocationInvalid: a part is outside these bounds.
    """

    host: str
    port: int
    name: str
    transport: str = "tcp"
    snapshot_timeout: int | None = None

    def __post_init__(self) -> None:
        """Refuse parts that the edge's parser would read as something else."""
        _check_host_and_port(self.host, self.port, allow_ipv6=False)
        if self.transport not in _TRANSPORTS:
            raise LocationInvalid(text=self.transport, reason="the transport is tcp or rdma")
        if not self.name or self.name.startswith("/") or any(c == ":" or ord(c) <= ord(" ") for c in self.name):
            raise LocationInvalid(text=self.name, reason="a vDisk's name is not empty and has no colon or blank")
        if self.snapshot_timeout is not None and not 0 <= self.snapshot_timeout < 10**9:
            raise LocationInvalid(text=str(self.snapshot_timeout), reason="a snapshot timeout is in seconds")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``openvstorage[+tcp|+rdma]:host:port/name[:snapshot-timeout=N]``; without transport it is tcp.

        :raises LocationInvalid: anything else, among it shared memory and options that we do not know.
        """
        match = _EDGE.fullmatch(text)
        if match is None:
            raise LocationInvalid(text=text, reason="it does not begin with openvstorage:")
        if match["rest"].startswith("//"):
            raise LocationInvalid(text=text, reason="the edge knows no // after the scheme")
        address, slash, path = match["rest"].partition("/")
        host, colon, port = address.rpartition(":")
        if not slash or not colon or not (port.isascii() and port.isdigit()):
            raise LocationInvalid(text=text, reason="it needs host:port/name")
        name, colon, option = path.partition(":")
        timeout = _EDGE_OPTION.fullmatch(option)
        if colon and timeout is None:
            raise LocationInvalid(text=text, reason="the only option known is snapshot-timeout=SECONDS")
        return cls(host, int(port), name, match["transport"] or "tcp", int(timeout["seconds"]) if timeout else None)

    @property
    def uri(self) -> str:
        """The text as the patched QEMU and ``parse`` read it."""
        option = "" if self.snapshot_timeout is None else f":snapshot-timeout={self.snapshot_timeout}"
        return f"openvstorage+{self.transport}:{self.host}:{self.port}/{self.name}{option}"

    def __str__(self) -> str:
        """Give the URI."""
        return self.uri


Location = NbdLocation | EdgeLocation


def parse_location(text: str) -> Location:
    """Read a location of either kind.

    :raises LocationInvalid: it is neither.
    """
    return EdgeLocation.parse(text) if text.startswith("openvstorage") else NbdLocation.parse(text)


def _check_host_and_port(host: str, port: int, *, allow_ipv6: bool) -> None:
    if not 1 <= port <= 65535:
        raise LocationInvalid(text=str(port), reason="a port is between 1 and 65535")
    if _HOST.fullmatch(host):
        return
    if allow_ipv6 and "%" not in host:
        try:
            ipaddress.IPv6Address(host)
        except ValueError as error:
            raise LocationInvalid(text=host, reason="it is no host name or address") from error
        return
    raise LocationInvalid(text=host, reason="it is no host name or address that can be used here")
