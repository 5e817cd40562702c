"""Errors of the edge: what went wrong between this host and a vDisk's bytes.

``EdgeError`` is the root. Callers branch on three questions: can the same request be sent again (``TransportError``:
the connection is gone, open a new one), did the server refuse (``ExportRefused``, ``RequestFailed``), or is the request
itself wrong (``LocationInvalid``, ``RequestInvalid``).
"""

from __future__ import annotations

import errno as _errno
import os

__all__ = [
    "CertificateUnusable",
    "EdgeError",
    "ExportRefused",
    "LocationInvalid",
    "ProtocolViolated",
    "QemuImgFailed",
    "RelayFailed",
    "RequestFailed",
    "RequestInvalid",
    "TlsFailed",
    "TransportError",
]


class EdgeError(Exception):
    """Root of the errors of this package.

    :ivar template: the message, formatted with the keyword arguments, which become attributes as well.
    """

    template = "edge error"

    def __init__(self, **fields: object) -> None:
        """Make the error from the fields that its template names."""
        self.fields = fields
        super().__init__(self.template.format(**fields))

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the fields when the error crosses a process boundary (Cinder and os-brick pickle exceptions)."""
        return _rebuild, (type(self), self.fields)


def _rebuild(kind: type[EdgeError], fields: dict[str, object]) -> EdgeError:
    return kind(**fields)


class LocationInvalid(EdgeError):
    """A text or a set of parts is not a location. Retrying does not help."""

    template = "not a location: {text!r}: {reason}"


class CertificateUnusable(EdgeError):
    """This host's certificate for the edge is missing or damaged. Somebody has to put it right."""

    template = "certificate for the edge: {path}: {reason}"


class TransportError(EdgeError):
    """The connection could not be made, timed out or broke: the client is unusable, a new one may work.

    Requests that were not answered may or may not have been carried out.
    """

    template = "NBD server {server}: {reason}"


class ProtocolViolated(TransportError):
    """The peer does not speak NBD as this client does (not an NBD server, an old one, or a corrupted stream)."""

    template = "NBD server {server} does not follow the protocol: {reason}"


class TlsFailed(TransportError):
    """TLS is demanded by one side and not possible for the other, or the certificates do not fit."""

    template = "NBD server {server}: TLS failed: {reason}"


class ExportRefused(EdgeError):
    """The server is there but does not give this export: unknown name, revoked grant or policy."""

    template = "NBD server {server} refuses export {export!r}: {reason}"


class RequestInvalid(EdgeError):
    """The caller asks for what the export cannot do: outside its size, unaligned, or a write to a read-only one."""

    template = "{command} of {length} bytes at {offset} is not possible: {reason}"


class RequestFailed(EdgeError):
    """The server answered a request with an error; the connection stays usable.

    ``fields["errno"]`` is one of Python's ``errno`` numbers, for example ``ENOSPC`` when the vPool is full.
    """

    template = "{command} of {length} bytes at {offset} failed: {text}"

    def __init__(self, *, command: str, offset: int, length: int, errno: int) -> None:
        """Make the error from a reply; the text is the operating system's for ``errno``."""
        text = f"{os.strerror(errno)} ({_errno.errorcode.get(errno, errno)})"
        super().__init__(command=command, offset=offset, length=length, text=text)
        self.errno = errno

    def __reduce__(self) -> tuple[object, ...]:
        """Rebuild from the reply's fields, not from the formatted ones."""
        fields = {name: self.fields[name] for name in ("command", "offset", "length")}
        return _rebuild, (type(self), {**fields, "errno": self.errno})


class QemuImgFailed(EdgeError):
    """``qemu-img`` ended with an error; its words are in the message."""

    template = "qemu-img {subcommand} failed with status {status}: {text}"


class RelayFailed(EdgeError):
    """A location with TLS could not be passed on to a program without TLS."""

    template = "qemu-nbd could not open {location}: {reason}"
