"""Operations of Cinder that are begun, cut off in the middle, and looked at afterwards.

Each works on a volume of its own, so that many can be under way at once.
"""

from __future__ import annotations

import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from tests.support.cinder_world import FIRST, GIB, SECOND, CinderWorld, eventually
from tests.support.gate import Passing

from openvstorage.client import NotFound, Qos

__all__ = ["OPERATIONS", "Operation"]

Match = Callable[[Passing], bool]
_MIB = 1024**2


class Operation(ABC):
    """One operation.

    :ivar waits: the API answers only when cinder-volume has; so ``begin`` blocks, and fails if that is killed.
    """

    waits: ClassVar[bool] = False

    def __init__(self, world: CinderWorld, image: Path) -> None:
        self.world = world
        self.vpool = world.vpools[FIRST]
        self.image = image
        self.volume = ""
        self.vdisk = ""

    def prepare(self) -> None:
        """Make the volume that it works on."""
        self.volume = self.world.make(FIRST)
        self.vdisk = self.world.vdisk(self.volume)

    @abstractmethod
    def begin(self) -> None:
        """Ask for it."""

    def points(self) -> list[Match]:
        """Give the calls in the middle of it, the most telling first."""
        return [self.changes]

    @abstractmethod
    def check(self) -> None:
        """Look at what has become of it after the restart, and do it again or take it away, as a user would."""

    def clean(self) -> None:
        """Delete what is left; that it can be deleted is part of the test."""
        if self.world.status(self.volume) != "gone":
            self.world.delete(self.volume)

    def changes(self, call: Passing) -> bool:
        """Tell whether a call changes the volume's vDisk."""
        return call.method != "GET" and self.vdisk in call.path + json.dumps(call.body)

    def revokes(self, call: Passing) -> bool:
        """Tell whether a call ends a grant of the volume's vDisk."""
        if not call.path.endswith("/revoke/"):
            return False
        try:
            return self.vpool.client.grants.get(call.path.split("/")[-3]).vdisk_guid == self.vdisk
        except NotFound:
            return False

    def fails(self) -> None:
        """The volume that was being made is an error, and deleting it takes what there was of its vDisk."""
        eventually(lambda: self.world.status(self.volume) == "error")
        self.clean()
        assert f"volume-{self.volume}" not in self.vpool.vdisks().values()


class Create(Operation):
    size = 3

    def prepare(self) -> None:
        pass

    def begin(self) -> None:
        self.volume = self.world.storage.create_volume(volume_type=FIRST, size=self.size).id

    def points(self) -> list[Match]:
        return [lambda call: call.path == "/api/vdisks/" and call.body.get("size") == self.size * GIB]

    def check(self) -> None:
        self.fails()


class FromImage(Create):
    size = 4

    def begin(self) -> None:
        image = self.world.images.create_image(
            name=f"from-{uuid.uuid4()}", filename=str(self.image), disk_format="raw", container_format="bare", wait=True
        )
        self.image_id = image.id
        self.volume = self.world.storage.create_volume(volume_type=FIRST, size=self.size, image_id=image.id).id

    def points(self) -> list[Match]:
        # The vDisk is made; its grant, through which the image comes; the grant's end, when the bytes are there.
        return [self._grants, *super().points(), self._ends]

    def _grants(self, call: Passing) -> bool:
        return call.path == "/api/grants/" and self._is_ours(str(call.body.get("vdisk_guid")))

    def _ends(self, call: Passing) -> bool:
        self.vdisk = next((guid for guid in self.vpool.vdisks() if self._is_ours(guid)), "none")
        return self.revokes(call)

    def _is_ours(self, vdisk: str) -> bool:
        try:
            return self.vpool.size(vdisk) == self.size * GIB
        except NotFound:
            return False  # Others are deleted meanwhile.

    def clean(self) -> None:
        super().clean()
        if self.world.images.find_image(self.image_id):
            self.world.images.delete_image(self.image_id)


class FromSnapshot(Operation):
    def prepare(self) -> None:
        super().prepare()
        self.source = self.volume
        self.snapshot = self.world.snapshot(self.source)

    def begin(self) -> None:
        self.volume = self.world.storage.create_volume(volume_type=FIRST, size=2, snapshot_id=self.snapshot).id

    def check(self) -> None:
        self.fails()
        self.world.delete(self.source)


class Clone(Operation):
    def prepare(self) -> None:
        super().prepare()
        self.source = self.volume

    def begin(self) -> None:
        self.volume = self.world.storage.create_volume(volume_type=FIRST, size=2, source_volume_id=self.source).id

    def check(self) -> None:
        self.fails()
        self.world.delete(self.source)


