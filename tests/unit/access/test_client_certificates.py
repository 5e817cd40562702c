"""Certificates of hosts: what is in them, and that nothing is overwritten."""

from __future__ import annotations

import base64
import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from openvstorage.vpool.access import authority
from openvstorage.vpool.access.errors import AuthorityError
from openvstorage.vpool.access.server_certificate import ServerCertificate


@pytest.fixture(autouse=True)
def _small_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "KEY_BITS", 2048)  # seconds matter here, not strength


@pytest.fixture
def tls(tmp_path: Path) -> Path:
    authority.ensure(tmp_path / "tls", ["127.0.0.1"])
    return tmp_path / "tls"


def test_a_host_gets_what_qemu_looks_for(tls: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ends = authority.issue_client(tls, "compute-1.example", out)
    assert sorted(path.name for path in out.iterdir()) == ["ca-cert.pem", "client-cert.pem", "client-key.pem"]
    assert (out / "client-key.pem").stat().st_mode & 0o777 == 0o600
    assert (out / "ca-cert.pem").read_bytes() == (tls / "ca-cert.pem").read_bytes()
    certificate = x509.load_pem_x509_certificate((out / "client-cert.pem").read_bytes())
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert [name.value for name in names] == ["compute-1.example"]
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_encipherment
    assert certificate.not_valid_after_utc == ends == authority.valid_until(out / "client-cert.pem")


@pytest.mark.parametrize("there", ["ca-cert.pem", "client-cert.pem", "client-key.pem"])
def test_nothing_is_overwritten(tls: Path, tmp_path: Path, there: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / there).write_text("precious")
    with pytest.raises(FileExistsError, match=there):
        authority.issue_client(tls, "compute1", out)
    assert [path.name for path in out.iterdir()] == [there]
    assert (out / there).read_text() == "precious"


@pytest.mark.parametrize("host", ["", "a,CN=b", "a" * 65, "a b", ".a", "a\n", "ä", "a=b", 'a"', "a+b"])
def test_names_that_could_be_read_as_others_are_refused(tls: Path, tmp_path: Path, host: str) -> None:
    with pytest.raises(ValueError, match="host name"):
        authority.issue_client(tls, host, tmp_path / "out")
    with pytest.raises(ValueError, match="host name"):
        authority.distinguished_name(host)
    assert not (tmp_path / "out").exists()


def test_without_an_authority_none_is_made(tmp_path: Path) -> None:
    with pytest.raises(AuthorityError, match=r"ca-cert\.pem"):
        authority.issue_client(tmp_path / "tls", "compute1", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


async def test_a_server_certificate_is_renewed_in_time_and_told(tmp_path: Path) -> None:
    issued = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=authority.SERVER_DAYS - 30)
    certificate = ServerCertificate.open(tmp_path, ["127.0.0.1"], now=issued)
    old, told = certificate.fingerprint, []
    certificate.on_renewal.append(lambda: told.append(certificate.fingerprint))
    assert await certificate.renew_if_due()
    assert told == [certificate.fingerprint]
    assert certificate.fingerprint != old
    assert not await certificate.renew_if_due()


@pytest.mark.parametrize("name", ["server-cert.pem", "server-key.pem"])
async def test_a_server_certificate_that_was_removed_is_issued_again_at_once(tmp_path: Path, name: str) -> None:
    certificate = ServerCertificate.open(tmp_path, ["127.0.0.1"])
    old = certificate.fingerprint
    assert not await certificate.renew_if_due()
    (tmp_path / name).unlink()
    assert await certificate.renew_if_due()
    assert certificate.fingerprint != old
    assert not await certificate.renew_if_due()


async def test_an_authority_that_ends_soon_is_not_asked_again_and_again(tmp_path: Path) -> None:
    now = datetime.datetime.now(datetime.UTC)
    authority.ensure(tmp_path, ["127.0.0.1"], now=now - datetime.timedelta(days=authority.CA_DAYS - 20))
    certificate = ServerCertificate.open(tmp_path, ["127.0.0.1"])
    assert not await certificate.renew_if_due()


def test_daemons_find_the_group_for_their_key_exchange(tmp_path: Path) -> None:
    """Also in a directory of an earlier version; RFC 7919 gives the first and the last digits, and a safe prime."""
    authority.ensure(tmp_path, ["127.0.0.1"])
    file = tmp_path / "dh-params.pem"
    file.unlink()
    authority.ensure(tmp_path, ["127.0.0.1"])
    body = base64.b64decode("".join(file.read_text().splitlines()[1:-1]))
    prime = int.from_bytes(body[8:-3], "big")
    assert body[-3:] == b"\x02\x01\x02"
    assert prime.bit_length() == 3072
    assert f"{prime:X}".startswith("FFFFFFFFFFFFFFFFADF85458")
    assert f"{prime:X}".endswith("66C62E37FFFFFFFFFFFFFFFF")
    assert pow(2, prime - 1, prime) == pow(2, (prime - 3) // 2, (prime - 1) // 2) == 1
