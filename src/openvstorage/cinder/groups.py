"""Consistent groups: snapshots of several volumes, of one instant, and groups made from them.

Only group types that ask for consistent snapshots come here; for the others, and on a cluster that cannot take
snapshots of one instant, ``NotImplementedError`` tells Cinder to go through the volumes one by one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from cinder import exception
from cinder.objects import fields
from cinder.volume import volume_utils
from oslo_log import log as logging

from openvstorage.cinder.errors import translated
from openvstorage.cinder.pool import OnPool
from openvstorage.cinder.refusal import TypeRefused, told
from openvstorage.client import NotFound, OpenvStorageError

__all__ = ["GroupOperations"]

LOG = logging.getLogger(__name__)

Update = dict[str, Any]
Updates = tuple[Update, list[Update]]


class GroupOperations(OnPool):
    """The part of the driver that Cinder calls for generic volume groups. Methods raise as the driver's do."""

    def create_group(self, context: Any, group: Any) -> Update:
        """Accept a group: volumes of one vPool need nothing to be snapshot together."""
        self._require_consistency(group)
        return {"status": fields.GroupStatus.AVAILABLE}

    def update_group(
        self, context: Any, group: Any, add_volumes: Any = None, remove_volumes: Any = None
    ) -> tuple[None, None, None]:
        """Accept any change of members, for the same reason."""
        self._require_consistency(group)
        return None, None, None

    def delete_group(self, context: Any, group: Any, volumes: Iterable[Any]) -> Updates:
        """Delete the volumes of a group. One that cannot go is put into error, the others go."""
        self._require_consistency(group)
        updates = [self._deleted(volume, self.pool.delete, "error_deleting") for volume in volumes]
        return _of_group(updates, fields.GroupStatus.DELETED, fields.GroupStatus.ERROR_DELETING), updates

    def create_group_snapshot(self, context: Any, group_snapshot: Any, snapshots: list[Any]) -> Updates:
        """Take snapshots of all volumes of a group, all of one instant or none."""
        self._require_consistency(group_snapshot)
        with translated(f"take group snapshot {group_snapshot.id}"):
            guids = self._take([snapshot.volume for snapshot in snapshots], self.pool.group_label(group_snapshot.id))
        available = fields.SnapshotStatus.AVAILABLE
        updates = [
            {"id": snapshot.id, "status": available, "provider_id": guid}
            for snapshot, guid in zip(snapshots, guids, strict=True)
        ]
        return {"status": fields.GroupSnapshotStatus.AVAILABLE}, updates

    def delete_group_snapshot(self, context: Any, group_snapshot: Any, snapshots: Iterable[Any]) -> Updates:
        """Delete the snapshots of a group snapshot. One that cannot go is put into error, the others go.

        One that somebody reads stays available, as a single one does.
        """
        self._require_consistency(group_snapshot)
        updates = [self._deleted(snapshot, self.pool.delete_snapshot, "error_deleting") for snapshot in snapshots]
        deleted, failed = fields.GroupSnapshotStatus.DELETED, fields.GroupSnapshotStatus.ERROR_DELETING
        return _of_group(updates, deleted, failed), updates

    def create_group_from_src(
        self,
        context: Any,
        group: Any,
        volumes: list[Any],
        group_snapshot: Any = None,
        snapshots: list[Any] | None = None,
        source_group: Any = None,
        source_vols: list[Any] | None = None,
    ) -> tuple[None, list[Update]]:
        """Make a group of a group snapshot, or of another group as it is at one instant.

        ``volumes`` are in the order of ``snapshots`` or ``source_vols``. Either all volumes are made or none is left.
        """
        self._require_consistency(group)
        with translated(f"create group {group.id}"):
            if snapshots:
                return None, self._copies(volumes, [self.pool.snapshot(snapshot) for snapshot in snapshots])
            sources = source_vols or []
            # The instant is kept only while it is copied: clones do not need it any more.
            guids = self._take(sources, f"source-of-group-{group.id}")
            origins = list(zip(map(self.pool.vdisk, sources), guids, strict=True))
            try:
                return None, self._copies(volumes, origins)
            finally:
                for vdisk_guid, guid in origins:
                    self._discard_snapshot(vdisk_guid, guid)

    def _require_consistency(self, group: Any) -> None:
        if not volume_utils.is_group_a_cg_snapshot_type(group) or not self.pool.has("atomic_group_snapshots"):
            raise NotImplementedError

    def _take(self, volumes: list[Any], label: str) -> list[str]:
        """Take snapshots of one instant and give their guids in the order of the volumes."""
        vdisks = [self.pool.vdisk(volume) for volume in volumes]
        guids = self.pool.client.snapshots.create_group(self.pool.vpool_guid, vdisks, label, atomic=True)
        return [guids[vdisk_guid] for vdisk_guid in vdisks]

    def _copies(self, volumes: list[Any], origins: list[tuple[str, str]]) -> list[Update]:
        updates: list[Update] = []
        try:
            for volume, (vdisk_guid, snapshot_guid) in zip(volumes, origins, strict=True):
                with told(volume):
                    guid = self.pool.clone(volume, vdisk_guid, snapshot_guid)
                updates.append({"id": volume.id, "status": "available", "provider_id": guid})
        except (OpenvStorageError, TypeRefused):
            for update in updates:
                self._discard_vdisk(update["provider_id"])
            raise
        return updates

    def _deleted(self, thing: Any, delete: Any, failed: str) -> Update:
        """Delete one volume or snapshot and give its update; its trouble is not that of the others."""
        try:
            with translated(f"delete {thing.name}"):
                delete(thing)
        except exception.SnapshotIsBusy as error:
            LOG.error("Snapshot %s of a group stays: %s", thing.name, error)
            return {"id": thing.id, "status": fields.SnapshotStatus.AVAILABLE}
        except exception.CinderException as error:
            LOG.error("Cannot delete %s of a group: %s", thing.name, error)
            return {"id": thing.id, "status": failed}
        return {"id": thing.id, "status": "deleted"}

    def _discard_vdisk(self, guid: str) -> None:
        try:
            self.pool.client.vdisks.delete(guid)
        except NotFound:
            LOG.debug("vDisk %s was gone already.", guid)
        except OpenvStorageError as error:
            LOG.warning("vDisk %s of a failed group stays until its volume is deleted: %s", guid, error)

    def _discard_snapshot(self, vdisk_guid: str, guid: str) -> None:
        try:
            self.pool.client.snapshots.delete(vdisk_guid, guid)
        except OpenvStorageError as error:
            LOG.warning("Snapshot %s of vDisk %s, made to copy a group, is left over: %s", guid, vdisk_guid, error)


def _of_group(updates: list[Update], good: str, bad: str) -> Update:
    return {"status": bad if any(update["status"] != "deleted" for update in updates) else good}
