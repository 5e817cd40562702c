"""The certificates of an all-in-one: issued by the real command where it matters, kept while they are good."""

from __future__ import annotations

import datetime
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from openvstorage.aio.certificates import TOUR, Certificates
from openvstorage.aio.errors import CommandFailed
from openvstorage.aio.nova import Nova
from openvstorage.aio.paths import Paths
from openvstorage.aio.supervisor import Supervisor
from openvstorage.aio.vpool import VPool
from openvstorage.edge.errors import CertificateUnusable
from openvstorage.vpool.access import authority

DAY = datetime.timedelta(days=1)


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


class QuickVPool(VPool):
    """Issues in this process, which saves seconds each time."""

    def enroll(self, host: str, directory: Path) -> None:
        authority.issue_client(self.data / "tls", host, directory)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    paths = Paths.of(tmp_path / "state")
    paths.create()
    return paths


@pytest.fixture
def certificates(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> Certificates:
    monkeypatch.setattr(authority, "KEY_BITS", 2048)  # seconds matter here, not strength
    vpool = QuickVPool(paths, Supervisor(paths), 1, "")
    authority.ensure(vpool.data / "tls", ["127.0.0.1"])
    return Certificates(paths, vpool)


def replace(certificates: Certificates, host: str, issued: datetime.datetime) -> None:
    directory = certificates.directory(host)
    shutil.rmtree(directory)
    authority.issue_client(certificates._vpool.data / "tls", host, directory, now=issued)


def test_the_command_issues_what_only_root_can_read(paths: Paths) -> None:
    vpool = VPool(paths, Supervisor(paths), 1, "")
    authority.ensure(vpool.data / "tls", ["127.0.0.1"])
    certificates = Certificates(paths, vpool)
    assert certificates.issue() == sorted({"aio", "tour", socket.gethostname()})
    modes = {path.name: path.stat().st_mode & 0o777 for path in certificates.directory(Nova.host).iterdir()}
    assert modes == {"ca-cert.pem": 0o644, "client-cert.pem": 0o644, "client-key.pem": 0o600}
    assert all(certificates.ends(host) > now() + 800 * DAY for host in certificates.hosts)
    for directory in (paths.state, paths.etc, *(certificates.directory(host) for host in certificates.hosts)):
        assert directory.stat().st_mode & 0o777 == 0o700


def test_a_name_that_no_certificate_can_have_gets_a_sentence(
    paths: Paths, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "!")  # comes first
    certificates._vpool = VPool(paths, Supervisor(paths), 1, "")
    with pytest.raises(CommandFailed, match="'!' is not a host name"):
        certificates.issue()


def test_good_ones_are_kept(certificates: Certificates) -> None:
    certificates.issue()
    before = {path: path.read_bytes() for path in certificates.directory(TOUR).iterdir()}
    assert certificates.issue() == []
    assert {path: path.read_bytes() for path in certificates.directory(TOUR).iterdir()} == before


def garble(file: str) -> Callable[[Path], None]:
    return lambda directory: (directory / file).write_text("nonsense")


def exchange_key(directory: Path) -> None:
    shutil.copy(directory.with_name(Nova.host) / "client-key.pem", directory)


def take_another_hosts(directory: Path) -> None:
    shutil.rmtree(directory)
    shutil.copytree(directory.with_name(Nova.host), directory)


def take_one_of_another_authority(directory: Path) -> None:
    shutil.rmtree(directory)
    authority.ensure(directory.with_name("other"), ["127.0.0.1"])
    authority.issue_client(directory.with_name("other"), TOUR, directory)


def empty(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()


@pytest.mark.parametrize(
    "spoil",
    [
        shutil.rmtree,
        empty,
        *(garble(file) for file in ("ca-cert.pem", "client-cert.pem", "client-key.pem")),
        exchange_key,
        take_another_hosts,
        take_one_of_another_authority,
    ],
    ids=["gone", "empty", "ca", "certificate", "key", "other key", "other host", "other authority"],
)
def test_useless_ones_are_told_and_issued_anew(certificates: Certificates, spoil: Callable[[Path], None]) -> None:
    certificates.issue()
    spoil(certificates.directory(TOUR))
    with pytest.raises(CertificateUnusable):
        certificates.ends(TOUR)
    assert certificates.issue() == [TOUR]
    assert certificates.ends(TOUR) > now() + 800 * DAY


@pytest.mark.parametrize(("age", "renewed"), [(900, True), (800, True), (430, True), (420, False)])
def test_one_that_nears_its_end_is_issued_anew(certificates: Certificates, age: int, renewed: bool) -> None:
    certificates.issue()
    replace(certificates, TOUR, now() - age * DAY)
    assert certificates.issue() == ([TOUR] if renewed else [])
    assert certificates.ends(TOUR) > now() + 400 * DAY


def test_one_that_ends_with_its_authority_is_kept(certificates: Certificates) -> None:
    tls = certificates._vpool.data / "tls"
    shutil.rmtree(tls)
    authority.ensure(tls, ["127.0.0.1"], now=now() - (authority.CA_DAYS - 100) * DAY)
    assert certificates.issue() == certificates.hosts
    assert certificates.issue() == []


def test_what_a_killed_start_left_is_no_hindrance(certificates: Certificates) -> None:
    certificates.issue()
    place = certificates.directory(TOUR)
    place.rename(place.with_name(f".{TOUR}.old"))
    place.with_name(f".{TOUR}.new").mkdir()
    assert certificates.issue() == [TOUR]
    assert sorted(path.name for path in place.parent.iterdir()) == certificates.hosts
