"""A vPool as Cinder sees it: which vDisk a volume is, which snapshot a snapshot is, and making them exactly once."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from cinder import exception
from oslo_log import log as logging

from openvstorage.cinder.durability import EXTRA_SPEC, FEATURE, durability
from openvstorage.cinder.errors import SetupError
from openvstorage.cinder.qos import limits
from openvstorage.cinder.refusal import TypeRefused
from openvstorage.client import AlreadyExists, Client, Durability, Grant, HasClones, InUse, NotFound, Qos
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
        """Make an empty vDisk of the volume's size, as its type wants it, and give its guid.

        :raises TypeRefused: the type wants what cannot be had; nothing is made.
        """
        size, wish = volume.size * GIB, self._durability(volume.volume_type_id)
        return self._once(volume, lambda: self.client.vdisks.create(volume.name, size, self.vpool_guid, **wish))

    def clone(self, volume: Any, vdisk_guid: str, snapshot_guid: str | None = None) -> str:
        """Make the volume's vDisk as a copy, of the volume's size, as its type wants it, and give its guid.

        :raises TypeRefused: as ``create``.
        """
        size, wish = volume.size * GIB, self._durability(volume.volume_type_id)
        make = partial(self.client.vdisks.clone, vdisk_guid, volume.name, snapshot_guid, size, **wish)
        return self._once(volume, make)

    def size(self, vdisk_guid: str) -> int:
        """Give the size of a vDisk in whole GiB."""
        return self.client.vdisks.get(vdisk_guid).size // GIB

    def extend(self, volume: Any, size: int) -> None:
        """Grow the volume's vDisk to ``size`` GiB; limits that count per GiB grow with it.

        :raises TypeRefused: its type's limits are none any more; it has not grown.
        """
        wanted, guid = limits(volume.volume_type_id, size), self.vdisk(volume)
        self.client.vdisks.extend(guid, size * GIB)
        self._limit(guid, wanted)

    def take_on(self, vdisk_guid: str, volume: Any) -> None:
        """Make a vDisk that was made otherwise what the volume's type wants; what that says nothing of stays.

        :raises TypeRefused: the type wants what cannot be had; nothing is changed.
        :raises NotSupported: the type has limits and the cluster knows none.
        """
        wanted, wish = limits(volume.volume_type_id, volume.size), self._durability(volume.volume_type_id)
        self._limit(vdisk_guid, wanted)
        if wish:
            self.client.vdisks.set_durability(vdisk_guid, **wish)

    def retype(self, volume: Any, volume_type_id: str) -> bool:
        """Make a volume, running or not, what another type wants. False where the cluster cannot.

        :raises TypeRefused: the type wants what cannot be had; nothing is changed.
        """
        wanted, wish = limits(volume_type_id, volume.size), self._durability(volume_type_id)
        if not self.has("qos"):
            return wanted is None
        guid = self.vdisk(volume)
        if self.has(FEATURE):
            self.client.vdisks.set_durability(guid, wish.get("durability"))
        self.client.vdisks.set_qos(guid, wanted or Qos())
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

    def _durability(self, volume_type_id: str | None) -> dict[str, Durability]:
        """Give what a volume type wants of a vDisk beside its limits, as the library's calls take it.

        :raises TypeRefused: it is nonsense, or this vPool has no such thing.
        """
        wanted = durability(volume_type_id)
        if wanted is None:
            return {}
        if not self.has(FEATURE):
            raise TypeRefused(
                reason=f"it has the extra spec {EXTRA_SPEC}, which the vPool {self.vpool_guid} does not know"
            )
        return {"durability": wanted}

    def _limit(self, vdisk_guid: str, wanted: Qos | None) -> None:
        if wanted is not None:
            self.client.vdisks.set_qos(vdisk_guid, wanted)

    def _once(self, volume: Any, make: Callable[[], str]) -> str:
        """Make a volume's vDisk although a creation of the same volume may have been cut off before.

        The name holds the volume's id, so a vDisk that has it can only be what that attempt left, in whatever state.
        """
        wanted = limits(volume.volume_type_id, volume.size)
        try:
            guid = make()
        except AlreadyExists:
            leftover = self.client.vdisks.find(volume.name, self.vpool_guid)
            if leftover is None:
                raise
            LOG.warning("Removing vDisk %s, left by an earlier creation of volume %s.", leftover.guid, volume.name)
            self._delete_vdisk(leftover.guid, volume)
            guid = make()
        self._limit(guid, wanted)
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
