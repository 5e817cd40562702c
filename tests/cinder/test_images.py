"""Images in and out against the real service: every byte, no zeroes, no lies about formats and nothing left behind."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cinder import exception
from cinder import utils as cinder_utils
from eventlet import tpool
from tests.cinder.conftest import GIB, FakeGlance
from tests.support.patience import PATIENCE
from tests.support.vpool_service import VpoolService

from openvstorage.cinder import transfer
from openvstorage.edge import qemu_img
from openvstorage.edge.location import NbdLocation
from openvstorage.edge.nbd import NbdClient

Make = Callable[..., Any]
MIB = 1024 * 1024


def sparse(size: int, seed: int) -> bytes:
    rng = random.Random(seed)
    image = bytearray(size)
    for at in range(0, size, 7 * MIB):
        piece = rng.randbytes(min(300_000, size - at))
        image[at : at + len(piece)] = piece
    return bytes(image)


def qcow2_of(raw: bytes, directory: Path) -> bytes:
    source, target = directory / "image.raw", directory / "image.qcow2"
    source.write_bytes(raw)
    qemu_img.convert(source, target, source_format="raw", target_format="qcow2")
    return target.read_bytes()


def content(driver: Any, volume: Any, length: int) -> bytes:
    """Read a volume by another way than the driver's: qemu-img, into a file."""
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"content-{uuid.uuid4()}"
    with transfer.transfer(driver.pool, volume.provider_id, "ro") as grant:
        qemu_img.convert(NbdLocation.from_grant(grant), path, source_format="raw", target_format="raw")
    try:
        with path.open("rb") as file:
            assert path.stat().st_size == volume.size * GIB
            return file.read(length)
    finally:
        path.unlink()


def used(service: VpoolService) -> int:
    """Give the bytes that the vPool's directory takes of its disk."""
    return sum(path.stat().st_blocks * 512 for path in service.data.rglob("*") if path.is_file())


def new_volume(driver: Any, make_volume: Make, size: int = 1) -> Any:
    volume = make_volume(size=size)
    volume.update(driver.create_volume(volume))
    volume.save()
    return volume


def grants(driver: Any, volume: Any) -> list[Any]:
    return list(driver.pool.client.grants.list(volume.provider_id))


def streamed(driver: Any, context: Any, volume: Any, glance: FakeGlance, image_id: str, location: Any = None) -> bool:
    meta = glance.show(context, image_id)
    update, done = driver.clone_image(context, volume, location or (None, None), meta, glance)
    if update:
        volume.update(update)
        volume.save()
    return bool(done)


def test_a_raw_image_streams_into_the_volume(driver: Any, make_volume: Make, glance: FakeGlance, context: Any) -> None:
    image = sparse(40 * MIB + 512, 1)
    glance.add("raw", image)
    volume = make_volume()
    assert streamed(driver, context, volume, glance, "raw")
    assert glance.downloads == 1
    assert content(driver, volume, len(image) + MIB) == image + bytes(MIB)
    assert grants(driver, volume) == []
    driver.delete_volume(volume)


def nothing_of(driver: Any, volume: Any) -> bool:
    return driver.pool.client.vdisks.find(volume.name, driver.pool.vpool_guid) is None


def test_what_claims_to_be_raw_and_is_not_is_refused(
    driver: Any, make_volume: Make, glance: FakeGlance, context: Any, tmp_path: Path
) -> None:
    glance.add("liar", qcow2_of(sparse(4 * MIB, 2), tmp_path))
    volume = make_volume()
    with pytest.raises(exception.ImageUnacceptable, match="qcow2"):
        streamed(driver, context, volume, glance, "liar")
    assert nothing_of(driver, volume)


def test_an_image_larger_than_the_volume_is_refused_before_anything_is_written(
    driver: Any, make_volume: Make, glance: FakeGlance, context: Any
) -> None:
    glance.add("large", b"x", size=GIB + 1)
    volume = make_volume()
    with pytest.raises(exception.ImageUnacceptable, match="size"):
        streamed(driver, context, volume, glance, "large")
    assert glance.downloads == 0
    assert nothing_of(driver, volume)


