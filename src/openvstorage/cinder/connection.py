"""Attachments: who may open a vDisk, expressed as grants.

Every host that Cinder attaches a volume to holds one grant of its vDisk, as long as Cinder has an attachment there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from cinder import context as cinder_context
from cinder import exception, objects
from oslo_log import log as logging

from openvstorage.cinder.pool import Pool
from openvstorage.cinder.transfer import is_transfer
from openvstorage.client import Grant, InUse, Mode, NotFound
from openvstorage.edge.location import EdgeLocation

__all__ = [
    "DRIVER_VOLUME_TYPE",
    "attachments",
    "connect",
    "connect_snapshot",
    "disconnect",
    "disconnect_snapshot",
    "edge_location",
    "make_room",
    "revoke_left_grants",
]

LOG = logging.getLogger(__name__)

Done = TypeVar("Done")

# What Nova and os-brick look their side of the driver up by.
DRIVER_VOLUME_TYPE = "openvstorage_edge"


def connect(
    pool: Pool, volume: Any, connector: dict[str, Any], resolver: dict[str, Any], timeout: int | None
) -> dict[str, Any]:
    """Let the connector's host open the volume and say how. Asking again for a host changes nothing.

    :param resolver: properties that say how a host asks where its grant is served now, see client.resolve.
    :param timeout: snapshot timeout in seconds for hosts with the patched QEMU, or None.
    :returns: Cinder's connection properties. There is no ``device_path`` in them: Nova takes that for a local device.
    :raises OpenvStorageError: the cluster's reason, for example InUse when another instance has the volume.
    """
    vdisk_guid = pool.vdisk(volume)
    data: dict[str, Any] = {"volume_id": volume.id, "vdisk": vdisk_guid, "discard": True}
    if pool.has_grants:
        mode: Mode = "ro" if _read_only(volume, connector) else "rw"
        consumer = _consumer(volume, connector)

        def create() -> Grant:
            # A volume of one writer at a time is kept to that by the cluster, too.
            host, shared = connector["host"], bool(volume.multiattach)
            return pool.client.grants.create(vdisk_guid, host, consumer, mode, shared=shared)

        grant = make_room(pool, volume, create)
        data.update(_nbd(grant), **resolver)
    else:
        data.update(_edge(edge_location(pool, vdisk_guid, timeout)))
    return {"driver_volume_type": DRIVER_VOLUME_TYPE, "data": data}


def disconnect(pool: Pool, volume: Any, connector: dict[str, Any] | None) -> bool:
    """Take the grants of the connector's host back, or of all hosts when Cinder names none (a forced detach).

    When this returns False the hosts concerned can no longer write. Grants of transfers are left alone.

    :returns: True when the host keeps its grant because Cinder has another attachment there.
    """
    host = (connector or {}).get("host")
    if host and _attachments_at(volume, host) > 1:
        LOG.debug("Host %s keeps its grant of volume %s: it has another attachment.", host, volume.name)
        return True
    vdisk_guid = pool.find_vdisk(volume)
    if vdisk_guid is None or not pool.has_grants:
        return False
    for grant in pool.grants(vdisk_guid):
        is_ours = grant.snapshot_guid is None and not is_transfer(grant)
        if is_ours and host in (None, grant.client):
            pool.revoke(grant)
    return False


def connect_snapshot(pool: Pool, snapshot: Any, connector: dict[str, Any], resolver: dict[str, Any]) -> dict[str, Any]:
    """Let the connector's host read a snapshot and say how; as ``connect``, read-only.

    :raises NotImplementedError: the cluster serves no snapshots.
    """
    if not pool.has_grants:
        raise NotImplementedError("snapshots are served by clusters with NBD only")
    vdisk_guid, guid = pool.snapshot(snapshot)
    grant = pool.client.grants.create(vdisk_guid, connector["host"], f"snapshot-{snapshot.id}", "ro", guid)
    data = {"volume_id": snapshot.volume_id, "vdisk": vdisk_guid, "access_mode": "ro", **_nbd(grant)}
    return {"driver_volume_type": DRIVER_VOLUME_TYPE, "data": {**data, **resolver}}


def disconnect_snapshot(pool: Pool, snapshot: Any, connector: dict[str, Any] | None) -> None:
    """Take the grants of a snapshot back, of the connector's host or of all hosts."""
    host = (connector or {}).get("host")
    try:
        vdisk_guid, guid = pool.snapshot(snapshot)
    except NotFound as error:
        LOG.debug("Snapshot %s is gone, and its grants with it: %s", snapshot.name, error)
        return
    for grant in pool.grants(vdisk_guid):
        if grant.snapshot_guid == guid and host in (None, grant.client):
            pool.revoke(grant)


def attachments(volume: Any) -> list[Any]:
    """Ask Cinder's database for a volume's attachments: the volume at hand was read before the call was queued."""
    context = cinder_context.get_admin_context()
    return list(objects.VolumeAttachmentList.get_all_by_volume_id(context, volume.id))


