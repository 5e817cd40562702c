"""The certificate authority: real files, real TLS handshakes in memory."""

from __future__ import annotations

import datetime
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from openvstorage.vpool.access import authority
from openvstorage.vpool.access.authority import TlsFiles, ensure
from openvstorage.vpool.access.errors import AuthorityError

HOSTS = ["127.0.0.1", "::1", "vpool.example"]


@pytest.fixture(autouse=True)
def _small_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "KEY_BITS", 2048)  # seconds matter here, not strength


def handshake(files: TlsFiles, host: str) -> None:
    """Let a client that trusts the authority connect to a server with the certificate."""
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(files.certificate, files.key)
    client_side = ssl.create_default_context(cafile=str(files.ca_file))
    client_side.verify_flags |= ssl.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_side.wrap_bio(to_client, to_server, server_hostname=host)
    server = server_side.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    while waiting:
        side = waiting.pop(0)
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            waiting.append(side)


def test_client_with_the_authority_trusts_every_host(tmp_path: Path) -> None:
    files = ensure(tmp_path / "tls", HOSTS)
    for host in HOSTS:
        handshake(files, host)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(files, "other.example")


def test_keys_are_for_the_owner_only(tmp_path: Path) -> None:
    files = ensure(tmp_path / "tls", HOSTS)
    assert (tmp_path / "tls").stat().st_mode & 0o777 == 0o700
    for key in (files.key, tmp_path / "tls/ca-key.pem"):
        assert key.stat().st_mode & 0o777 == 0o600


def test_second_start_changes_nothing(tmp_path: Path) -> None:
    ensure(tmp_path, HOSTS)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ensure(tmp_path, HOSTS[:1])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_new_host_gets_a_new_server_certificate_from_the_same_authority(tmp_path: Path) -> None:
    files = ensure(tmp_path, HOSTS)
    ca, old = files.ca_file.read_bytes(), files.certificate.read_bytes()
    handshake(ensure(tmp_path, [*HOSTS, "second.example"]), "second.example")
    assert files.ca_file.read_bytes() == ca
    assert files.certificate.read_bytes() != old


def test_certificate_near_its_end_is_issued_again(tmp_path: Path) -> None:
    files = ensure(tmp_path, HOSTS)
    ca, old = files.ca_file.read_bytes(), files.certificate.read_bytes()
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=authority.SERVER_DAYS - 30)
    ensure(tmp_path, HOSTS, now=later)
    assert files.ca_file.read_bytes() == ca
    new = x509.load_pem_x509_certificate(files.certificate.read_bytes())
    assert new.not_valid_after_utc > later + datetime.timedelta(days=300)
    assert files.certificate.read_bytes() != old


def test_crash_between_key_and_certificate_is_repaired(tmp_path: Path) -> None:
    files = ensure(tmp_path, HOSTS)
    other = ensure(tmp_path / "other", HOSTS)
    files.key.write_bytes(other.key.read_bytes())
    handshake(ensure(tmp_path, HOSTS), "vpool.example")


@pytest.mark.parametrize("lost", ["ca-key.pem", "ca-cert.pem"])
def test_damaged_authority_is_reported_and_never_replaced(tmp_path: Path, lost: str) -> None:
    ensure(tmp_path, HOSTS)
    kept = "ca-cert.pem" if lost == "ca-key.pem" else "ca-key.pem"
    before = (tmp_path / kept).read_bytes()
    (tmp_path / lost).unlink()
    with pytest.raises(AuthorityError, match=lost):
        ensure(tmp_path, HOSTS)
    assert (tmp_path / kept).read_bytes() == before


def test_foreign_key_is_reported(tmp_path: Path) -> None:
    ensure(tmp_path, HOSTS)
    ensure(tmp_path / "other", HOSTS)
    (tmp_path / "ca-key.pem").write_bytes((tmp_path / "other/ca-key.pem").read_bytes())
    with pytest.raises(AuthorityError, match="not the one"):
        ensure(tmp_path, HOSTS)


def test_a_host_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="host"):
        ensure(tmp_path, [])
