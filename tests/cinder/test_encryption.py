"""Encrypted volumes against the real service, opened again as Nova's QEMU opens them."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cinder import exception
from cinder.db import api as db
from cinder.keymgr import conf_key_mgr
from cinder.volume import volume_types
from oslo_config import cfg
from tests.cinder.conftest import GIB, FakeGlance, read_by_user

from openvstorage.cinder import transfer
from openvstorage.cinder.refusal import TypeRefused
from openvstorage.edge import qemu_img

Make = Callable[..., Any]
MIB = 1024 * 1024
KEY = "9b3c" * 16
HEADER = 2068480


@pytest.fixture
def encrypted_type(context: Any, driver: Any) -> Iterator[str]:
    """A LUKS type, its key in Cinder's own key manager for tests."""
    cfg.CONF.set_override("backend", f"{conf_key_mgr.__name__}.ConfKeyManager", group="key_manager")
    cfg.CONF.set_override("fixed_key", KEY, group="key_manager")
    yield make_type(context, "luks")
    cfg.CONF.clear_override("backend", group="key_manager")
    cfg.CONF.clear_override("fixed_key", group="key_manager")


def make_type(context: Any, provider: str) -> str:
    name = f"encrypted-{random.randrange(10**9)}"
    kind: str = volume_types.create(context, name)["id"]
    values = {"provider": provider, "cipher": "aes-xts-plain64", "key_size": 256, "control_location": "front-end"}
    db.volume_type_encryption_create(context, kind, values)
    return kind


@pytest.fixture
def make_encrypted(make_volume: Make, encrypted_type: str) -> Callable[..., Any]:
    def make(**fields: Any) -> Any:
        key = "00000000-0000-0000-0000-000000000000"
        return make_volume(volume_type_id=encrypted_type, encryption_key_id=key, **fields)

    return make


@pytest.fixture
def decrypt(driver: Any, tmp_path: Path) -> Callable[..., bytes]:
    """Give what a guest sees of a volume, through QEMU's LUKS over NBD."""

    def read(volume: Any, passphrase: str = KEY) -> bytes:
        secret, plain = tmp_path / "passphrase", tmp_path / "plain.raw"
        secret.write_text(passphrase)
        with transfer.transfer(driver.pool, volume.provider_id, "ro") as grant:
            place = f"file.server.type=inet,file.server.host={grant.host},file.server.port={grant.port}"
            options = f"driver=luks,key-secret=s,file.driver=nbd,{place},file.export={grant.export_name}"
            command = ["qemu-img", "convert", "--object", f"secret,id=s,file={secret}", "--image-opts", options]
            subprocess.run([*command, "-O", "raw", str(plain)], check=True, capture_output=True)
        return plain.read_bytes()

    return read


def created(driver: Any, volume: Any) -> Any:
    volume.update(driver.create_volume(volume))
    volume.save()
    return volume


def test_a_new_volume_opens_with_its_key_and_no_other(driver: Any, make_encrypted: Make, decrypt: Any) -> None:
    volume = created(driver, make_encrypted())
    assert len(decrypt(volume)) == GIB - HEADER
    with pytest.raises(subprocess.CalledProcessError):
        decrypt(volume, "0" * 64)
    assert driver.pool.client.grants.list(volume.provider_id) == []
    driver.delete_volume(volume)