def make_room(pool: Pool, volume: Any, action: Callable[[], Done]) -> Done:
    """Do something that needs a volume which nobody else has; where only grants that Cinder knows nothing of stand in
    its way, they are revoked and it is done once more.

    Such a grant is left when cinder-volume dies between making it and telling Cinder's database.

    :raises InUse: Cinder knows who has the volume.
    """
    try:
        return action()
    except InUse:
        if not _revoke_unknown(pool, volume):
            raise
    return action()


def revoke_left_grants(pool: Pool, volumes: list[Any]) -> None:
    """Revoke what a process that died left of grants: transfers, and those of volumes that nobody has attached.

    Only for volumes on which no other process works. Grants of snapshots are kept: a backup may read through them.
    """
    if not pool.has_grants:
        return
    known = {volume.provider_id: volume for volume in volumes if volume.provider_id}
    for grant in list(pool.client.grants.all()):
        volume = known.get(grant.vdisk_guid)
        if volume is None or grant.snapshot_guid is not None:
            continue
        if is_transfer(grant) or (volume.status == "available" and _unattached(volume)):
            LOG.warning("Revoking grant %s of volume %s, left by a process that died.", grant.guid, volume.name)
            pool.revoke(grant)


def edge_location(pool: Pool, vdisk_guid: str, timeout: int | None = None) -> EdgeLocation:
    """Give where Open vStorage's own edge serves a vDisk at this moment."""
    address = pool.client.vdisks.location(pool.client.vdisks.get(vdisk_guid))
    return EdgeLocation(address.host, address.port, address.volume, address.transport, timeout)


def _nbd(grant: Grant) -> dict[str, Any]:
    # Ports are text: Nova puts them into XML as they are.
    return {
        "protocol": "nbd",
        "name": grant.export_name,
        "hosts": [grant.host],
        "ports": [str(grant.port)],
        "transport": "tcp",
        "tls": grant.tls,
        "grant": grant.guid,
        # Answers one question, where this grant is served; it opens nothing. Cinder masks the key in its logs.
        "secret": grant.secret,
    }


def _edge(location: EdgeLocation) -> dict[str, Any]:
    return {
        "protocol": "openvstorage",
        "name": location.name,
        "hosts": [location.host],
        "ports": [str(location.port)],
        "transport": location.transport,
        "snapshot_timeout": location.snapshot_timeout,
    }


def _read_only(volume: Any, connector: dict[str, Any]) -> bool:
    """Tell whether an attachment is for reading: by the volume's flag, else by what was asked for with the attachment.

    The flag's rule is Cinder's own for the access mode that it tells Nova beside our connection properties. A volume
    that has the flag, set or not, gets "ro" into its connectors by Cinder itself, whatever was asked for.
    """
    metadata = volume.admin_metadata or {}
    mode = metadata.get("attached_mode")
    if mode is not None:
        return bool(mode == "ro")
    if "readonly" in metadata:
        return bool(metadata["readonly"] == "True")
    return connector.get("mode") == "ro"


def _consumer(volume: Any, connector: dict[str, Any]) -> str:
    """Name who uses the volume. The cluster lets writers in together only when they are the same consumer.

    For one instance that allows live migration, in which two hosts have it open, and nothing else. Of a multi-attach
    volume each host is one, and shares; so is it without an instance (Cinder itself, a bare host).
    """
    if volume.multiattach:
        return f"host-{connector['host']}"
    instances = {attachment.instance_uuid for attachment in attachments(volume) if attachment.instance_uuid}
    if len(instances) > 1:
        words = f"volume {volume.name} is attached to several instances and is no multi-attach volume"
        raise exception.InvalidVolume(reason=words)
    return f"instance-{instances.pop()}" if instances else f"host-{connector['host']}"


def _unattached(volume: Any) -> bool:
    """Tell whether nobody has the volume, not even Cinder itself while it copies it to another backend."""
    return not attachments(volume) and volume.migration_status in (None, "error", "success")


def _revoke_unknown(pool: Pool, volume: Any) -> bool:
    """Revoke the grants that stand in the way of an attachment and that Cinder has no attachment for.

    :returns: whether there was any.
    """
    known = attachments(volume)
    undecided = [attachment for attachment in known if not attachment.connector]
    if len(undecided) > 1 or volume.migration_status not in (None, "error", "success"):
        # Somebody else is just being let in, and his grant may be one of these.
        return False
    hosts = {attachment.connector.get("host") for attachment in known if attachment.connector}
    consumers = {f"instance-{attachment.instance_uuid}" for attachment in known if attachment.instance_uuid}
    unknown = [
        grant
        for grant in pool.grants(pool.vdisk(volume))
        if grant.snapshot_guid is None
        and not is_transfer(grant)
        and grant.client not in hosts
        and grant.consumer not in consumers
    ]
    for grant in unknown:
        LOG.warning("Revoking grant %s of volume %s: Cinder has no attachment for it.", grant.guid, volume.name)
        pool.revoke(grant)
    return bool(unknown)


def _attachments_at(volume: Any, host: str) -> int:
    return sum((attachment.connector or {}).get("host") == host for attachment in attachments(volume))
