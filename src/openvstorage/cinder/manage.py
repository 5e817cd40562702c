"""Taking vDisks and snapshots that Cinder does not know into its care, and letting them go.

Nothing is renamed on the vPool (it has no call for that): Cinder remembers the guid. A vDisk is referred to by
``source-name`` (its name on the vPool) or ``source-id`` (its guid), a snapshot by its label or its guid.
"""

from __future__ import annotations

from typing import Any

from cinder import exception
from cinder.volume import volume_utils

from openvstorage.cinder.errors import translated
from openvstorage.cinder.known import known_snapshot, known_volumes
from openvstorage.cinder.pool import GIB, OnPool
from openvstorage.cinder.refusal import TypeRefused
from openvstorage.client import NotFound, Snapshot, VDisk

__all__ = ["ManageOperations"]

Entry = dict[str, Any]


class ManageOperations(OnPool):
    """The part of the driver that Cinder calls to manage and unmanage. Methods raise as the driver's do."""

    def manage_existing_get_size(self, volume: Any, existing_ref: dict[str, str]) -> int:
        """Give the size of a vDisk in GiB, rounded up.

        :raises ManageExistingInvalidReference: there is no such vDisk in this vPool, or it is in use.
        :raises ManageExistingAlreadyManaged: it is a volume, of this backend or of another one on the vPool.
        """
        with translated(f"look at {existing_ref}"):
            return _gib(self._unmanaged_vdisk(existing_ref).size)

    def manage_existing(self, volume: Any, existing_ref: dict[str, str]) -> dict[str, Any]:
        """Take a vDisk as the volume's, grown to whole GiB.

        :raises ManageExistingVolumeTypeMismatch: the volume's type asks for what cannot be had.
        Raises as ``manage_existing_get_size``, too.
        """
        with translated(f"manage {existing_ref} as volume {volume.name}"):
            vdisk = self._unmanaged_vdisk(existing_ref)
            if vdisk.size % GIB:
                self.pool.client.vdisks.extend(vdisk.guid, _gib(vdisk.size) * GIB)
            try:
                self.pool.take_on(vdisk.guid, volume)
            except TypeRefused as error:
                raise exception.ManageExistingVolumeTypeMismatch(reason=error.reason) from error
            return {"provider_id": vdisk.guid}

    def unmanage(self, volume: Any) -> None:
        """Do nothing: the vDisk stays as it is."""

    def get_manageable_volumes(
        self,
        cinder_volumes: list[Any],
        marker: Any,
        limit: int,
        offset: int,
        sort_keys: list[str],
        sort_dirs: list[str],
    ) -> list[Entry]:
        """List the vDisks of the vPool, with what Cinder knows of them. Reads all of them.

        ``cinder_volumes`` are those of this backend; another one on the same vPool has its own, so Cinder is asked.
        """
        with translated(f"list the vDisks of vPool {self.pool.vpool_guid}"):
            vdisks = list(self.pool.client.vdisks.list(self.pool.vpool_guid))
        known = known_volumes([(vdisk.guid, vdisk.name) for vdisk in vdisks])
        entries = [_entry(vdisk.name, vdisk.size, known.get(vdisk.guid), vdisk.is_vtemplate) for vdisk in vdisks]
        page: list[Entry] = volume_utils.paginate_entries_list(entries, marker, limit, offset, sort_keys, sort_dirs)
        return page

    def manage_existing_snapshot_get_size(self, snapshot: Any, existing_ref: dict[str, str]) -> int:
        """Give the size of the volume in GiB. :raises ManageExistingInvalidReference: it has no such snapshot."""
        with translated(f"look at snapshot {existing_ref}"):
            self._existing_snapshot(snapshot, existing_ref)
        return int(snapshot.volume_size)

    def manage_existing_snapshot(self, snapshot: Any, existing_ref: dict[str, str]) -> dict[str, Any]:
        """Take a snapshot of the volume's vDisk as Cinder's. Raises as ``manage_existing_snapshot_get_size``."""
        with translated(f"manage snapshot {existing_ref} as {snapshot.name}"):
            return {"provider_id": self._existing_snapshot(snapshot, existing_ref).guid}

    def unmanage_snapshot(self, snapshot: Any) -> None:
        """Do nothing: the snapshot stays as it is."""

    def get_manageable_snapshots(
        self,
        cinder_snapshots: list[Any],
        marker: Any,
        limit: int,
        offset: int,
        sort_keys: list[str],
        sort_dirs: list[str],
    ) -> list[Entry]:
        """List the snapshots of the vPool's vDisks, with what Cinder knows of them. Asks for each vDisk's.

        Those that the vPool took for itself are left out. Of other backends on it as ``get_manageable_volumes``.
        """
        with translated(f"list the snapshots of vPool {self.pool.vpool_guid}"):
            taken = [
                (vdisk, snapshot)
                for vdisk in self.pool.client.vdisks.list(self.pool.vpool_guid)
                for snapshot in self._snapshots_of(vdisk)
                # Without a label there is nothing to refer to it by.
                if snapshot.label and not snapshot.for_clone
            ]
        entries = [
            {
                **_entry(snapshot.label, vdisk.size, None, False),
                "source_reference": {"source-name": vdisk.name},
                "guid": snapshot.guid,
            }
            for vdisk, snapshot in taken
        ]
        page: list[Entry] = volume_utils.paginate_entries_list(entries, marker, limit, offset, sort_keys, sort_dirs)
        for entry in page:
            entry.update(_managed_as(known_snapshot(entry.pop("guid"), entry["reference"]["source-name"])))
        return page

    def _unmanaged_vdisk(self, existing_ref: dict[str, str]) -> VDisk:
        vdisk = self._referred_vdisk(existing_ref)
        if vdisk is None or vdisk.vpool_guid not in (None, self.pool.vpool_guid):
            raise _invalid(existing_ref, f"vPool {self.pool.vpool_guid} has no such vDisk")
        if vdisk.is_vtemplate:
            raise _invalid(existing_ref, "it is a vTemplate")
        if known_volumes([(vdisk.guid, vdisk.name)]):
            raise exception.ManageExistingAlreadyManaged(volume_ref=vdisk.name)
        if self.pool.has("grants") and self.pool.client.grants.list(vdisk.guid):
            raise _invalid(existing_ref, "somebody has it open")
        return vdisk

    def _referred_vdisk(self, existing_ref: dict[str, str]) -> VDisk | None:
        if existing_ref.get("source-name"):
            return self.pool.client.vdisks.find(existing_ref["source-name"], self.pool.vpool_guid)
        if not existing_ref.get("source-id"):
            raise _invalid(existing_ref, "it has to have a source-name or a source-id")
        try:
            return self.pool.client.vdisks.get(existing_ref["source-id"])
        except NotFound:
            return None

    def _existing_snapshot(self, snapshot: Any, existing_ref: dict[str, str]) -> Snapshot:
        label, guid = existing_ref.get("source-name"), existing_ref.get("source-id")
        found = [
            known
            for known in self.pool.client.snapshots.list(self.pool.vdisk(snapshot.volume))
            if known.guid == guid or (guid is None and label and known.label == label)
        ]
        if len(found) != 1:
            raise _invalid(existing_ref, f"volume {snapshot.volume_name} has {len(found)} such snapshots")
        if found[0].for_clone:
            raise _invalid(existing_ref, "the vPool took it for a clone and removes it with that")
        if known_snapshot(found[0].guid, found[0].label):
            raise _invalid(existing_ref, "it is managed already")
        return found[0]

    def _snapshots_of(self, vdisk: VDisk) -> list[Snapshot]:
        try:
            return self.pool.client.snapshots.list(vdisk.guid)
        except NotFound:
            # Deleted since the list was made.
            return []


def _gib(size: int) -> int:
    return -(-size // GIB)


def _entry(name: str, size: int, cinder_id: str | None, is_vtemplate: bool) -> Entry:
    return {
        "reference": {"source-name": name},
        "size": _gib(size),
        "extra_info": None,
        **_managed_as(cinder_id, "it is a vTemplate" if is_vtemplate else None),
    }


def _managed_as(cinder_id: str | None, obstacle: str | None = None) -> Entry:
    reason = "already managed" if cinder_id else obstacle
    return {"safe_to_manage": reason is None, "reason_not_safe": reason, "cinder_id": cinder_id}


def _invalid(existing_ref: dict[str, str], reason: str) -> exception.ManageExistingInvalidReference:
    return exception.ManageExistingInvalidReference(existing_ref=existing_ref, reason=reason)
