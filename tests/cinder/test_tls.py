"""Images and local processes on an edge with TLS, with this host's certificate and without it."""

from __future__ import annotations

import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cinder import exception
from os_brick import exception as brick_exception
from tests.cinder.conftest import SECRETS, FakeGlance, set_up
from tests.support.vpool_service import VpoolService

from openvstorage.brick.connector import OpenvStorageEdgeConnector
from openvstorage.edge import qemu_img

Make = Callable[..., Any]
IMAGE = random.Random(1).randbytes(3_000_000) + bytes(5_000_000) + random.Random(2).randbytes(512 * 100)


@pytest.fixture(scope="module")
def tls_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VpoolService]:
    with VpoolService(tmp_path_factory.mktemp("vpool-tls"), edge_tls=True) as running:
        yield running


@pytest.fixture(scope="module")
def certificate(tls_service: VpoolService, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate of this host, which is what transfers and the connector are granted to."""
    directory = tmp_path_factory.mktemp("pki") / "host"
    said = tls_service.enroll(socket.gethostname(), directory)
    assert "nbd_tls_x509_cert_dir" in said
    assert str(directory) in said
    return directory


@pytest.fixture
def section(tls_service: VpoolService) -> dict[str, Any]:
    status = tls_service.status
    assert status["edge_tls"]
    password = Path(status["password_file"]).read_text().strip()
    SECRETS.add(password)
    return {
        "openvstorage_management_ips": ",".join(status["management_ips"]),
        "openvstorage_port": status["port"],
        "openvstorage_username": status["username"],
        "openvstorage_password": password,
        "openvstorage_vpool_guid": status["vpool_guid"],
        "openvstorage_ca_file": status["ca_file"],
    }


@pytest.fixture
def tls_driver(section: dict[str, Any], certificate: Path, configure: Make, context: Any) -> Any:
    return set_up(configure({**section, "openvstorage_edge_tls_dir": str(certificate)}), context)


def new_volume(driver: Any, make_volume: Make) -> Any:
    volume = make_volume(size=1)
    volume.update(driver.create_volume(volume))
    volume.save()
    return volume


def qcow2_of(raw: bytes, directory: Path) -> bytes:
    source, target = directory / "image.raw", directory / "image.qcow2"
    source.write_bytes(raw)
    qemu_img.convert(source, target, source_format="raw", target_format="qcow2")
    return target.read_bytes()


def uploaded(driver: Any, volume: Any, glance: FakeGlance, context: Any, disk_format: str) -> bytes:
    meta = glance.add(disk_format, b"", disk_format=disk_format)
    driver.copy_volume_to_image(context, volume, glance, meta)
    return glance.images[disk_format][1]


def test_images_go_in_and_out_over_tls(
    tls_driver: Any, make_volume: Make, glance: FakeGlance, context: Any, tmp_path: Path
) -> None:
    """Raw is streamed by us, anything else goes through Cinder's own qemu-img."""
    glance.add("raw", IMAGE)
    glance.add("converted", qcow2_of(IMAGE, tmp_path), disk_format="qcow2")
    for image_id in ("raw", "converted"):
        volume = new_volume(tls_driver, make_volume)
        tls_driver.copy_image_to_volume(context, volume, glance, image_id)
        streamed = uploaded(tls_driver, volume, glance, context, "raw")
        assert streamed[: len(IMAGE)] == IMAGE
        assert not any(streamed[len(IMAGE) :])
        glance.add("raw", IMAGE)
        path = tmp_path / "back.qcow2"
        path.write_bytes(uploaded(tls_driver, volume, glance, context, "qcow2"))
        assert qemu_img.compare(path, tmp_path / "image.raw", first_format="qcow2", second_format="raw")
        assert tls_driver.pool.client.grants.list(volume.provider_id) == []
        tls_driver.delete_volume(volume)


def test_a_missing_certificate_is_named_and_nothing_stays(
    section: dict[str, Any], configure: Make, make_volume: Make, glance: FakeGlance, context: Any, tmp_path: Path
) -> None:
    nowhere = tmp_path / "nowhere"
    driver = set_up(configure({**section, "openvstorage_edge_tls_dir": str(nowhere)}), context)
    volume = new_volume(driver, make_volume)
    glance.add("raw", IMAGE)
    with pytest.raises(exception.CinderException, match="nowhere"):
        driver.copy_image_to_volume(context, volume, glance, "raw")
    assert driver.pool.client.grants.list(volume.provider_id) == []
    driver.delete_volume(volume)


def test_a_local_process_opens_the_volume_with_its_hosts_certificate(
    tls_driver: Any, make_volume: Make, certificate: Path, attach: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    volume, host = new_volume(tls_driver, make_volume), socket.gethostname()
    attach(volume, host)
    data = tls_driver.initialize_connection(volume, {"host": host})["data"]
    assert data["tls"]
    connector = OpenvStorageEdgeConnector("sudo")
    monkeypatch.setenv("OPENVSTORAGE_EDGE_TLS_DIR", str(tmp_path / "nowhere"))
    with pytest.raises(brick_exception.BrickException, match="nowhere"):
        connector.connect_volume(data)
    monkeypatch.setenv("OPENVSTORAGE_EDGE_TLS_DIR", str(certificate))
    device = connector.connect_volume(data)
    device["path"].write(b"backup")
    device["path"].seek(0)
    assert device["path"].read(6) == b"backup"
    connector.disconnect_volume(data, device)
    tls_driver.terminate_connection(volume, {"host": host}, force=True)
    with pytest.raises(brick_exception.BrickException):
        connector.connect_volume(data)
    tls_driver.delete_volume(volume)
