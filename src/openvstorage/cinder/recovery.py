"""After a start: what the process before this one left half done is ended, either way.

Cinder itself ends what was being created or deleted. Volumes that were growing, being reverted, retyped or made an
image of, snapshots that were being deleted, and groups would stay as they are for ever: Cinder has no record of who was
at work. The vPool has: it did the work, or did not.

Only a backend that is in no cluster comes here, because there this process is the only one that works on its volumes.
Where a request still waits in the queue it is carried out afterwards as if nothing had been.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from cinder import compute, exception, objects
from cinder import context as cinder_context
from cinder.db import api as db
from cinder.objects import fields
from cinder.volume import rpcapi
from keystoneauth1 import exceptions as keystone_exceptions
from oslo_log import log as logging

from openvstorage.cinder.connection import attachments, revoke_left_grants
from openvstorage.cinder.pool import Pool
from openvstorage.cinder.quota import count_growth
from openvstorage.client import OpenvStorageError

__all__ = ["recover"]

LOG = logging.getLogger(__name__)

_ERROR = "error"
# The copy to another backend was going on; from "completing" on the volumes may have changed places.
_COPYING = ("starting", "migrating")


def recover(pool: Pool, volumes: list[Any], snapshots: list[Any]) -> None:
    """End what was being done with these volumes and snapshots when the process before this one ended. Blocks.

    Never raises for faults of the cluster or of one volume: the backend has to come up, and the next start tries again.

    :param volumes: all of this backend. :param snapshots: likewise.
    """
    for volume in volumes:
        with _logged(f"volume {volume.name}"):
            _end_migration(volume)
            if volume.status in _VOLUMES and volume.migration_status not in ("completing",):
                _VOLUMES[volume.status](pool, volume)
    deleted = {volume.id for volume in volumes if volume.status == "deleting"}
    for snapshot in snapshots:
        with _logged(f"snapshot {snapshot.name}"):
            if snapshot.volume_id not in deleted:  # else Cinder goes on with the volume, and with it
                _end_snapshot(snapshot)
    with _logged("groups"):
        _end_groups(volumes)
    with _logged("grants"):
        revoke_left_grants(pool, volumes)


def _end_extension(pool: Pool, volume: Any) -> None:
    """Believe the vDisk: it has the new size, or the growth never began."""
    guid = pool.vdisk(volume)
    grown = pool.size(guid) - volume.size
    if grown > 0:
        count_growth(volume, grown)
        volume.size += grown
        volume.save()
        pool.take_on(guid, volume)
    _settle(volume, _at_rest(volume), f"it has {volume.size} GiB")
    if grown > 0:
        _tell_instances(volume)


def _tell_instances(volume: Any) -> None:
    """Have Nova show the new size to the guests that have the volume, as Cinder would have. What fails is logged."""
    instances = [each.instance_uuid for each in attachments(volume) if each.instance_uuid]
    if instances:
        admin = cinder_context.get_admin_context()
        admin.project_id = volume.project_id  # whose users are told when Nova cannot be
        try:
            compute.API().extend_volume(admin, instances, volume.id)
        except keystone_exceptions.ClientException as error:
            LOG.warning("Nova cannot be told that volume %s has grown: %s", volume.name, error)


def _end_revert(pool: Pool, volume: Any) -> None:
    """Revert again, which changes nothing if it was done: nobody can have written since."""
    going = [each for each in _snapshots(volume) if each.status == fields.SnapshotStatus.RESTORING]
    status = _ERROR
    try:
        for snapshot in going:
            pool.revert(volume, snapshot)
            status = "available"
    except OpenvStorageError as error:
        LOG.error("Cannot revert volume %s again: %s", volume.name, error)
    _settle(volume, status, "the revert was repeated" if status != _ERROR else "the revert may not have been done")
    for snapshot in going:
        _settle(snapshot, fields.SnapshotStatus.AVAILABLE, "the revert to it has ended")


def _end_retype(pool: Pool, volume: Any) -> None:
    """Put the limits of the old type back, which Cinder still has: the retype did not happen."""
    pool.retype(volume, volume.volume_type_id)
    _settle(volume, volume.previous_status or _at_rest(volume), "the retype did not happen")


def _end_upload(pool: Pool, volume: Any) -> None:
    if not _has_worker(volume):
        _settle(volume, _at_rest(volume), "the image is not complete")


def _end_download(pool: Pool, volume: Any) -> None:
    if not _has_worker(volume):
        _settle(volume, _ERROR, "the image did not come")


def _end_managing(pool: Pool, volume: Any) -> None:
    _settle(volume, "error_managing", "delete it, which leaves the vDisk, and manage that again")


def _end_unmanaging(pool: Pool, volume: Any) -> None:
    _settle(volume, "available", "it is still managed")


def _end_migration(volume: Any) -> None:
    """Stop a copy to another backend: it died with the process that copied. The half copy is deleted there."""
    if volume.migration_status not in _COPYING:
        return
    admin = cinder_context.get_admin_context()
    for target in objects.VolumeList.get_all(admin, filters={"migration_status": f"target:{volume.id}"}):
        LOG.warning("Deleting volume %s, the half copy of volume %s.", target.id, volume.name)
        rpcapi.VolumeAPI().delete_volume(admin, target)
    volume.migration_status = _ERROR
    volume.save()
    if volume.status in ("maintenance", "retyping"):
        _settle(volume, volume.previous_status or _at_rest(volume), "the migration did not happen")


_VOLUMES: dict[str, Callable[[Pool, Any], None]] = {
    "extending": _end_extension,
    "reverting": _end_revert,
    "retyping": _end_retype,
    "uploading": _end_upload,
    "downloading": _end_download,
    "managing": _end_managing,
    "unmanaging": _end_unmanaging,
}


def _end_snapshot(snapshot: Any) -> None:
    if snapshot.status == fields.SnapshotStatus.DELETING:
        _settle(snapshot, _ERROR, "delete it again")
    elif snapshot.status == fields.SnapshotStatus.UNMANAGING:
        _settle(snapshot, fields.SnapshotStatus.AVAILABLE, "it is still managed")
    elif snapshot.status == fields.SnapshotStatus.CREATING and not _has_worker(snapshot):
        # Of a group, or being managed. For others Cinder knows who was at work, and ends it itself.
        _settle(snapshot, _ERROR, "delete it")


def _end_groups(volumes: list[Any]) -> None:
    admin = cinder_context.get_admin_context()
    for host in {volume.host for volume in volumes if volume.host}:
        for group in objects.GroupList.get_all(admin, filters={"host": host}):
            for taken in objects.GroupSnapshotList.get_all_by_group(admin, group.id):
                if taken.status in (fields.GroupSnapshotStatus.CREATING, fields.GroupSnapshotStatus.DELETING):
                    _settle(taken, _ERROR, "delete it")
            if group.status in (
                fields.GroupStatus.CREATING,
                fields.GroupStatus.DELETING,
                fields.GroupStatus.UPDATING,
            ):
                for volume in objects.VolumeList.get_all_by_generic_group(admin, group.id):
                    if volume.status in ("creating", "deleting") and not _has_worker(volume):
                        _settle(volume, _ERROR, "its group is deleted again")
                _settle(group, _ERROR, "delete it")


def _settle(thing: Any, status: str, words: str) -> None:
    """Give a volume, snapshot or group its status, unless somebody has done so meanwhile."""
    before = thing.status
    if thing.conditional_update({"status": status}, {"status": before}):
        LOG.warning(
            "%s %s was left %s by a process that died: now it is %s, %s.",
            type(thing).__name__,
            thing.id,
            before,
            status,
            words,
        )


def _at_rest(volume: Any) -> str:
    return "in-use" if attachments(volume) else "available"


def _snapshots(volume: Any) -> list[Any]:
    return list(objects.SnapshotList.get_all_for_volume(cinder_context.get_admin_context(), volume.id))


def _has_worker(thing: Any) -> bool:
    """Tell whether Cinder's own clean-up will end the work on a volume or snapshot: it has to know of the same work."""
    admin = cinder_context.get_admin_context()
    try:
        worker = db.worker_get(admin, resource_type=type(thing).__name__, resource_id=thing.id)
    except exception.WorkerNotFound:
        return False
    return bool(worker.status == thing.status)


@contextmanager
def _logged(what: str) -> Iterator[None]:
    try:
        yield
    except (OpenvStorageError, exception.CinderException) as error:
        LOG.error("What a process that died was doing with %s could not be ended: %s", what, error)
