"""A vPool as Cinder sees it: which vDisk a volume is, which snapshot a snapshot is, and making them exactly once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from cinder import exception
from oslo_log import log as logging

from openvstorage.cinder.errors import SetupError
from openvstorage.cinder.qos import limits
from openvstorage.client import AlreadyExists, Client, Grant, HasClones, InUse, NotFound, Qos
from openvstorage.edge.tls import DEFAULT_DIRECTORY

__all__ = ["GIB", "OnPool", "Pool"]

LOG = logging.getLogger(__name__)

GIB = 1024**3


class Pool:
    """One vPool of one cluster. Thread-safe, as the client is; every method blocks for the cluster.

    Methods raise the library's errors, which the driver translates, and Cinder's where they say so.
    """

    def __init__(self, client: Client, vpool_guid: str, edge_tls_dir: Path = DEFAULT_DIRECTORY) -> None:
        """Work on the vPool ``vpool_guid`` through ``client``.

        :param edge_tls_dir: this host's certificate, for transfers from and to an edge with TLS.
        """
        self.client = client
        self.vpool_guid = vpool_guid
        self.edge_tls_dir = edge_tls_dir

    def has(self, feature: str) -> bool:
        """Tell whether the cluster announces an extension; an Open vStorage cluster has none."""
        return feature in self.client.features()

    @property
    def has_grants(self) -> bool:
        """Whether vDisks are served over NBD to holders of grants; False for Open vStorage's own edge."""
        return self.has("grants")

    @staticmethod
    def group_label(group_snapshot_id: str) -> str:
        """Give the label that the snapshots of a consistent group snapshot share, each on its own vDisk."""
        return f"group_snapshot-{group_snapshot_id}"

    def find_vdisk(self, volume: Any) -> str | None:
        """Give the guid of a volume's vDisk, or None where there is none.

        Volumes made by the driver of 2017, and those whose creation was cut off, have no ``provider_id``: they are
        looked up by name. With one, the vDisk is not asked for: whoever uses the guid finds out.
        """
        if volume.provider_id:
            return str(volume.provider_id)
        vdisk = self.client.vdisks.find(volume.name, self.vpool_guid)
        return vdisk.guid if vdisk else None

    def vdisk(self, volume: Any) -> str:
        """Give the guid of a volume's vDisk. :raises NotFound: there is none."""
        guid = self.find_vdisk(volume)
        if guid is None:
            raise NotFound(description=f"the vPool {self.vpool_guid} has no vDisk for volume {volume.name}")
        return guid

    def find_snapshot(self, snapshot: Any, vdisk_guid: str) -> str | None:
        """Give the guid of a Cinder snapshot on its volume's vDisk, or None. Labels count on that vDisk only."""
        if snapshot.provider_id:
            return str(snapshot.provider_id)
        labels = {snapshot.name}
        if snapshot.group_snapshot_id:
            labels.add(self.group_label(snapshot.group_snapshot_id))
        return next((known.guid for known in self.client.snapshots.list(vdisk_guid) if known.label in labels), None)

    def snapshot(self, snapshot: Any) -> tuple[str, str]:
        """Give the guids of the vDisk and of the snapshot. :raises NotFound: there is no such vDisk or snapshot."""
        vdisk_guid = self.vdisk(snapshot.volume)
        guid = self.find_snapshot(snapshot, vdisk_guid)
        if guid is None:
            raise NotFound(description=f"vDisk {vdisk_guid} has no snapshot {snapshot.name}")
        return vdisk_guid, guid

    def create(self, volume: Any) -> str:
        """Make an empty vDisk of the volume's size and its type's limits, and give its guid."""
        return self._once(volume, lambda: self.client.vdisks.create(volume.name, volume.size * GIB, self.vpool_guid))

    def clone(self, volume: Any, vdisk_guid: str, snapshot_guid: str | None = None) -> str:
        """Make the volume's vDisk as a copy, of the volume's size and its type's limits, and give its guid."""
        size = volume.size * GIB
        return self._once(volume, lambda: self.client.vdisks.clone(vdisk_guid, volume.name, snapshot_guid, size))

    def size(self, vdisk_guid: str) -> int:
        """Give the size of a vDisk in whole GiB."""
        return self.client.vdisks.get(vdisk_guid).size // GIB

    def extend(self, volume: Any, size: int) -> None:
        """Grow the volume's vDisk to ``size`` GiB; limits that count per GiB grow with it."""
        guid = self.vdisk(volume)
        self.client.vdisks.extend(guid, size * GIB)
        self.limit(guid, volume, size)

    def limit(self, vdisk_guid: str, volume: Any, size: int | None = None) -> None:
        """Put the limits of the volume's type on a vDisk; where the type has none, nothing is done.

        :param size: GiB, when it is not the volume's any more.
        :raises NotSupported: the type has limits and the cluster knows none.
        """
        wanted = limits(volume.volume_type_id, size or volume.size)
        if wanted is not None:
            self.client.vdisks.set_qos(vdisk_guid, wanted)

    def retype(self, volume: Any, volume_type_id: str) -> bool:
        """Put the limits of another type on a volume, running or not. False where the cluster cannot."""
        wanted = limits(volume_type_id, volume.size)
        if not self.has("qos"):
            return wanted is None
        self.client.vdisks.set_qos(self.vdisk(volume), wanted or Qos())
        return True

    def delete(self, volume: Any) -> None:
        """Delete the volume's vDisk; one that is not there is a success.

        :raises VolumeIsBusy: something was cloned from it and the cluster refuses for that, or it is attached.
        """
        guid = self.find_vdisk(volume)
        if guid is None:
            LOG.info("Volume %s has no vDisk any more: nothing to delete.", volume.name)
            return
        try:
            self._delete_vdisk(guid, volume)
        except NotFound:
            LOG.info("The vDisk %s of volume %s was gone already.", guid, volume.name)
        except HasClones as error:
            raise exception.VolumeIsBusy(message=f"volume {volume.name}: {error}") from error

    def create_snapshot(self, snapshot: Any) -> str:
        """Take a snapshot and give its guid; one that an attempt cut off before has taken is used.

        Found by its label, which is unique: it holds the id of the Cinder snapshot.
        """
        vdisk_guid = self.vdisk(snapshot.volume)
        guid = self.find_snapshot(snapshot, vdisk_guid)
        return guid or self.client.snapshots.create(vdisk_guid, snapshot.name)

    def delete_snapshot(self, snapshot: Any) -> None:
        """Delete a snapshot; one that is not there, or whose volume is not, is a success.

        :raises SnapshotIsBusy: something was cloned from it, or it is read, and the cluster refuses for that.
        """
        try:
            vdisk_guid, guid = self.snapshot(snapshot)
            self.client.snapshots.delete(vdisk_guid, guid)
        except NotFound as error:
            LOG.info("Snapshot %s was gone already: %s", snapshot.name, error)
        except InUse as error:
            raise exception.SnapshotIsBusy(message=f"snapshot {snapshot.name}: {error}") from error

    def revert(self, volume: Any, snapshot: Any) -> None:
        """Put a volume back to a snapshot; newer snapshots stay, and so does the size. Doing it again is harmless.

        :raises InUse: somebody may write to the volume.
        """
        vdisk_guid, guid = self.snapshot(snapshot)
        self.client.vdisks.rollback(vdisk_guid, guid, keep_newer=True)
        if self.size(vdisk_guid) < volume.size:
            self.client.vdisks.extend(vdisk_guid, volume.size * GIB)

    def grants(self, vdisk_guid: str) -> list[Grant]:
        """Give the grants of a vDisk and its snapshots; none where the vDisk is gone."""
        try:
            return self.client.grants.list(vdisk_guid)
        except NotFound:
            LOG.debug("vDisk %s is gone, and its grants with it.", vdisk_guid)
            return []

    def revoke(self, grant: Grant) -> None:
        """End a grant; when this returns its host can no longer write. One that is gone is a success."""
        try:
            self.client.grants.revoke(grant.guid)
        except NotFound:
            LOG.debug("Grant %s of vDisk %s was gone already.", grant.guid, grant.vdisk_guid)

    def _once(self, volume: Any, make: Callable[[], str]) -> str:
        """Make a volume's vDisk although a creation of the same volume may have been cut off before.

        The name holds the volume's id, so a vDisk that has it can only be what that attempt left, in whatever state.
        """
        try:
            guid = make()
        except AlreadyExists:
            leftover = self.client.vdisks.find(volume.name, self.vpool_guid)
            if leftover is None:
                raise
            LOG.warning("Removing vDisk %s, left by an earlier creation of volume %s.", leftover.guid, volume.name)
            self._delete_vdisk(leftover.guid, volume)
            guid = make()
        self.limit(guid, volume)
        return guid

    def _delete_vdisk(self, guid: str, volume: Any) -> None:
        try:
            self.client.vdisks.delete(guid)
        except InUse as error:
            if isinstance(error, HasClones):
                raise
            if volume.volume_attachment:
                raise exception.VolumeIsBusy(message=f"volume {volume.name}: {error}") from error
            # Cinder, which decides who is attached, knows of nobody: a grant outlived the process that asked for it.
            LOG.warning("Volume %s is deleted although its vDisk has grants: %s", volume.name, error)
            self.client.vdisks.delete(guid, force=True)


class OnPool:
    """A part of the driver that works on the vPool.

    :ivar _pool: set by ``do_setup``.
    """

    _pool: Pool | None = None

    @property
    def pool(self) -> Pool:
        """The vPool, from ``do_setup`` on. :raises SetupError: before."""
        if self._pool is None:
            raise SetupError(message="the driver is used before do_setup")
        return self._pool