class Extend(Operation):
    def begin(self) -> None:
        self.world.storage.extend_volume(self.volume, 2)

    def check(self) -> None:
        self.world.await_volume(self.volume)
        size = self.world.storage.get_volume(self.volume).size
        assert self.vpool.size(self.vdisk) == size * GIB
        self.world.storage.extend_volume(self.volume, 3)
        self.world.await_volume(self.volume)
        assert self.vpool.size(self.vdisk) == 3 * GIB


class Snapshot(Operation):
    def begin(self) -> None:
        self.snapshot = self.world.storage.create_snapshot(volume_id=self.volume).id

    def check(self) -> None:
        eventually(lambda: self.world.snapshot_status(self.snapshot) == "error")
        self.world.storage.delete_snapshot(self.snapshot)
        eventually(lambda: self.world.snapshot_status(self.snapshot) == "gone")
        assert self.vpool.client.snapshots.list(self.vdisk) == []


class DeleteSnapshot(Operation):
    def prepare(self) -> None:
        super().prepare()
        self.snapshot = self.world.snapshot(self.volume)

    def begin(self) -> None:
        self.world.storage.delete_snapshot(self.snapshot)

    def check(self) -> None:
        eventually(lambda: self.world.snapshot_status(self.snapshot) == "error")
        self.world.storage.delete_snapshot(self.snapshot)
        eventually(lambda: self.world.snapshot_status(self.snapshot) == "gone")
        assert self.vpool.client.snapshots.list(self.vdisk) == []


class Delete(Operation):
    def begin(self) -> None:
        self.world.storage.delete_volume(self.volume)

    def check(self) -> None:
        self.world.await_volume(self.volume, "gone")
        assert self.vdisk not in self.vpool.vdisks()


class DeleteWithSnapshots(Delete):
    def prepare(self) -> None:
        super().prepare()
        for _ in range(2):
            self.world.snapshot(self.volume)

    def begin(self) -> None:
        self.world.storage.delete_volume(self.volume, cascade=True)


class Revert(Operation):
    def prepare(self) -> None:
        super().prepare()
        self.vpool.edge.write(self.vdisk, 0, 0x41, _MIB)
        self.before = self.vpool.edge.read(self.vdisk, GIB)
        self.snapshot = self.world.snapshot(self.volume)
        self.vpool.edge.write(self.vdisk, 0, 0x42, _MIB)

    def begin(self) -> None:
        self.world.storage.revert_volume_to_snapshot(self.volume, self.snapshot)

    def check(self) -> None:
        self.world.await_volume(self.volume)
        assert self.world.snapshot_status(self.snapshot) == "available"
        assert self.vpool.edge.read(self.vdisk, GIB) == self.before


class ToImage(Operation):
    def begin(self) -> None:
        answer = self.world.storage.upload_volume_to_image(
            self.volume, f"of-{self.volume}", disk_format="raw", container_format="bare"
        )
        self.image_id = answer["image_id"]

    def points(self) -> list[Match]:
        return [self.changes, self.revokes]

    def check(self) -> None:
        self.world.await_volume(self.volume)
        assert self.vpool.grants(self.vdisk) == []
        self.world.images.delete_image(self.image_id)


class GroupSnapshot(Operation):
    def prepare(self) -> None:
        storage = self.world.storage
        kind = storage.find_group_type("consistent") or storage.create_group_type(name="consistent")
        specs = {"consistent_group_snapshot_enabled": "<is> True"}
        storage.create_group_type_group_specs(kind, specs)
        volume_type = storage.find_type(FIRST).id
        self.group = storage.create_group(name="killed", group_type=kind.id, volume_types=[volume_type]).id
        eventually(lambda: storage.get_group(self.group).status == "available")
        self.members = [self.world.make(FIRST, group_id=self.group) for _ in range(2)]
        self.vdisks = [self.world.vdisk(member) for member in self.members]
        self.volume, self.vdisk = self.members[0], self.vdisks[0]

    def begin(self) -> None:
        self.taken = self.world.storage.create_group_snapshot(name="killed", group_id=self.group).id

    def check(self) -> None:
        storage = self.world.storage
        eventually(lambda: storage.get_group_snapshot(self.taken).status == "error")
        storage.delete_group_snapshot(self.taken)
        eventually(lambda: self.taken not in [taken.id for taken in storage.group_snapshots()])
        assert [self.vpool.client.snapshots.list(vdisk) for vdisk in self.vdisks] == [[], []]

    def clean(self) -> None:
        self.world.storage.delete_group(self.group, delete_volumes=True)
        for member in self.members:
            self.world.await_volume(member, "gone")


