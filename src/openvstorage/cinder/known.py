"""What Cinder has of a vPool: which vDisk is which volume, and which snapshot, whichever backend they belong to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any

from cinder import context as cinder_context
from cinder import objects
from cinder.volume import volume_utils
from oslo_utils import uuidutils

__all__ = ["known_snapshot", "known_volumes"]

# So many are asked for in one query.
_AT_ONCE = 500


def known_volumes(vdisks: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Give the ids of Cinder's volumes by the guids of their vDisks; vDisks that are no volumes are left out.

    Volumes made by the driver of 2017 have no guid in Cinder: they are known by their names.

    :param vdisks: guid and name of each.
    """
    known: dict[str, str] = {}
    rest = iter(vdisks)
    while part := dict(islice(rest, _AT_ONCE)):
        of_guid = {volume.provider_id: volume.id for volume in _volumes(provider_id=part)}
        ids = filter(uuidutils.is_uuid_like, map(volume_utils.extract_id_from_volume_name, part.values()))
        of_name = {volume.name: volume.id for volume in _volumes(id=ids) if not volume.provider_id}
        found = {guid: of_guid.get(guid) or of_name.get(name) for guid, name in part.items()}
        known.update({guid: volume_id for guid, volume_id in found.items() if volume_id})
    return known


def known_snapshot(guid: str, label: str) -> str | None:
    """Give the id of Cinder's snapshot that a snapshot of a vDisk is, None where it is none.

    :param guid: on the vPool. :param label: by which those of the driver of 2017 are known.
    """
    admin = cinder_context.get_admin_context()
    found = list(objects.SnapshotList.get_all(admin, filters={"provider_id": guid}))
    snapshot_id = volume_utils.extract_id_from_snapshot_name(label)
    if not found and uuidutils.is_uuid_like(snapshot_id):
        named = objects.SnapshotList.get_all(admin, filters={"id": snapshot_id})
        found = [snapshot for snapshot in named if not snapshot.provider_id]
    return str(found[0].id) if found else None


def _volumes(**wanted: Iterable[str | None]) -> list[Any]:
    """Ask for the volumes of all backends one of whose fields has one of some values."""
    filters = {name: list(values) for name, values in wanted.items()}
    if not any(filters.values()):
        return []
    return list(objects.VolumeList.get_all(cinder_context.get_admin_context(), filters=filters))
