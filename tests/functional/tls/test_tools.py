"""QEMU's tools, and programs that know no TLS, on a location with TLS."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.functional.edge.conftest import listening_socket, make_image
from tests.support.certificates import make_ca

from openvstorage.edge import qemu_img
from openvstorage.edge.errors import CertificateUnusable, QemuImgFailed, RelayFailed
from openvstorage.edge.location import NbdLocation
from openvstorage.edge.nbd import NbdClient
from openvstorage.edge.relay import relayed
from openvstorage.edge.tls import client_context
from openvstorage.vpool.access import authority
from openvstorage.vpool.exports.command import Export, export_options, server_options
from openvstorage.vpool.exports.tls import ServerTls

SIZE = 16 * 1024**2


@pytest.fixture(autouse=True)
def _small_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "KEY_BITS", 2048)  # seconds matter here, not strength


@pytest.fixture
def hosts(tmp_path: Path) -> Path:
    """Certificates of the hosts ``admitted`` and ``stranger``; the directories' names need escaping."""
    authority.ensure(tmp_path / "tls", ["127.0.0.1"])
    for host in ("admitted", "stranger"):
        authority.issue_client(tmp_path / "tls", host, tmp_path / "a,b" / host)
    return tmp_path / "a,b"


@pytest.fixture
def location(tmp_path: Path, hosts: Path) -> Iterator[NbdLocation]:
    image = make_image(tmp_path / "image", SIZE)
    tls = ServerTls(tmp_path / "tls", "1")
    listener = listening_socket()
    words = [f"--object={qemu_json(made)}" for made in tls.objects([authority.distinguished_name("admitted")])]
    words += [f"--blockdev=driver=file,node-name=top,filename={image},discard=unmap"]
    words += [f"--nbd-server={qemu_json(server_options(listener.fileno(), tls))}"]
    words += [f"--export={qemu_json(export_options(Export('disk', True)))}"]
    process = subprocess.Popen(["qemu-storage-daemon", *words], pass_fds=[listener.fileno()])
    yield NbdLocation("127.0.0.1", listener.getsockname()[1], "disk", tls=True)
    process.kill()
    process.wait()
    listener.close()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    raw, target = tmp_path / "source.raw", tmp_path / "source.qcow2"
    raw.write_bytes(random.Random(4).randbytes(3_000_000).ljust(SIZE, b"\0"))
    qemu_img.convert(raw, target, source_format="raw", target_format="qcow2")
    return target


def qemu_json(options: dict[str, object]) -> str:
    return json.dumps(options)


def test_qemu_img_converts_and_compares_over_tls(location: NbdLocation, hosts: Path, source: Path) -> None:
    tls_dir = hosts / "admitted"
    assert qemu_img.info(location, image_format="raw", tls_dir=tls_dir)["virtual-size"] == SIZE
    qemu_img.convert(source, location, source_format="qcow2", target_format="raw", create=False, tls_dir=tls_dir)
    assert qemu_img.compare(source, location, first_format="qcow2", second_format="raw", tls_dir=tls_dir)


def test_qemu_img_of_another_host_is_refused(location: NbdLocation, hosts: Path) -> None:
    with pytest.raises(QemuImgFailed, match="TLS"):
        qemu_img.info(location, image_format="raw", tls_dir=hosts / "stranger")


def test_a_program_without_tls_writes_through_a_relay(location: NbdLocation, hosts: Path, source: Path) -> None:
    with relayed(location, hosts / "admitted", writable=True) as uri:
        subprocess.run(["qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", str(source), uri], check=True)
        subprocess.run(["qemu-img", "compare", "-f", "qcow2", "-F", "raw", str(source), uri], check=True)
    with NbdClient.connect(
        location.host, location.port, location.export, tls=client_context(hosts / "admitted")
    ) as client:
        assert client.read(0, 3_000_000) == (source.parent / "source.raw").read_bytes()[:3_000_000]


def test_a_relay_for_reading_can_not_be_written_to(location: NbdLocation, hosts: Path, source: Path) -> None:
    with relayed(location, hosts / "admitted", writable=False) as uri:
        command = ["qemu-img", "convert", "-n", "-f", "qcow2", "-O", "raw", str(source), uri]
        assert subprocess.run(command, capture_output=True, check=False).returncode != 0
        assert subprocess.run(["qemu-img", "info", "-f", "raw", uri], capture_output=True, check=False).returncode == 0


def test_a_relay_that_is_refused_says_why(location: NbdLocation, hosts: Path) -> None:
    with pytest.raises(RelayFailed, match="TLS"), relayed(location, hosts / "stranger", writable=True):
        pytest.fail("it was let in")


def test_a_relay_leaves_nothing_behind(location: NbdLocation, hosts: Path) -> None:
    with relayed(location, hosts / "admitted", writable=True) as uri:
        path = Path(uri.partition("socket=")[2])
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert not path.parent.exists()
    running = subprocess.run(["pgrep", "-f", str(path)], capture_output=True, check=False)
    assert running.returncode == 1


@pytest.mark.parametrize("lost", ["ca-cert.pem", "client-cert.pem", "client-key.pem"])
def test_what_is_missing_or_damaged_is_named(hosts: Path, lost: str) -> None:
    (hosts / "admitted" / lost).unlink()
    with pytest.raises(CertificateUnusable, match=rf"{lost}: No such file"):
        client_context(hosts / "admitted")
    (hosts / "admitted" / lost).write_text("rubbish")
    with pytest.raises(CertificateUnusable, match="it is no certificate"):
        client_context(hosts / "admitted")


def test_a_server_of_another_authority_is_not_believed(location: NbdLocation, hosts: Path, tmp_path: Path) -> None:
    make_ca(tmp_path)
    (hosts / "admitted" / "ca-cert.pem").write_bytes((tmp_path / "ca-cert.pem").read_bytes())
    context = client_context(hosts / "admitted")
    with pytest.raises(Exception, match="certificate verify failed"):
        NbdClient.connect(location.host, location.port, location.export, tls=context)