def test_a_download_that_ends_early_leaves_no_volume(
    driver: Any, make_volume: Make, glance: FakeGlance, context: Any
) -> None:
    glance.add("cut", b"x" * MIB, size=2 * MIB)
    volume = make_volume()
    with pytest.raises(exception.ImageDownloadFailed, match=str(2 * MIB)):
        streamed(driver, context, volume, glance, "cut")
    assert nothing_of(driver, volume)


def test_cinder_goes_its_own_way_where_that_does_more(
    driver: Any, make_volume: Make, glance: FakeGlance, context: Any
) -> None:
    glance.add("qcow2", b"", disk_format="qcow2", size=100)
    glance.add("signed", b"x" * 512, properties={"img_signature_hash_method": "SHA-256"})
    glance.add("volume", b"x" * 512)
    glance.add("compressed", b"x" * 512, container_format="compressed")
    volume = make_volume()
    for image_id in ("qcow2", "signed", "compressed"):
        assert not streamed(driver, context, volume, glance, image_id)
    assert not streamed(driver, context, volume, glance, "volume", ("cinder://abc", None))
    assert not streamed(driver, context, volume, glance, "volume", (None, [{"url": "cinder://abc"}]))
    assert nothing_of(driver, volume)


def test_a_qcow2_image_is_converted_into_the_volume(
    driver: Any, make_volume: Make, glance: FakeGlance, context: Any, tmp_path: Path
) -> None:
    raw = sparse(24 * MIB, 3)
    glance.add("qcow2", qcow2_of(raw, tmp_path), disk_format="qcow2")
    volume = new_volume(driver, make_volume)
    driver.copy_image_to_volume(context, volume, glance, "qcow2")
    assert content(driver, volume, len(raw) + MIB) == raw + bytes(MIB)
    assert grants(driver, volume) == []
    driver.delete_volume(volume)


@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
def test_reimage_leaves_nothing_of_the_old_image(
    driver: Any, make_volume: Make, glance: FakeGlance, context: Any, tmp_path: Path, disk_format: str
) -> None:
    old, new = b"old!" * (8 * MIB), sparse(24 * MIB, 4)
    glance.add("old", old)
    glance.add("new", new if disk_format == "raw" else qcow2_of(new, tmp_path), disk_format=disk_format)
    volume = make_volume()
    assert streamed(driver, context, volume, glance, "old")
    driver.copy_image_to_volume(context, volume, glance, "new", disable_sparse=True)
    assert content(driver, volume, len(new)) == new
    driver.delete_volume(volume)


def test_a_thin_image_stays_thin_over_an_older_one(
    driver: Any, make_volume: Make, glance: FakeGlance, context: Any, tmp_path: Path, service: VpoolService
) -> None:
    image = tmp_path / "thin.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(image), "1G"], check=True)
    glance.add("old", b"old!" * (4 * MIB))
    glance.add("thin", image.read_bytes(), disk_format="qcow2")
    volume = make_volume()
    before = used(service)
    assert streamed(driver, context, volume, glance, "old")
    driver.copy_image_to_volume(context, volume, glance, "thin", disable_sparse=True)
    assert content(driver, volume, 17 * MIB) == bytes(17 * MIB)
    assert used(service) - before < 64 * MIB
    driver.delete_volume(volume)


def test_a_volume_in_use_becomes_a_raw_image(driver: Any, make_volume: Make, glance: FakeGlance, context: Any) -> None:
    image = sparse(20 * MIB, 5)
    glance.add("source", image)
    volume = make_volume()
    streamed(driver, context, volume, glance, "source")
    grant = driver.pool.client.grants.create(volume.provider_id, "host1", "instance-1")
    with NbdClient.connect(grant.host, grant.port, grant.export_name) as guest:
        driver.copy_volume_to_image(context, volume, glance, glance.add("copy", b""))
        guest.write(0, b"still writing".ljust(512))
    data = glance.images["copy"][1]
    assert len(data) == GIB
    assert data[: len(image)] == image
    assert [left.guid for left in grants(driver, volume)] == [grant.guid]
    driver.pool.client.grants.revoke(grant.guid)
    driver.delete_volume(volume)


