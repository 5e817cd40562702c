"""Certificates: by which the programs of this machine open vDisks where the edge has TLS.

Each host that grants are made for has a directory in QEMU's layout, named after it. Programs are told of their
directory in any case and look into it only where a grant says TLS, so nothing but the vPool has to know whether there
is TLS.
"""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.x509.oid import NameOID

from openvstorage.aio.cinder import Cinder
from openvstorage.aio.nova import Nova
from openvstorage.aio.paths import Paths
from openvstorage.aio.vpool import VPool
from openvstorage.edge.errors import CertificateUnusable
from openvstorage.edge.tls import client_context

__all__ = ["TOUR", "Certificates"]

#: The name that the tour and tests have in their grants.
TOUR = "tour"
#: One with less left is issued anew. A guest keeps the one that it was started with, so this is what it can count on.
_RENEW = datetime.timedelta(days=400)


class Certificates:
    """The certificates of one all-in-one, below its state directory, which only root may enter.

    :param vpool: whose authority issues them.
    """

    def __init__(self, paths: Paths, vpool: VPool) -> None:
        self._paths = paths
        self._vpool = vpool

    @property
    def hosts(self) -> list[str]:
        """Who opens vDisks here: guests, Cinder (which takes the machine's name for that), and the tour."""
        return sorted({Nova.host, Cinder.host_of_transfers(), TOUR})

    def directory(self, host: str) -> Path:
        """Return where the certificate of a host is, or would be."""
        return self._paths.certificate(host)

    def issue(self) -> list[str]:
        """Issue what is missing, useless or nears its end. Blocks. Returns the hosts that have another one now.

        Raises CommandFailed, OSError.
        """
        due = [host for host in self.hosts if self._is_due(host)]
        for host in due:
            self._issue(host)
        return due

    def ends(self, host: str) -> datetime.datetime:
        """Return when the certificate of a host ends.

        Raises CertificateUnusable when it is missing, damaged, another host's or of another authority.
        """
        directory = self.directory(host)
        client_context(directory)
        file = directory / "client-cert.pem"
        certificate, authority = _read(file), self._authority()
        try:
            certificate.verify_directly_issued_by(authority)
        except (InvalidSignature, ValueError, TypeError) as error:
            raise CertificateUnusable(path=file, reason="this vPool's authority has not issued it") from error
        if (directory / "ca-cert.pem").read_bytes() != self._vpool.ca_file.read_bytes():
            raise CertificateUnusable(path=directory / "ca-cert.pem", reason="it is not this vPool's authority")
        names = [name.value for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
        if names != [host]:
            raise CertificateUnusable(path=file, reason=f"it is not that of {host}")
        return certificate.not_valid_after_utc

    def _is_due(self, host: str) -> bool:
        try:
            ends = self.ends(host)
        except CertificateUnusable:
            return True
        # None outlives the authority.
        possible = self._authority().not_valid_after_utc - datetime.timedelta(days=1)
        return ends < min(datetime.datetime.now(datetime.UTC) + _RENEW, possible)

    def _issue(self, host: str) -> None:
        place = self.directory(host)
        fresh, old = (place.with_name(f".{host}.{word}") for word in ("new", "old"))
        for left in (fresh, old):
            shutil.rmtree(left, ignore_errors=True)
        place.parent.mkdir(mode=0o700, exist_ok=True)
        self._vpool.enroll(host, fresh)
        # Key and certificate change together: whoever comes in between finds neither and says so, as does a next start.
        if place.exists():
            place.rename(old)
        fresh.rename(place)
        shutil.rmtree(old, ignore_errors=True)

    def _authority(self) -> x509.Certificate:
        return _read(self._vpool.ca_file)


def _read(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (ValueError, OSError) as error:
        raise CertificateUnusable(path=path, reason="it is no certificate") from error
