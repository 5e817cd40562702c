"""Images on volumes of a vPool: whole, durable before Glance calls them active, and nothing left behind."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from glance_store import exceptions, location
from tests.glance.conftest import GIB, Cinder

from openvstorage.client import Client, NotFound
from openvstorage.edge.location import NbdLocation
from openvstorage.edge.nbd import NbdClient

CONTEXT = SimpleNamespace(project_id="p", user_id="u")
MIB = 1024**2


def some_bytes(length: int) -> bytes:
    block = hashlib.sha512(b"image").digest() * 1024
    return (block * (length // len(block) + 1))[:length]


class File(io.BytesIO):
    """What an uploader sends. When all is read, and so given to be written, something happens."""

    def __init__(self, data: bytes, at_end: Callable[[], None]) -> None:
        super().__init__(data)
        self._at_end = at_end

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        if not data:
            self._at_end()
        return data


def upload(store: Any, data: bytes, *, size: int | None = None, file: Any = None) -> str:
    identity = str(uuid.uuid4())
    length = len(data) if size is None else size
    url, written, _, digest, _ = store.add(identity, file or io.BytesIO(data), length, "sha512", CONTEXT)
    assert (written, digest) == (len(data), hashlib.sha512(data).hexdigest())
    return str(url)


def download(store: Any, conf: Any, url: str, **part: int) -> bytes:
    place = location.get_location_from_uri_and_backend(url, "volumes", conf=conf)
    chunks, _ = store.get(place, context=CONTEXT, **part)
    return b"".join(chunks)


def on_vdisk(client: Client, guid: str, length: int) -> bytes:
    grant = client.grants.create(guid, "test", "test", "ro")
    at = NbdLocation.from_grant(grant)
    with NbdClient.connect(at.host, at.port, at.export) as nbd:
        return nbd.read(0, length)


@pytest.fixture(autouse=True)
def nothing_is_left(client: Client, cinder: Cinder) -> Any:
    list(client.grants.all())  # which opens a connection that stays
    before = os.listdir("/proc/self/fd")
    yield
    assert cinder.attachments == {}
    assert [grant for grant in client.grants.all() if grant.client != "test"] == []
    assert len(os.listdir("/proc/self/fd")) == len(before)


@pytest.fixture(autouse=True)
def locations_are_known(conf: Any) -> None:
    scheme = {"cinder": {"volumes": {"location_class": _location_class(), "store": None, "store_entry": "cinder"}}}
    location.register_scheme_backend_map(scheme)


def _location_class() -> Any:
    from glance_store._drivers.cinder import store

    return store.StoreLocation


@pytest.mark.parametrize("length", [1, 4 * MIB, GIB, 3 * GIB + 1])
def test_image_comes_back_as_it_was(store, conf, cinder, client, length) -> None:
    data = some_bytes(length)
    url = upload(store, data)
    (volume,) = cinder.volumes.values()
    assert url == f"cinder://volumes/{volume.id}"
    assert volume.readonly
    assert volume.metadata["image_size"] == str(length)
    assert on_vdisk(client, volume.vdisk, length) == data
    assert download(store, conf, url) == data


def test_part_of_an_image(store, conf) -> None:
    data = some_bytes(GIB)
    url = upload(store, data)
    assert download(store, conf, url, offset=12345, chunk_size=4321) == data[12345 : 12345 + 4321]


@pytest.mark.parametrize("attached", [False, True])
@pytest.mark.parametrize("piece", [4 * MIB, 300_000])
def test_volume_of_an_image_of_unknown_size_grows(store, conf, cinder, monkeypatch, attached, piece) -> None:
    conf.set_override("cinder_do_extend_attached", attached, "volumes")
    monkeypatch.setattr(store, "WRITE_CHUNKSIZE", piece)
    data = some_bytes(3 * GIB - 99)
    url = upload(store, data, size=0)
    (volume,) = cinder.volumes.values()
    assert (volume.size, volume.metadata["image_size"]) == (3, str(len(data)))
    assert download(store, conf, url) == data


def test_what_is_not_durable_is_no_image(store, cinder, client) -> None:
    """The last bytes are on their way when the host loses its access: nothing but the flush can tell."""

    def lose_access() -> None:
        (attachment,) = cinder.attachments.values()
        client.grants.revoke(attachment.grant)
        attachment.grant = None

    data = some_bytes(4 * MIB)
    with pytest.raises(OSError, match="NBD server"):
        upload(store, data, file=File(data, lose_access))
    assert cinder.volumes == {}


def test_storage_daemon_that_dies_fails_the_upload(store, cinder, service) -> None:
    def kill() -> None:
        (volume,) = cinder.volumes.values()
        (pid,) = daemons(volume.vdisk, service.data)
        os.kill(pid, signal.SIGKILL)

    data = some_bytes(4 * MIB)
    with pytest.raises(OSError, match="NBD server"):
        upload(store, data, file=File(data, kill))
    assert cinder.volumes == {}


def daemons(vdisk: str, data: Path) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            words = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if b"qemu-storage-daemon" in words and vdisk.encode() in words and str(data).encode() in words:
            found.append(int(entry.name))
    return found


def test_uploader_that_sends_too_much_is_refused(store, cinder) -> None:
    with pytest.raises(exceptions.Invalid, match="Size exceeds"):
        upload(store, some_bytes(2000), size=1000)
    assert cinder.volumes == {}


def test_volume_that_cannot_be_opened_is_said_so(store, cinder, client, monkeypatch) -> None:
    update = cinder.attachment_update

    def revoked(*args: Any, **kwargs: Any) -> Any:
        attachment = update(*args, **kwargs)
        client.grants.revoke(attachment.grant)
        attachment.grant = None
        return attachment

    monkeypatch.setattr(cinder, "attachment_update", revoked)
    with pytest.raises(Exception, match="does not exist"):
        upload(store, some_bytes(1000))
    assert cinder.volumes == {}


def test_delete_takes_the_volume(store, conf, cinder, client) -> None:
    url = upload(store, some_bytes(1000))
    (volume,) = cinder.volumes.values()
    store.delete(location.get_location_from_uri_and_backend(url, "volumes", conf=conf), context=CONTEXT)
    with pytest.raises(NotFound):
        client.vdisks.get(volume.vdisk)
