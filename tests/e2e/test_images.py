"""Images on volumes of the vPool: a volume of one is a clone, and none is ever half.

Glance, its ``cinder`` store and Cinder are stock; what they know of us is a section of configuration each.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from keystoneauth1.exceptions import ConnectFailure
from rich.console import Console
from tests.e2e.conftest import AllInOne
from tests.support.cinder_world import Vpool, eventually

from openvstorage.aio.certificates import TOUR
from openvstorage.aio.cloud import Cloud
from openvstorage.aio.evidence import Content
from openvstorage.aio.paths import Paths
from openvstorage.aio.tour_instance import storage_daemons

pytestmark = pytest.mark.timeout(900)

MIB, GIB = 1024**2, 1024**3
DATA = random.Random(1).randbytes(12 * MIB + 12345)
TYPE = "myvpool01"
CONTENT = Content(GIB, hashlib.sha256(DATA).hexdigest(), len(DATA), True)


class Body:
    """An image of known size that is being sent. When half of it is, something happens."""

    def __init__(self, at_half: Callable[[], None]) -> None:
        self._sent, self._at_half = 0, at_half

    def __len__(self) -> int:
        return len(DATA)

    def read(self, size: int) -> bytes:
        if self._sent <= len(DATA) // 2 < self._sent + size:
            self._at_half()
        piece = DATA[self._sent : self._sent + size]
        self._sent += len(piece)
        return piece


class Images:
    """The cloud's images, and what the vPool knows of the volumes they are on."""

    def __init__(self, cloud: Cloud) -> None:
        self.connection = cloud.connect()
        log, certificate = cloud.paths.log / "e2e-images-edge.log", cloud.certificates.directory(TOUR)
        self.vpool = Vpool(cloud.vpool.status(), log, certificate)
        self._storage, self._images = self.connection.block_storage, self.connection.image

    def make(self) -> str:
        about = {"name": f"e2e-{uuid.uuid4()}", "disk_format": "raw", "container_format": "bare"}
        return str(self._images.post("/images", json=about).json()["id"])

    def upload(self, image: str, body: Any) -> int:
        """Give the status, 0 where the connection was ended."""
        headers = {"Content-Type": "application/octet-stream", "X-Image-Meta-Store": "volumes"}
        try:
            return int(self._images.put(f"/images/{image}/file", data=body, headers=headers).status_code)
        except ConnectFailure:
            return 0

    def download(self, image: str) -> bytes:
        return bytes(self._images.get(f"/images/{image}/file").content)

    def show(self, image: str) -> dict[str, Any]:
        return dict(self._images.get(f"/images/{image}").json())

    def delete(self, image: str) -> None:
        self._images.delete_image(image)

    def volume_of(self, image: str) -> Any:
        """The volume that an image is on, which belongs to the service project."""
        (volume,) = self.volumes_of(image)
        return volume

    def volumes_of(self, image: str) -> list[Any]:
        return list(self._storage.volumes(details=True, all_projects=True, name=f"image-{image}"))

    def make_volume(self, **options: Any) -> str:
        volume = self._storage.create_volume(size=1, volume_type=TYPE, **options)
        eventually(lambda: self._storage.get_volume(volume).status == "available")
        return str(volume.id)

    def delete_volume(self, volume: str) -> None:
        self._storage.delete_volume(volume)
        eventually(lambda: self.vpool.edge.gone(volume))

    def parent(self, volume: str) -> str | None:
        vdisk = self.vpool.client.vdisks.get(self.vpool.edge.vdisk(volume))
        return vdisk.parent_vdisk_guid


@pytest.fixture(scope="module")
def cloud(all_in_one: AllInOne) -> Cloud:
    return Cloud(Paths.of(all_in_one.state), Console(quiet=True))


@pytest.fixture(scope="module")
def images(cloud: Cloud) -> Iterator[Images]:
    images = Images(cloud)
    before = set(images.vpool.vdisks())
    yield images
    eventually(lambda: set(images.vpool.vdisks()) <= before)


def test_a_volume_of_an_image_is_a_clone(images: Images) -> None:
    image = images.make()
    assert images.upload(image, DATA) == 204
    shown = images.show(image)
    found = (shown["status"], shown["size"], shown["os_hash_value"], shown["stores"])
    assert found == ("active", len(DATA), hashlib.sha512(DATA).hexdigest(), "volumes")
    assert images.download(image) == DATA
    base = images.volume_of(image)
    assert base.project_id == images.connection.identity.find_project("service").id
    volume = images.make_volume(image_id=image)
    assert images.parent(volume) == images.vpool.edge.vdisk(base.id)
    assert images.vpool.edge.read(images.vpool.edge.vdisk(volume), len(DATA)) == CONTENT
    # What others came from goes first.
    images.delete(image)
    eventually(partial(images.vpool.edge.gone, base.id))
    assert images.vpool.edge.read(images.vpool.edge.vdisk(volume), len(DATA)) == CONTENT
    images.delete_volume(volume)


def test_an_upload_whose_storage_dies_makes_no_image(images: Images) -> None:
    image = images.make()

    def kill() -> None:
        eventually(lambda: len(images.volumes_of(image)) == 1)
        vdisk = images.vpool.edge.vdisk(images.volume_of(image).id)
        eventually(lambda: len(storage_daemons(vdisk)) == 1)
        os.kill(storage_daemons(vdisk)[0], signal.SIGKILL)

    assert images.upload(image, Body(kill)) in {0, 500}
    eventually(lambda: images.show(image)["status"] == "queued")
    eventually(lambda: images.volumes_of(image) == [])
    # The same again, in pieces that do not say how much will come.
    assert images.upload(image, (DATA[at : at + MIB] for at in range(0, len(DATA), MIB))) == 204
    assert images.show(image)["os_hash_value"] == hashlib.sha512(DATA).hexdigest()
    assert images.download(image) == DATA
    images.delete(image)
