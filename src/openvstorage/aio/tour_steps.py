"""Steps: what the tour does with volumes, and what it expects to find on a path that OpenStack has no part in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from openvstorage.aio.evidence import Content, EdgeEvidence, content_of_file, expect
from openvstorage.aio.user import User

__all__ = ["PREFIX", "TourSteps"]

# Of the names of everything that the tour makes.
PREFIX = "tour-"
_GIB = 1024**3
# What the tour writes over a volume after a snapshot: inside the image, and no values that are there already.
_PATCH_OFFSET = 32 * 1024**2
_PATCH = bytes([0x5A]) * 65536
_SECOND_PATCH = bytes([0xA7]) * 65536
_AT_ONCE = 20
_READERS = 3
_CHUNK = bytes(4 * 1024**2)


class TourSteps:
    """The steps in their order. Each builds on the ones before it, returns its evidence in words or raises.

    :param user: does what has to be done.
    :param edge: looks whether it was done.
    :param image: file that holds the image.
    :param backend: the vPool's name, which is also that of Cinder's backend.
    :param corrupt: falsify one byte between making and comparing a volume, to show that the tour notices.
    """

    def __init__(self, user: User, edge: EdgeEvidence, image: Path, backend: str, *, corrupt: bool = False) -> None:
        self._user = user
        self._edge = edge
        self._image = image
        self._backend = backend
        self._corrupt = corrupt
        # Ids of all volumes that came and will have to be gone, by name.
        self._volumes: dict[str, str] = {}

    def all(self) -> list[tuple[str, Callable[[], str]]]:
        """Return name and action of each step."""
        return [
            ("make a volume type", self._volume_type),
            ("create an empty volume", self._empty_volume),
            ("upload a bootable image", self._upload_image),
            ("create a volume from the image", self._volume_from_image),
            ("take a snapshot", self._snapshot),
            ("create a volume from the snapshot", self._volume_from_snapshot),
            ("clone the volume, larger", self._clone),
            ("extend the volume", self._extend),
            ("revert the volume to a snapshot", self._revert),
            ("make an image of a volume", self._image_from_volume),
            (f"create {_AT_ONCE} volumes at once", self._many_volumes),
            ("delete from the root up, keep the leaves", self._delete_from_the_root),
            ("delete the rest at once", self._delete_rest),
        ]

    def _volume_type(self) -> str:
        words = ("--property", f"volume_backend_name={self._backend}")
        self._user.begin("volume type", "type", *words)
        expect("the vPool that the type asks for", self._backend, self._edge.vpool_name())
        return f"the management API's vPool is the {self._backend} that the type asks for"

    def _empty_volume(self) -> str:
        volume = self._make_volume("empty", "--size", "1")
        content = self._edge.read(self._edge.vdisk(volume), 0)
        expect("the volume through the edge", (_GIB, True), (content.size, content.rest_is_zero))
        return f"through the edge: {content.size} bytes, every one zero"

    def _upload_image(self) -> str:
        self._user.begin(
            *("image", "image", "--disk-format", "raw", "--container-format", "bare", "--file", str(self._image))
        )
        self._user.wait("image", "image", "active")
        return self._compare_image("image", self._image.stat().st_size)

    def _volume_from_image(self) -> str:
        volume = self._make_volume("boot", "--image", self._user.ids["image"], "--size", "1")
        vdisk = self._edge.vdisk(volume)
        if self._corrupt:
            self._edge.write(vdisk, _PATCH_OFFSET + 4711, 0xFF, 1)
        return self._compare("the volume", vdisk, _GIB, self._original())

    def _snapshot(self) -> str:
        snapshot, vdisk = self._make_snapshot("snapshot", "boot"), self._vdisk("boot")
        self._edge.write(vdisk, _PATCH_OFFSET, _PATCH[0], len(_PATCH))
        changed = self._compare("the volume, after a write", vdisk, _GIB, self._patched())
        guid = self._edge.snapshot(vdisk, snapshot)
        return self._compare("the snapshot", vdisk, _GIB, self._original(), guid) + "; " + changed

    def _volume_from_snapshot(self) -> str:
        volume = self._make_volume("restored", "--snapshot", self._user.ids["snapshot"])
        return self._compare("the new volume", self._edge.vdisk(volume), _GIB, self._original())

    def _clone(self) -> str:
        volume = self._make_volume("clone", "--source", self._user.ids["boot"], "--size", "2")
        return self._compare("the clone", self._edge.vdisk(volume), 2 * _GIB, self._patched())

    def _extend(self) -> str:
        self._user.run("volume", "set", "--size", "2", self._user.ids["boot"])
        self._user.wait("volume", "boot", "available")
        return self._compare("the volume", self._vdisk("boot"), 2 * _GIB, self._patched())

    def _revert(self) -> str:
        # Cinder reverts to the newest snapshot only, and to none of a time when the volume was smaller.
        snapshot, vdisk = self._make_snapshot("second", "boot"), self._vdisk("boot")
        self._edge.write(vdisk, _PATCH_OFFSET, _SECOND_PATCH[0], len(_SECOND_PATCH))
        spoilt = content_of_file(self._image, (_PATCH_OFFSET, _SECOND_PATCH))
        before = self._compare("the volume, after a write", vdisk, 2 * _GIB, spoilt)
        self._user.run("volume", "revert", snapshot)
        self._user.wait("volume", "boot", "available")
        # A revert may put another vDisk behind the volume.
        return before + "; " + self._compare("reverted", self._vdisk("boot"), 2 * _GIB, self._patched())

    def _image_from_volume(self) -> str:
        words = ("--volume", self._user.ids["restored"], "--disk-format", "raw", "--container-format", "bare")
        # The answer is about the volume; the image is one of its fields.
        self._user.ids["copy"] = self._user.ask("image", "create", *words, f"{PREFIX}copy")["image_id"]
        self._user.wait("image", "copy", "active")
        self._user.wait("volume", "restored", "available")
        return self._compare_image("copy", _GIB)

    def _many_volumes(self) -> str:
        # Cinder's own limit of volumes in a project is 10.
        self._user.run("quota", "set", "--volumes", str(2 * _AT_ONCE), "--snapshots", str(2 * _AT_ONCE), "admin")
        sources = (("--snapshot", self._user.ids["snapshot"]), ("--image", self._user.ids["image"]))
        names = [f"many{number:02}" for number in range(_AT_ONCE)]
        for number, name in enumerate(names):
            self._begin_volume(name, *sources[number % 2], "--size", "1")
        self._user.wait_all(names)
        original = self._original()
        with ThreadPoolExecutor(_READERS) as pool:
            compared = pool.map(lambda name: self._compare(f"volume {name}", self._vdisk(name), _GIB, original), names)
            # What differs is raised where the results are taken.
            list(compared)
        return f"through the edge: each of the {len(names)} has {_GIB} bytes, the image's first, the rest zero"

    def _delete_from_the_root(self) -> str:
        """Delete, without waiting for one another, what others came from: a snapshot, its volume, a child of that."""
        snapshot = self._make_snapshot("third", "restored")
        self._make_volume("grandchild", "--snapshot", snapshot)
        leaves = {name: self._vdisk(name) for name in ("grandchild", "many00", "many01", "clone")}
        self._user.delete("volume snapshot", "snapshot")
        # With the snapshots that they have left, of which other volumes came; Cinder refuses it without this option.
        going = self._user.begin_delete("volume", "boot", "restored", options=("--cascade",))
        going += self._user.begin_delete("volume", *(f"many{number:02}" for number in range(2, _AT_ONCE)))
        self._user.wait_gone("volume", going)
        for name in ("second", "third"):
            self._user.ids.pop(name)
        clone = self._compare("the clone", leaves.pop("clone"), 2 * _GIB, self._patched())
        return "; ".join(
            [self._compare(f"the leaf {name}", vdisk, _GIB, self._original()) for name, vdisk in leaves.items()]
            + [clone]
        )

    def _delete_rest(self) -> str:
        self._user.delete("volume", "clone", "grandchild", "many00", "many01", "empty")
        self._user.delete("image", "image", "copy")
        self._user.run("volume", "type", "delete", self._user.ids.pop("type"))
        left = [name for name, volume in self._volumes.items() if not self._edge.gone(volume)]
        expect("vDisks that are left on the vPool", [], left)
        return f"the vPool has none of the {len(self._volumes)} vDisks any more"

    # What steps share.

    def _original(self) -> str:
        return content_of_file(self._image)

    def _patched(self) -> str:
        return content_of_file(self._image, (_PATCH_OFFSET, _PATCH))

    def _vdisk(self, name: str) -> str:
        return self._edge.vdisk(self._user.ids[name])

    def _begin_volume(self, name: str, *words: str) -> None:
        self._user.begin("volume", name, "--type", PREFIX + "type", *words)
        self._volumes[name] = self._user.ids[name]

    def _make_volume(self, name: str, *words: str) -> str:
        self._begin_volume(name, *words)
        self._user.wait("volume", name, "available")
        return self._user.ids[name]

    def _make_snapshot(self, name: str, volume: str) -> str:
        return self._user.make("volume snapshot", name, "--volume", self._user.ids[volume])

    def _compare(self, what: str, vdisk: str, size: int, sha256: str, snapshot: str | None = None) -> str:
        length = self._image.stat().st_size
        content = self._edge.read(vdisk, length, snapshot)
        expect(f"{what} through the edge", Content(size, sha256, length, True), content)
        return (
            f"{what} through the edge: {size} bytes, SHA-256 of the image's part {sha256[:16]}… as expected, rest zero"
        )

    def _compare_image(self, name: str, size: int) -> str:
        """Compare an image in Glance with the image's file, followed by zeros up to ``size``."""
        digest = hashlib.sha512(self._image.read_bytes())
        left = size - self._image.stat().st_size
        while left > 0:
            digest.update(_CHUNK[: min(left, len(_CHUNK))])
            left -= len(_CHUNK)
        stored = self._user.show("image", name)
        found = (stored["size"], stored["properties"]["os_hash_algo"], stored["properties"]["os_hash_value"])
        expect("what Glance has", (size, "sha512", digest.hexdigest()), found)
        return f"Glance has {size} bytes and the SHA-512 of the file: {digest.hexdigest()[:16]}…"
