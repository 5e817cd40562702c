"""A throw-away CA and server certificates, in the file names that QEMU's tls-creds-x509 wants."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Authority = tuple[x509.Certificate, rsa.RSAPrivateKey]


def make_ca(directory: Path) -> Authority:
    """Make a CA, write ca-cert.pem into ``directory`` and give certificate and key."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
    usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
    builder = _builder(name, name, key.public_key(), days=2)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    certificate = builder.add_extension(usage, critical=True).sign(key, hashes.SHA256())
    (directory / "ca-cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return certificate, key


def make_server_certificate(directory: Path, ca: Authority, names: Sequence[str]) -> None:
    """Write server-cert.pem and server-key.pem for DNS ``names``, signed by ``ca``."""
    authority, ca_key = ca
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    usage = x509.KeyUsage(True, False, True, False, False, False, False, False, False)
    builder = _builder(subject, authority.subject, key.public_key(), days=1)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
    builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    certificate = builder.add_extension(usage, critical=True).sign(ca_key, hashes.SHA256())
    (directory / "server-cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "server-key.pem").write_bytes(private)


def _builder(subject: x509.Name, issuer: x509.Name, public: rsa.RSAPublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(public)
    builder = builder.serial_number(x509.random_serial_number())
    start = now - datetime.timedelta(minutes=5)
    return builder.not_valid_before(start).not_valid_after(now + datetime.timedelta(days=days))