@pytest.mark.parametrize("disk_format", ["raw", "qcow2"])
def test_with_native_threads_eventlet_reads_nothing_for_glance(
    driver: Any,
    make_volume: Make,
    glance: FakeGlance,
    context: Any,
    disk_format: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its thread pool serves the first native thread that asks it, and lets the others wait for ever."""
    given: list[Any] = []
    update = glance.update

    def watch(context: Any, image_id: str, meta: dict[str, Any], data: Any, **options: Any) -> None:
        given.append(data)
        update(context, image_id, meta, data, **options)

    monkeypatch.setattr(glance, "update", watch)
    monkeypatch.setattr(cinder_utils, "concurrency_mode_threading", lambda: True, raising=False)
    volume = new_volume(driver, make_volume)
    driver.copy_volume_to_image(context, volume, glance, glance.add("copy", b"", disk_format=disk_format))
    assert [isinstance(each, tpool.Proxy) for each in given] == [False]
    assert glance.images["copy"][1]
    driver.delete_volume(volume)


def test_what_a_guest_wrote_is_never_taken_for_a_format(
    driver: Any, make_volume: Make, glance: FakeGlance, context: Any, tmp_path: Path
) -> None:
    """A volume that begins like a qcow2 file with a backing file must not give away the backing file."""
    evil = tmp_path / "evil.qcow2"
    options = ["-f", "qcow2", "-F", "raw", "-b", "/etc/hostname", str(evil), "1M"]
    subprocess.run(["qemu-img", "create", "-q", "-u", *options], check=True)
    volume = new_volume(driver, make_volume)
    with (
        transfer.transfer(driver.pool, volume.provider_id, "rw") as grant,
        NbdClient.connect(grant.host, grant.port, grant.export_name) as nbd,
    ):
        nbd.write(0, evil.read_bytes().ljust(MIB, b"\0"))
        nbd.flush()
    driver.copy_volume_to_image(context, volume, glance, glance.add("copy", b"", disk_format="qcow2"))
    copy = tmp_path / "copy.qcow2"
    copy.write_bytes(glance.images["copy"][1])
    assert qemu_img.info(copy, image_format="qcow2")["virtual-size"] == GIB
    assert qemu_img.compare(copy, evil, first_format="qcow2", second_format="raw")
    driver.delete_volume(volume)


def test_a_transfer_that_died_does_not_lock_the_volume(
    driver: Any, make_volume: Make, glance: FakeGlance, context: Any
) -> None:
    glance.add("raw", b"x" * MIB)
    volume = new_volume(driver, make_volume)
    driver.pool.client.grants.create(volume.provider_id, "host1", f"transfer-{uuid.uuid4()}", deadline_seconds=600)
    driver.copy_image_to_volume(context, volume, glance, "raw", disable_sparse=True)
    assert grants(driver, volume) == []
    driver.delete_volume(volume)


def test_an_attached_volume_is_not_overwritten(
    driver: Any, make_volume: Make, glance: FakeGlance, context: Any
) -> None:
    glance.add("raw", b"x" * MIB)
    volume = new_volume(driver, make_volume)
    grant = driver.pool.client.grants.create(volume.provider_id, "host1", "instance-1")
    with pytest.raises(exception.VolumeIsBusy, match="instance-1"):
        driver.copy_image_to_volume(context, volume, glance, "raw", disable_sparse=True)
    assert [left.guid for left in grants(driver, volume)] == [grant.guid]
    driver.pool.client.grants.revoke(grant.guid)
    driver.delete_volume(volume)


def test_it_works_in_green_threads_and_in_native_ones(service_section: dict[str, Any], tmp_path: Path) -> None:
    """Cinder patches sockets for eventlet, and hands our file to native threads all the same."""
    script = Path(__file__).with_name("green_transfer.py")
    for patched in ("yes", "no"):
        environment = {
            **os.environ,
            "OS_CINDER_DISABLE_EVENTLET_PATCHING": "" if patched == "yes" else "true",
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        section = "\n".join(f"{key} = {value}" for key, value in service_section.items())
        config = tmp_path / f"{patched}.conf"
        config.write_text(f"[myvpool01]\n{section}\n")
        command = [sys.executable, "-W", "ignore", str(script), str(config), patched]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert result.returncode == 0, result.stderr
        assert result.stdout.split() == ["same", patched]
