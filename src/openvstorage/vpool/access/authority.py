"""The certificate authority of the pool and the certificates it issues: the server's, and those of hosts.

Files have the names that QEMU's ``tls-creds-x509`` looks for. Keys are RSA, because libvirt asks for key encipherment.
A file is complete or absent: it is written beside its place, synced and renamed. An authority that exists is never
replaced: one that was put into the directory before the first start is used like one that was made here.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
import os
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from openvstorage.vpool.access.errors import AuthorityError

__all__ = [
    "TlsFiles",
    "distinguished_name",
    "ensure",
    "ensure_reader",
    "fingerprint",
    "is_host_name",
    "issue_client",
    "valid_until",
]

KEY_BITS = 3072
CA_DAYS = 3650
SERVER_DAYS = 397
CLIENT_DAYS = 825
#: A server certificate with less left than this is issued again at the next start.
RENEW_DAYS = 60
_BACKDATED = datetime.timedelta(hours=1)
_ORGANISATION = "openvstorage"
#: Common name of the certificate by which storage daemons read from each other. No host name, so no host can have it.
_READER = "reader@vpool"
#: What a client's certificate consists of, with the files' modes.
_CLIENT_FILES = {"client-key.pem": 0o600, "client-cert.pem": 0o644, "ca-cert.pem": 0o644}
# A common name has at most 64 characters, and none of these has to be escaped in a distinguished name.
_HOST_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """Where the certificates are.

    :ivar ca_file: the authority's certificate, which clients need.
    :ivar certificate: the server's certificate; ``key`` its private key (mode 0600).
    """

    ca_file: Path
    certificate: Path
    key: Path


def ensure(directory: Path, hosts: Sequence[str], *, now: datetime.datetime | None = None) -> TlsFiles:
    """Make what is missing, and issue the server certificate again when it nears its end or lacks a host. Blocking.

    :param directory: made with mode 0700 if absent.
    :param hosts: names and IP addresses by which clients reach the server; at least one.
    :param now: aware time to judge by; the current one by default.
    :raises AuthorityError: the authority's files are incomplete or do not belong together.
    :raises ValueError: no host is given.
    """
    if not hosts:
        raise ValueError("a server certificate needs at least one host")
    now = now or datetime.datetime.now(datetime.UTC)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    ca_certificate, ca_key = _authority(directory, now)
    files = TlsFiles(directory / "ca-cert.pem", directory / "server-cert.pem", directory / "server-key.pem")
    if not _serves(files, ca_certificate, hosts, now):
        _issue(files, ca_certificate, ca_key, hosts, now)
    if not (directory / "dh-params.pem").exists():
        _write(directory / "dh-params.pem", _key_exchange_pem(), 0o644)
    return files


def issue_client(
    directory: Path, host: str, target: Path, *, now: datetime.datetime | None = None
) -> datetime.datetime:
    """Issue the certificate by which a host proves its name, and put it with its key into a directory. Blocking.

    The files have the names that libvirt and QEMU look for: ``ca-cert.pem``, ``client-cert.pem`` and, for its owner
    only, ``client-key.pem``. Nothing is overwritten.

    :param directory: where the authority is.
    :param host: the name that grants are made for.
    :param target: made with mode 0700 if absent.
    :returns: when the certificate ends.
    :raises AuthorityError: there is no authority, or its files do not belong together.
    :raises ValueError: as :func:`distinguished_name`.
    :raises FileExistsError: one of the files is there.
    """
    distinguished_name(host)
    for name in _CLIENT_FILES:
        if (target / name).exists():
            raise FileExistsError(17, "it is there already", str(target / name))
    return _issue_client(directory, host, target, now or datetime.datetime.now(datetime.UTC))


def ensure_reader(directory: Path, *, now: datetime.datetime | None = None) -> tuple[Path, str]:
    """Have the certificate by which storage daemons read from each other, issued again when it nears its end. Blocking.

    :param directory: where the authority is.
    :returns: the directory of its files, named as :func:`issue_client` does, and its distinguished name.
    :raises AuthorityError: there is no authority, or its files do not belong together.
    """
    now = now or datetime.datetime.now(datetime.UTC)
    target = directory / "reader"
    if not _proves(target, directory, now):
        _issue_client(directory, _READER, target, now)
    return target, f"O={_ORGANISATION},CN={_READER}"


def _proves(target: Path, directory: Path, now: datetime.datetime) -> bool:
    """Whether a client's certificate is there, the authority's, has its key and has time left."""
    certificate_file, key_file, ca_file = (
        target / name for name in ("client-cert.pem", "client-key.pem", "ca-cert.pem")
    )
    if not (certificate_file.exists() and key_file.exists() and ca_file.exists()):
        return False
    certificate, ca = _read_certificate(certificate_file), _read_certificate(directory / "ca-cert.pem")
    try:
        certificate.verify_directly_issued_by(ca)
    except (InvalidSignature, ValueError):
        return False
    return (
        certificate.public_key() == _read_key(key_file).public_key()
        and _read_certificate(ca_file) == ca
        and certificate.not_valid_after_utc - now > datetime.timedelta(days=RENEW_DAYS)
    )


def _issue_client(directory: Path, name: str, target: Path, now: datetime.datetime) -> datetime.datetime:
    if not (directory / "ca-cert.pem").exists():
        raise AuthorityError(problem="The authority's certificate is missing", path=directory / "ca-cert.pem")
    authority = _authority(directory, now)
    key = _new_key()
    subject = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, _ORGANISATION),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )
    certificate = _sign(authority, subject, key, ExtendedKeyUsageOID.CLIENT_AUTH, [name], CLIENT_DAYS, now)
    target.mkdir(mode=0o700, parents=True, exist_ok=True)
    contents = (_private_pem(key), _public_pem(certificate), (directory / "ca-cert.pem").read_bytes())
    for (file, mode), content in zip(_CLIENT_FILES.items(), contents, strict=True):
        _write(target / file, content, mode)
    return certificate.not_valid_after_utc


def distinguished_name(host: str) -> str:
    """The subject of a host's certificate, as GnuTLS and so QEMU writes it.

    :raises ValueError: no certificate is issued for a host of that name.
    """
    if not is_host_name(host):
        raise ValueError(f"{host!r} is not a host name of 1 to 64 letters, digits, dots, '-' and '_'")
    return f"O={_ORGANISATION},CN={host}"


def is_host_name(text: str) -> bool:
    """Whether a certificate can be issued for a host of that name."""
    return _HOST_NAME.fullmatch(text) is not None


def valid_until(certificate: Path) -> datetime.datetime:
    """When a certificate ends. :raises AuthorityError: it can not be read. :raises OSError: neither can the file."""
    return _read_certificate(certificate).not_valid_after_utc


def fingerprint(certificate: Path) -> str:
    """A short name of a certificate, hexadecimal digits; raises as :func:`valid_until`."""
    return _read_certificate(certificate).fingerprint(hashes.SHA256()).hex()[:16]


def _authority(directory: Path, now: datetime.datetime) -> tuple[x509.Certificate, rsa.RSAPrivateKey]:
    certificate_file, key_file = directory / "ca-cert.pem", directory / "ca-key.pem"
    if certificate_file.exists():
        certificate, key = _read_certificate(certificate_file), _read_key(key_file)
        if certificate.public_key() != key.public_key():
            raise AuthorityError(problem="The authority's key is not the one of its certificate", path=key_file)
        return certificate, key
    if (directory / "server-cert.pem").exists():
        raise AuthorityError(problem="The authority's certificate is missing", path=certificate_file)
    key = _new_key()
    _write(key_file, _private_pem(key), 0o600)
    certificate = _sign_authority(key, now)
    _write(certificate_file, _public_pem(certificate), 0o644)
    return certificate, key


def _sign_authority(key: rsa.RSAPrivateKey, now: datetime.datetime) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Open vStorage vPool authority")])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    return (
        _builder(name, name, key.public_key(), now, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .sign(key, hashes.SHA256())
    )


def _issue(
    files: TlsFiles,
    ca_certificate: x509.Certificate,
    ca_key: rsa.RSAPrivateKey,
    hosts: Sequence[str],
    now: datetime.datetime,
) -> None:
    key = _new_key()
    # A common name has at most 64 characters; clients look at the alternative names.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0][:64])])
    purpose = ExtendedKeyUsageOID.SERVER_AUTH
    certificate = _sign((ca_certificate, ca_key), subject, key, purpose, hosts, SERVER_DAYS, now)
    # Certificate last: a crash between the two leaves a pair that does not match, which _serves() sees.
    _write(files.key, _private_pem(key), 0o600)
    _write(files.certificate, _public_pem(certificate), 0o644)


def _sign(
    authority: tuple[x509.Certificate, rsa.RSAPrivateKey],
    subject: x509.Name,
    key: rsa.RSAPrivateKey,
    purpose: x509.ObjectIdentifier,
    hosts: Sequence[str],
    days: int,
    now: datetime.datetime,
) -> x509.Certificate:
    ca_certificate, ca_key = authority
    days = min(days, (ca_certificate.not_valid_after_utc - now).days)
    return (
        _builder(subject, ca_certificate.subject, key.public_key(), now, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(host) for host in hosts]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _serves(files: TlsFiles, ca: x509.Certificate, hosts: Sequence[str], now: datetime.datetime) -> bool:
    """Whether the server certificate is there, ours, has its key, names all hosts and has time left."""
    if not (files.certificate.exists() and files.key.exists()):
        return False
    certificate = _read_certificate(files.certificate)
    try:
        certificate.verify_directly_issued_by(ca)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidSignature, ValueError, x509.ExtensionNotFound):
        return False
    return (
        certificate.public_key() == _read_key(files.key).public_key()
        and all(_general_name(host) in names for host in hosts)
        and certificate.not_valid_after_utc - now > datetime.timedelta(days=RENEW_DAYS)
    )


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        content_commitment=False,
        key_encipherment=not sign_certificates,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: rsa.RSAPublicKey, now: datetime.datetime, days: int
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATED)  # a client's clock may be behind
        .not_valid_after(now + datetime.timedelta(days=days))
    )


def _new_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)


def _public_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_exchange_pem() -> bytes:
    """The group ffdhe3072 of RFC 7919, computed as its appendix A says. Without such a file each storage daemon makes a
    group of its own when it starts, which takes it up to a second."""
    bits, spare = 2942, 64
    term = e = 1 << (bits + spare)
    for number in range(1, 500):
        term //= number
        e += term
    prime = (1 << 3072) - (1 << 3008) + ((e >> spare) + 2625351) * (1 << 64) - 1
    # PKCS 3 in DER: a sequence of the prime, with the zero byte that makes it positive, and the generator.
    numbers = b"\x02\x82\x01\x81" + prime.to_bytes(385, "big") + b"\x02\x01\x02"
    lines = textwrap.wrap(base64.b64encode(b"\x30\x82\x01\x88" + numbers).decode(), 64)
    return "\n".join(["-----BEGIN DH PARAMETERS-----", *lines, "-----END DH PARAMETERS-----", ""]).encode()


def _private_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _read_certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError as problem:
        raise AuthorityError(problem="The certificate can not be read", path=path) from problem


def _read_key(path: Path) -> rsa.RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except FileNotFoundError as problem:
        raise AuthorityError(problem="The private key is missing", path=path) from problem
    except ValueError as problem:
        raise AuthorityError(problem="The private key can not be read", path=path) from problem
    if not isinstance(key, rsa.RSAPrivateKey):
        raise AuthorityError(problem="The private key is not an RSA key", path=path)
    return key


def _write(path: Path, content: bytes, mode: int) -> None:
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    beside.rename(path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
