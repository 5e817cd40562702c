"""TLS of a daemon's NBD server: its certificate, and the list of the certificates that it lets in.

The list belongs to the whole server, so to one vDisk, and is changed while it runs. What is changed counts for the next
handshake; a session that is there goes on until its export is dropped. A daemon reads its certificate once, when it
starts, so its credentials carry a name by which another certificate is told apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["LIST_ID", "ClientTls", "ServerTls", "certificate_of", "rules"]

#: Id of the list in a daemon.
LIST_ID = "admitted"
_CREDENTIALS = "tls-"
# The processor does AES-GCM by itself; with what GnuTLS likes best instead, streams are half as fast. Older protocols
# than TLS 1.2 have no such cipher, so they are out too.
_PRIORITY = "NORMAL:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:%SERVER_PRECEDENCE"


@dataclass(frozen=True, slots=True)
class ServerTls:
    """The certificate that daemons are started with.

    :ivar directory: has ``ca-cert.pem``, ``server-cert.pem`` and ``server-key.pem``.
    :ivar certificate: a short name of the certificate there: letters, digits.
    """

    directory: Path
    certificate: str

    def objects(self, admitted: Iterable[str]) -> list[dict[str, Any]]:
        """``object-add`` arguments: the credentials, and the list of who is let in from the first moment."""
        return [
            {
                "qom-type": "tls-creds-x509",
                "id": self.credentials_id,
                "dir": str(self.directory),
                "endpoint": "server",
                "verify-peer": True,
                "priority": _PRIORITY,
            },
            {"qom-type": "authz-list", "id": LIST_ID, "policy": "deny", "rules": rules(admitted)},
        ]

    @property
    def credentials_id(self) -> str:
        """Id of the credentials in a daemon."""
        return f"{_CREDENTIALS}{self.certificate}"


@dataclass(frozen=True, slots=True)
class ClientTls:
    """The certificate by which a daemon opens what another one serves.

    :ivar directory: has ``ca-cert.pem``, ``client-cert.pem`` and ``client-key.pem``.
    :ivar name: the distinguished name of the certificate.
    """

    directory: Path
    name: str

    def objects(self) -> list[dict[str, Any]]:
        """``object-add`` arguments."""
        return [
            {
                "qom-type": "tls-creds-x509",
                "id": self.credentials_id,
                "dir": str(self.directory),
                "endpoint": "client",
                "verify-peer": True,
                "priority": _PRIORITY,
            }
        ]

    @property
    def credentials_id(self) -> str:
        """Id of the credentials in a daemon."""
        return "source"


def rules(admitted: Iterable[str]) -> list[dict[str, Any]]:
    """The rules that let in who has a certificate of one of these distinguished names, and nobody else."""
    return [{"match": name, "policy": "allow", "format": "exact"} for name in sorted(set(admitted))]


def certificate_of(objects: Sequence[str]) -> str | None:
    """Which certificate a daemon was started with, from the ids of its objects; None for one without TLS."""
    return next((name.removeprefix(_CREDENTIALS) for name in objects if name.startswith(_CREDENTIALS)), None)
