"""Images made to have Cinder read files of its host (CVE-2024-32498 and its kin) against the real service.

Each names a file that cinder-volume can read and the user cannot. By none of the three ways, and whatever format its
owner says that it has, is anything of that file on a vDisk afterwards. Most are refused; what Cinder sees no format in
is taken for raw when it is said to be, and the volume then has the image's own bytes.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cinder import exception
from cinder.keymgr import conf_key_mgr
from oslo_config import cfg
from tests.cinder.conftest import FakeGlance
from tests.cinder.test_encryption import make_type

from openvstorage.cinder import transfer

Make = Callable[..., Any]
Hostile = Callable[[Path, Path], None]
MIB = 1024**2
SECRET = b"what users may not see".ljust(512) * 2048
VMDK = """# Disk DescriptorFile
version=1
CID=fffffffe
parentCID=ffffffff
createType="{kind}"
RW 2048 FLAT "{secret}" 0
ddb.virtualHWVersion = "4"
ddb.geometry.cylinders = "2"
ddb.geometry.heads = "16"
ddb.geometry.sectors = "63"
ddb.adapterType = "ide"
"""


def qemu_img(*words: str | Path) -> None:
    subprocess.run(["qemu-img", *words], check=True, capture_output=True)


def qcow2_with_a_backing_file(image: Path, secret: Path) -> None:
    qemu_img("create", "-u", "-f", "qcow2", "-F", "raw", "-b", secret, image, "1M")


def qcow2_with_a_backing_file_in_json(image: Path, secret: Path) -> None:
    node = json.dumps({"driver": "raw", "file": {"driver": "file", "filename": str(secret)}})
    qemu_img("create", "-u", "-f", "qcow2", "-F", "raw", "-b", f"json:{node}", image, "1M")


def qcow2_with_a_data_file(image: Path, secret: Path) -> None:
    qemu_img("create", "-f", "qcow2", "-o", f"data_file={secret},data_file_raw=on", image, "1M")
    secret.write_bytes(SECRET)


def qed_with_a_backing_file(image: Path, secret: Path) -> None:
    qemu_img("create", "-u", "-f", "qed", "-F", "raw", "-b", secret, image, "1M")


def vmdk_with_an_extent_elsewhere(image: Path, secret: Path) -> None:
    image.write_text(VMDK.format(kind="monolithicFlat", secret=secret))


def vmdk_that_calls_itself_an_allowed_kind(image: Path, secret: Path) -> None:
    image.write_text(VMDK.format(kind="monolithicSparse", secret=secret))


HOSTILE: list[tuple[Hostile, str]] = [
    (qcow2_with_a_backing_file, "qcow2"),
    (qcow2_with_a_backing_file_in_json, "qcow2"),
    (qcow2_with_a_data_file, "qcow2"),
    (qed_with_a_backing_file, "qed"),
    (vmdk_with_an_extent_elsewhere, "vmdk"),
    (vmdk_that_calls_itself_an_allowed_kind, "vmdk"),
]
# What its owner says: the truth, or that there is nothing to look at. "ami" is raw to Cinder, without its check.
CASES = [(make, claim) for make, kind in HOSTILE for claim in (kind, "raw", "ami")]


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_bytes(SECRET)
    return path


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0].__name__}-said-to-be-{case[1]}")
def image(request: pytest.FixtureRequest, glance: FakeGlance, tmp_path: Path, secret: Path) -> str:
    """The id of a hostile image in Glance."""
    make, claim = request.param
    path = tmp_path / "image"
    make(path, secret)
    glance.add("hostile", path.read_bytes(), disk_format=claim)
    return "hostile"


@pytest.fixture
def encrypted_type(context: Any, driver: Any) -> Iterator[str]:
    cfg.CONF.set_override("backend", f"{conf_key_mgr.__name__}.ConfKeyManager", group="key_manager")
    cfg.CONF.set_override("fixed_key", "9b3c" * 16, group="key_manager")
    yield make_type(context, "luks")
    cfg.CONF.clear_override("backend", group="key_manager")
    cfg.CONF.clear_override("fixed_key", group="key_manager")


def created(driver: Any, volume: Any) -> Any:
    volume.update(driver.create_volume(volume))
    volume.save()
    return volume


def beginning(driver: Any, volume: Any) -> bytes:
    with transfer.opened(driver.pool, volume.provider_id, "ro") as nbd:
        return nbd.read(0, 8 * MIB)


def taken(copy: Callable[[], None], glance: FakeGlance, image: str) -> bool:
    """Tell whether Cinder took an image, which it may only for raw, instead of refusing it."""
    try:
        copy()
    except exception.Invalid:
        return False
    meta, data = glance.images[image]
    assert meta["disk_format"] != "qcow2"
    assert data[:4] not in (b"QFI\xfb", b"QED\0"), "what it could see it has to see"
    return True


def test_it_is_not_streamed_into_a_volume(
    driver: Any, make_volume: Make, glance: FakeGlance, context: Any, image: str
) -> None:
    """Only what is said to be raw is streamed: as what it is, if no format is seen in it, and never opened."""
    volume = make_volume()
    meta = glance.show(context, image)
    try:
        update, done = driver.clone_image(context, volume, (None, None), meta, glance)
    except exception.ImageUnacceptable:
        done = False
    if done:
        volume.update(update)
        with transfer.opened(driver.pool, volume.provider_id, "ro") as nbd:
            assert SECRET[:22] not in nbd.read(0, 8 * MIB)
        driver.delete_volume(volume)
    assert driver.pool.client.vdisks.find(volume.name, driver.pool.vpool_guid) is None


def test_it_is_not_opened_to_be_converted_into_a_volume(
    driver: Any, make_volume: Make, glance: FakeGlance, context: Any, image: str
) -> None:
    volume = created(driver, make_volume())
    own = b""
    if taken(lambda: driver.copy_image_to_volume(context, volume, glance, image), glance, image):
        own = glance.images[image][1]
    assert beginning(driver, volume) == own.ljust(8 * MIB, b"\0")
    assert driver.pool.client.grants.list(volume.provider_id) == []
    driver.delete_volume(volume)
    assert list(Path(cfg.CONF.image_conversion_dir).iterdir()) == []


def test_it_is_not_opened_to_be_encrypted_into_a_volume(
    driver: Any, make_volume: Make, glance: FakeGlance, context: Any, image: str, encrypted_type: str
) -> None:
    volume = make_volume(volume_type_id=encrypted_type, encryption_key_id="00000000-0000-0000-0000-000000000000")
    created(driver, volume)
    empty = beginning(driver, volume)
    if not taken(lambda: driver.copy_image_to_encrypted_volume(context, volume, glance, image), glance, image):
        assert beginning(driver, volume) == empty
    driver.delete_volume(volume)
    assert list(Path(cfg.CONF.image_conversion_dir).iterdir()) == []