@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
def test_an_image_is_encrypted_into_the_volume(
    driver: Any,
    make_encrypted: Make,
    decrypt: Any,
    glance: FakeGlance,
    context: Any,
    tmp_path: Path,
    disk_format: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    raw = tmp_path / "image.raw"
    raw.write_bytes(random.Random(7).randbytes(MIB) + bytes(7 * MIB) + b"end".ljust(MIB))
    image = tmp_path / f"image.{disk_format}"
    if disk_format != "raw":
        qemu_img.convert(raw, image, source_format="raw", target_format=disk_format)
    glance.add("image", image.read_bytes(), disk_format=disk_format)
    volume = created(driver, make_encrypted())
    driver.copy_image_to_encrypted_volume(context, volume, glance, "image")
    assert decrypt(volume)[: 9 * MIB] == raw.read_bytes()
    with transfer.opened(driver.pool, volume.provider_id, "ro") as nbd:
        assert b"end".ljust(512) not in nbd.read(0, 16 * MIB)
    copy = make_encrypted(size=2)
    copy.update(driver.create_cloned_volume(copy, volume))
    assert decrypt(copy)[: 9 * MIB] == raw.read_bytes()
    assert KEY not in caplog.text
    for done in (copy, volume):
        driver.delete_volume(done)


def test_an_image_that_leaves_no_room_for_the_header_is_refused(
    driver: Any, make_encrypted: Make, glance: FakeGlance, context: Any, tmp_path: Path
) -> None:
    image = tmp_path / "full.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1G"], check=True)
    glance.add("full", image.read_bytes(), disk_format="qcow2")
    volume = created(driver, make_encrypted())
    with pytest.raises(exception.VolumeBackendAPIException, match="smaller"):
        driver.copy_image_to_encrypted_volume(context, volume, glance, "full")
    driver.delete_volume(volume)


def test_an_image_of_another_format_than_it_says_is_refused(
    driver: Any, make_encrypted: Make, glance: FakeGlance, context: Any, tmp_path: Path
) -> None:
    image = tmp_path / "image.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "8M"], check=True)
    glance.add("liar", image.read_bytes(), disk_format="raw")
    volume = created(driver, make_encrypted())
    with pytest.raises(exception.ImageUnacceptable, match="claimed"):
        driver.copy_image_to_encrypted_volume(context, volume, glance, "liar")
    driver.delete_volume(volume)


@pytest.mark.parametrize("provider", ["luks2", "plain"])
def test_a_provider_that_nova_cannot_open_here_is_refused_and_leaves_nothing(
    driver: Any, make_volume: Make, encrypted_type: str, context: Any, provider: str
) -> None:
    volume = make_volume(volume_type_id=make_type(context, provider), encryption_key_id="0" * 8)
    with pytest.raises(TypeRefused, match=f"{provider}.*'luks'"):
        driver.create_volume(volume)
    assert driver.pool.client.vdisks.find(volume.name, driver.pool.vpool_guid) is None
    assert provider in read_by_user(volume)


@pytest.mark.parametrize("adds", [True, False])
def test_the_copy_that_a_retype_between_encryptions_makes_is_refused(
    driver: Any, make_volume: Make, encrypted_type: str, make_encrypted: Make, context: Any, adds: bool
) -> None:
    """Cinder makes a volume of the new type and copies; the user knows the original only."""
    original, wanted = (make_volume, make_encrypted) if adds else (make_encrypted, make_volume)
    volume = original()
    copy = wanted(migration_status=f"target:{volume.id}")
    with pytest.raises(TypeRefused, match="encryption"):
        driver.create_volume(copy)
    assert driver.pool.client.vdisks.find(copy.name, driver.pool.vpool_guid) is None
    assert "encryption" in read_by_user(volume)
    with pytest.raises(TypeRefused, match="encryption"):
        driver.before_volume_copy(context, volume, copy, remote="dest")


def test_a_copy_to_another_backend_with_the_same_encryption_is_made(driver: Any, make_encrypted: Make) -> None:
    volume = make_encrypted()
    copy = created(driver, make_encrypted(migration_status=f"target:{volume.id}"))
    driver.before_volume_copy(None, volume, copy, remote="dest")
    driver.delete_volume(copy)


def test_an_old_cluster_has_no_encrypted_volumes(standin_driver: Any, make_encrypted: Make) -> None:
    volume = make_encrypted()
    with pytest.raises(TypeRefused, match="NBD"):
        standin_driver.create_volume(volume)
    assert standin_driver.pool.client.vdisks.find(volume.name, standin_driver.pool.vpool_guid) is None


def test_no_passphrase_is_left_on_the_host(driver: Any, make_encrypted: Make) -> None:
    volume = created(driver, make_encrypted())
    driver.delete_volume(volume)
    assert list(Path(cfg.CONF.image_conversion_dir).iterdir()) == []