class Attach(Operation):
    waits = True

    def prepare(self) -> None:
        super().prepare()
        self.attachment = self.reserve()

    def reserve(self) -> str:
        answer = self.world.request("POST", "/attachments", attachment={"volume_uuid": self.volume})
        return str(answer["attachment"]["id"])

    def connect(self, attachment: str, host: str) -> None:
        """Have an attachment connected to a host; blocks until cinder-volume has done it."""
        connector = {"connector": {"host": host, "ip": "127.0.0.1"}}
        self.world.request("PUT", f"/attachments/{attachment}", attachment=connector)

    def begin(self) -> None:
        self.connect(self.attachment, "host1")

    def check(self) -> None:
        """Whoever asked gives up. The next one gets in, and nobody else is left there."""
        self.world.request("DELETE", f"/attachments/{self.attachment}")
        self.world.await_volume(self.volume)
        self.attachment = self.reserve()
        self.connect(self.attachment, "host2")
        assert [grant.client for grant in self.vpool.grants(self.vdisk)] == ["host2"]
        self.world.request("DELETE", f"/attachments/{self.attachment}")
        self.world.await_volume(self.volume)
        assert self.vpool.grants(self.vdisk) == []


class Detach(Attach):
    def prepare(self) -> None:
        super().prepare()
        self.connect(self.attachment, "host1")

    def begin(self) -> None:
        self.world.request("DELETE", f"/attachments/{self.attachment}")

    def points(self) -> list[Match]:
        return [self.revokes]


class Retype(Operation):
    """To a type with other limits."""

    limits: ClassVar[dict[str, int]] = {"slow": 100, "fast": 900}

    def prepare(self) -> None:
        for name, limit in self.limits.items():
            if self.world.storage.find_type(name) is None:
                kind = self.world.storage.create_type(name=name, extra_specs={"volume_backend_name": FIRST})
                specs = {"name": name, "consumer": "back-end", "total_iops_sec": str(limit)}
                made = self.world.request("POST", "/qos-specs", qos_specs=specs)["qos_specs"]["id"]
                self.world.request("GET", f"/qos-specs/{made}/associate?vol_type_id={kind.id}")
        self.volume = self.world.make("slow")
        self.vdisk = self.world.vdisk(self.volume)

    def begin(self) -> None:
        self.world.storage.retype_volume(self.volume, "fast", "never")

    def check(self) -> None:
        self.world.await_volume(self.volume)
        kind = self.world.storage.get_volume(self.volume).volume_type
        assert self.vpool.client.vdisks.get(self.vdisk).qos == Qos(iops_total=self.limits[kind])


class Manage(Operation):
    """Of a vDisk that has to be grown to whole GiB."""

    def prepare(self) -> None:
        self.name = f"foreign-{uuid.uuid4()}"
        self.vdisk = self.vpool.client.vdisks.create(self.name, GIB + _MIB, self.vpool.guid)

    def begin(self) -> None:
        host = f"aio@{FIRST}#{FIRST}"
        asked = {"host": host, "ref": {"source-name": self.name}, "volume_type": FIRST}
        self.volume = self.world.request("POST", "/manageable_volumes", volume=asked)["volume"]["id"]

    def check(self) -> None:
        # Which the API shows as "error".
        eventually(lambda: self.world.status(self.volume) == "error")
        self.clean()
        assert self.vdisk in self.vpool.vdisks(), "what was not Cinder's is not deleted"
        self.begin()
        self.world.await_volume(self.volume)
        assert self.world.vdisk(self.volume) == self.vdisk


class Migrate(Operation):
    """To the other vPool, with the copy of the bytes under way."""

    def begin(self) -> None:
        self.elsewhere = self.world.vpools[SECOND].vdisks()
        self.world.storage.retype_volume(self.volume, SECOND, "on-demand")

    def check(self) -> None:
        self.world.await_volume(self.volume)
        found = self.world.storage.get_volume(self.volume)
        assert (found.volume_type, found.migration_status) == (FIRST, "error")
        eventually(lambda: self.world.vpools[SECOND].vdisks() == self.elsewhere)


OPERATIONS: list[type[Operation]] = [
    Create,
    FromImage,
    FromSnapshot,
    Clone,
    Extend,
    Snapshot,
    DeleteSnapshot,
    Delete,
    DeleteWithSnapshots,
    Revert,
    ToImage,
    GroupSnapshot,
    Attach,
    Detach,
    Retype,
    Manage,
    Migrate,
]
