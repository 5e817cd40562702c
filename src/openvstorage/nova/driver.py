"""The libvirt volume driver: how nova-compute attaches a vPool volume to a guest."""

from __future__ import annotations

from typing import Any

from nova import exception
from nova.virt import block_device
from nova.virt.libvirt.volume import volume
from oslo_log import log as logging

from openvstorage.client import NotFound, OpenvStorageError, Unreachable
from openvstorage.client.resolve import GrantLocation, resolve
from openvstorage.nova import growth, iothread
from openvstorage.nova.disk import LibvirtConfigOpenvStorageEdgeGuestDisk
from openvstorage.nova.probe import accepts

__all__ = ["LibvirtOpenvStorageEdgeVolumeDriver"]

LOG = logging.getLogger(__name__)

# The management service may be restarting while guests are started.
_RESOLVE_SECONDS = 30.0
# Requests of a guest wait this long for a storage process that died or is upgraded. After that the guest is paused and
# goes on when the storage is back. Not longer, because a detach or a flush meanwhile holds the whole QEMU that long,
# and because Linux complains of tasks that are blocked for two minutes.
_RECONNECT_SECONDS = 60
_RECONNECT_LIBVIRT = (9, 2, 0)


class LibvirtOpenvStorageEdgeVolumeDriver(volume.LibvirtBaseVolumeDriver):  # type: ignore[misc]
    """Attaches volumes whose ``driver_volume_type`` is ``openvstorage_edge``.

    Their connection properties are those of our Cinder driver, see :mod:`openvstorage.client.resolve`. A vDisk served
    over NBD is found anew each time a guest starts; this host has no account of the vPool for that, only the grant.
    """

    def __init__(self, host: Any) -> None:
        """Make the driver of a host; Nova does so when it meets the first such volume."""
        super().__init__(host, is_block_dev=False)
        self._versions_checked = False
        LOG.debug("libovsvolumedriver.init")

    # Nova's tests want the methods of all its volume drivers to have the very signatures of their base, which has no
    # annotations. So types are in comments here.

    def connect_volume(self, connection_info, instance):
        # type: (dict[str, Any], Any) -> None
        """Find out where the volume is served now, and leave that in ``connection_info``. Blocks until it is served.

        If no management address can be reached, the place of the last time stays: it is right unless the vDisk moved,
        and its export name opens no other one.

        :raises VolumeAttachFailed: the grant was revoked, this is not its holder, or the vDisk cannot be served; or
            nothing of the vPool can be reached.
        """
        self._check_versions()
        data = connection_info["data"]
        # What an earlier attachment found out may be wrong on this host.
        data.pop("iothread", None)
        try:
            location = resolve(data, patience=_RESOLVE_SECONDS)
        except Unreachable as error:
            if not any(accepts(host, int(port)) for host, port in zip(data["hosts"], data["ports"], strict=True)):
                raise _attach_failed(connection_info, error) from error
            LOG.warning("Using the last known location of a volume: %s", error, instance=instance)
        except OpenvStorageError as error:
            raise _attach_failed(connection_info, error) from error
        else:
            data.update(location.properties if location is not None else {})
            if location is not None and location.mode == "ro":
                # Cinder tells of the volume's own flag only, not of what was asked for with the attachment.
                data["access_mode"] = "ro"
        if data.get("protocol") == "nbd":
            number = iothread.number_for(self.host, instance)
            data.update({"iothread": number} if number is not None else {})

    def get_config(self, connection_info, disk_info):
        # type: (dict[str, Any], dict[str, Any]) -> LibvirtConfigOpenvStorageEdgeGuestDisk
        """Give the disk element. Depends on its arguments only: a live migration makes it on the other host.

        :raises InvalidVolume: the connection properties are of a kind that this version does not know.
        """
        stock = super().get_config(connection_info, disk_info)
        disk = LibvirtConfigOpenvStorageEdgeGuestDisk.from_stock(stock)
        data = connection_info["data"]
        disk.source_type = "network"
        disk.source_protocol = data.get("protocol")
        disk.source_name = data.get("name")
        disk.source_hosts = list(data.get("hosts", []))
        disk.source_ports = [str(port) for port in data.get("ports", [])]
        if disk.source_protocol == "nbd":
            disk.source_tls = bool(data.get("tls"))
            disk.source_tls_hostname = data.get("tls_hostname")
            disk.source_reconnect_delay = _RECONNECT_SECONDS
            disk.driver_error_policy = disk.driver_rerror_policy = "stop"
            disk.driver_iothread = data.get("iothread") if disk.target_bus == "virtio" else None
        elif disk.source_protocol == "openvstorage":
            disk.source_transport = data.get("transport")
            disk.source_snapshot_timeout = data.get("snapshot_timeout")
        else:
            raise exception.InvalidVolume(reason=f"unknown protocol {disk.source_protocol} of an Open vStorage volume")
        return disk

    def disconnect_volume(self, connection_info, instance, force=False):
        # type: (dict[str, Any], Any, bool) -> None
        """Do nothing: with its disk the guest loses the connection, and Cinder revokes the grant."""

    def extend_volume(self, connection_info, instance, requested_size):
        # type: (dict[str, Any], Any, int) -> int
        """Make a running guest's QEMU see the size that the volume has now, in bytes; it may pause for milliseconds.

        :returns: the size for Nova to announce to the guest: of an encrypted volume, what is behind its header.
        :raises VolumeExtendFailed: the volume is smaller than that, or the guest cannot be told.
        """
        data = connection_info["data"]
        if data.get("protocol") != "nbd":
            return requested_size
        try:
            location = resolve(data, patience=_RESOLVE_SECONDS)
            _check_size(location, requested_size)
            encrypted = bool(data.get("encrypted"))
            size = growth.grow(self.host, instance, _volume_id(connection_info), requested_size, encrypted)
        except (OpenvStorageError, growth.CannotGrow) as error:
            raise exception.VolumeExtendFailed(volume_id=_volume_id(connection_info), reason=str(error)) from error
        if encrypted:
            # By this Nova would take the header off itself, which it does for drivers of its own only. What it has
            # handed over is a copy for this one call.
            data["encrypted"] = False
        return size

    def _check_versions(self) -> None:
        if self._versions_checked:
            return
        self._versions_checked = True
        if not self.host.has_min_version(lv_ver=_RECONNECT_LIBVIRT):
            LOG.warning(
                "This libvirt is older than %s: when a storage process restarts, guests that write are paused until "
                "it is back, where a newer one would let them wait",
                ".".join(map(str, _RECONNECT_LIBVIRT)),
            )


def _volume_id(connection_info: dict[str, Any]) -> str:
    return str(block_device.get_volume_id(connection_info))


def _attach_failed(connection_info: dict[str, Any], error: OpenvStorageError) -> exception.VolumeAttachFailed:
    reason = str(error)
    if isinstance(error, Unreachable):
        reason = f"neither its vPool's management service nor its storage can be reached; try again later ({error})"
    elif isinstance(error, NotFound):
        reason = "its attachment to this host was revoked; detach the volume and attach it again"
    return exception.VolumeAttachFailed(volume_id=_volume_id(connection_info), reason=reason)


def _check_size(location: GrantLocation | None, wanted: int) -> None:
    if location is not None and location.size < wanted:
        raise growth.CannotGrow(f"the vDisk has {location.size} bytes, Nova was told {wanted}")
