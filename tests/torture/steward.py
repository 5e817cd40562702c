"""What the actions on vDisks share: letting writers in and out, names, and what must not be there."""

from __future__ import annotations

import threading

from tests.torture.calls import Calls
from tests.torture.connection import Location
from tests.torture.image import Image
from tests.torture.pool import HOST
from tests.torture.settings import Settings
from tests.torture.verifier import Verifier, refused
from tests.torture.world import Disk, World

from openvstorage.client import Grant

__all__ = ["Steward"]


class Steward:
    """Thread-safe; whoever passes a vDisk holds it."""

    def __init__(self, settings: Settings, world: World, calls: Calls) -> None:
        self.settings = settings
        self.world = world
        self.calls = calls
        self.pool = calls.pool
        self.report = calls.report
        self.verifier = Verifier(calls)
        self._labels = 0
        self._lock = threading.Lock()

    def label(self, what: str) -> str:
        """:returns: a name that nothing had."""
        with self._lock:
            self._labels += 1
            return f"{what}-{self._labels}"

    def add(self, number: int, name: str, guid: str, image: Image) -> None:
        """A vDisk was made: a writer for it."""
        disk = self.world.add(number, name, guid, image, keeps_acknowledged=self.pool.keeps_acknowledged(guid))
        with disk.lock:
            self.attach(disk)

    def attach(self, disk: Disk) -> None:
        """A writable grant, and the writer in."""
        consumer = self.label("guest")
        disk.grant = self.calls.insist("grant", lambda client: client.grants.create(disk.guid, HOST, consumer))
        if disk.grant is not None:
            disk.writer.enter(self.pool.locate(disk.grant))

    def detach(self, disk: Disk) -> None:
        """The writer out, and its grant revoked."""
        grant, disk.grant = disk.grant, None
        if grant is not None:
            self.calls.wait(f"{disk.name}: the writer leaves", disk.writer.leave())
            self.revoke("revoke", grant)

    def revoke(self, what: str, grant: Grant) -> None:
        """Revoke a grant. :param what: as it is counted."""
        self.calls.insist(what, lambda client: client.grants.revoke(grant.guid), gone_is_done=True)

    def must_be_out(self, disk: Disk, where: Location) -> None:
        """An export of a vDisk was revoked: nobody gets in there."""
        if not refused(where):
            text = f"{disk.name}: {where.export} lets in after its grant was revoked"
            self.report.violated("not fenced", text, vdisk=disk.name)

    def must_be_cut_off(self, disk: Disk, after: str) -> None:
        """The writer's grant was revoked, or the vDisk deleted: no connection is served any more."""
        if self.calls.wait(f"{disk.name}: the writer is cut off", disk.writer.cut()):
            text = f"{disk.name}: a connection is served after {after}"
            self.report.violated("not fenced", text, vdisk=disk.name)

    def must_not_exist(self, name: str) -> None:
        """Making a vDisk failed: nothing is left of it."""
        found = self.calls.insist("look for", lambda client: client.vdisks.find(name, self.pool.vpool_guid) or "none")
        if found not in (None, "none"):
            self.report.violated("left over", f"{name} is there although its making failed", vdisk=name)

    def must_have_no(self, disk: Disk, label: str) -> None:
        """Taking a snapshot failed: nothing is left of it."""
        listed = self.calls.insist("list snapshots", lambda client: client.snapshots.list(disk.guid))
        if any(snapshot.label == label for snapshot in listed or ()):
            text = f"{disk.name}@{label} is there although taking it failed"
            self.report.violated("left over", text, vdisk=disk.name)
