"""A host's certificate for the edge: what an NBD client here and QEMU's tools need to open a location with TLS.

A directory in QEMU's layout has ``ca-cert.pem``, ``client-cert.pem`` and ``client-key.pem``; ``openvstorage enroll``
makes one.
"""

from __future__ import annotations

import os
import ssl
from pathlib import Path

from openvstorage.edge.errors import CertificateUnusable

__all__ = ["CLIENT_FILES", "DEFAULT_DIRECTORY", "DIRECTORY_VARIABLE", "client_context", "host_directory"]

#: Where this host's certificate is looked for when nothing else is said.
DEFAULT_DIRECTORY = Path("/etc/pki/openvstorage")
CLIENT_FILES = ("ca-cert.pem", "client-cert.pem", "client-key.pem")
#: The environment variable that says another place to :func:`host_directory`.
DIRECTORY_VARIABLE = "OPENVSTORAGE_EDGE_TLS_DIR"


def host_directory() -> Path:
    """Where this host's certificate is, for code that has no configuration: as the environment says, or the default."""
    return Path(os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY)


def client_context(directory: Path) -> ssl.SSLContext:
    """Make what ``NbdClient.connect`` starts TLS with: it proves this host, and believes servers of that CA only.

    :raises CertificateUnusable: a file is missing, not readable for this process, or no certificate or key.
    """
    authority, certificate, key = (directory / name for name in CLIENT_FILES)
    for path in (authority, certificate, key):
        try:
            path.open("rb").close()
        except OSError as error:
            raise CertificateUnusable(path=path, reason=error.strerror or str(error)) from error
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(authority)
    except ssl.SSLError as error:
        raise CertificateUnusable(path=authority, reason="it is no certificate") from error
    try:
        context.load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        reason = "it is no certificate, or client-key.pem is not its key"
        raise CertificateUnusable(path=certificate, reason=reason) from error
    return context


def _no_password() -> str:
    """Nobody is there to be asked: without this OpenSSL would prompt on the terminal for an encrypted key."""
    raise ValueError("the key is encrypted")
