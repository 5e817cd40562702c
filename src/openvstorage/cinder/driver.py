"""The volume driver: what Cinder calls, each call one line of what it means on the vPool."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from cinder import exception, interface
from cinder.volume import driver
from oslo_log import log as logging

from openvstorage import __version__
from openvstorage.brick.registration import register as register_connector
from openvstorage.cinder import connection, durability, encryption, images, opts, recovery, stats
from openvstorage.cinder.errors import SetupError, setup_fault, translated
from openvstorage.cinder.groups import GroupOperations
from openvstorage.cinder.manage import ManageOperations
from openvstorage.cinder.pool import Pool
from openvstorage.cinder.refusal import forget, told
from openvstorage.client import ConfigurationError, Durability, NotFound, OpenvStorageError
from openvstorage.client.endpoints import management_urls

__all__ = ["OpenvStorageEdgeVolumeDriver"]

LOG = logging.getLogger(__name__)

# Importing this module is all that cinder-volume does for us before it opens a volume itself.
register_connector()


@interface.volumedriver
class OpenvStorageEdgeVolumeDriver(GroupOperations, ManageOperations, driver.VolumeDriver):  # type: ignore[misc]
    """Volumes as vDisks of one vPool, served over NBD, or by the edge of an Open vStorage cluster.

    Written for Cinder 29, works on 25; with eventlet and with native threads. A volume's ``provider_id`` is the guid
    of its vDisk, a snapshot's the guid of the snapshot there; no address is kept anywhere. Methods raise Cinder's own
    exceptions: ``VolumeBackendAPIException`` with the cluster's words unless they say otherwise.
    """

    VERSION = __version__
    CI_WIKI_NAME = "OpenvStorage_CI"
    # Everything that is shared is kept by the cluster and Cinder's database, nothing in this process.
    SUPPORTS_ACTIVE_ACTIVE = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what the volume manager gives, and register the options. No I/O."""
        super().__init__(*args, **kwargs)
        opts.register(self.configuration)
        # The guide of 2017 tells operators to look for these two markers.
        LOG.debug("libovsvolumedriver.init %s", self._backend_name)

    @classmethod
    def get_driver_options(cls) -> list[Any]:
        """Give the options of this driver, for documentation and cinderlib."""
        return list(opts.OPTIONS)

    def do_setup(self, context: Any) -> None:
        """Make the client. No I/O. :raises SetupError: an option is missing or cannot work."""
        try:
            client = opts.make_client(self.configuration)
        except ConfigurationError as error:
            raise SetupError(message=setup_fault(error)) from error
        tls_dir = Path(self.configuration.openvstorage_edge_tls_dir)
        self._pool = Pool(client, self.configuration.openvstorage_vpool_guid, tls_dir)
        LOG.debug(
            "libovsvolumedriver.do_setup %s: vPool %s at %s, port %s",
            self._backend_name,
            self._pool.vpool_guid,
            ", ".join(self.configuration.openvstorage_management_ips),
            self.configuration.openvstorage_port,
        )

    def check_for_setup_error(self) -> None:
        """Ask the cluster for the vPool. :raises SetupError: it cannot be had; says what to change."""
        try:
            vpool = self.pool.client.vpools.get(self.pool.vpool_guid)
        except NotFound as error:
            known = ", ".join(f"{vpool.guid} ({vpool.name})" for vpool in self.pool.client.vpools.list())
            message = f"There is no vPool {self.pool.vpool_guid}. Set openvstorage_vpool_guid to one of: {known}"
            raise SetupError(message=message) from error
        except OpenvStorageError as error:
            raise SetupError(message=setup_fault(error)) from error
        features = ", ".join(sorted(self.pool.client.features())) or "none, so this is an Open vStorage cluster"
        LOG.info("Backend %s uses vPool %s (%s); features: %s", self._backend_name, vpool.name, vpool.guid, features)

    @property
    def _backend_name(self) -> str:
        return str(self.configuration.safe_get("volume_backend_name") or self.configuration.config_group)

    def update_provider_info(self, volumes: list[Any], snapshots: list[Any]) -> tuple[None, None]:
        """End what a process that died left half done: Cinder calls this at each start, before it takes work.

        In a cluster of services others may be at work on the same volumes, so nothing is done.
        """
        if not self.cluster_name:
            recovery.recover(self.pool, volumes, snapshots)
        return None, None

    # Volumes

    def create_volume(self, volume: Any) -> dict[str, Any]:
        """Make an empty volume, with a LUKS header if it is to be encrypted.

        What an earlier attempt may have left of it is replaced.

        :raises TypeRefused: its type asks for what cannot be had; nothing is made, and Cinder does not try elsewhere.
        """
        with translated(f"create volume {volume.name}"), told(volume), ExitStack() as undo:
            encryption.check(self.pool, volume)
            guid = self.pool.create(volume)
            if encryption.is_encrypted(volume):
                undo.callback(self._discard, guid)
                encryption.format_vdisk(self.pool, guid, volume)
                undo.pop_all()
            return {"provider_id": guid}

    def delete_volume(self, volume: Any) -> None:
        """Delete a volume; what is gone already is a success.

        :raises VolumeIsBusy: it is attached, or the cluster does not delete what was cloned from.
        """
        with translated(f"delete volume {volume.name}"):
            self.pool.delete(volume)

    def extend_volume(self, volume: Any, new_size: int) -> None:
        """Grow a volume, attached or not, to ``new_size`` GiB."""
        with translated(f"extend volume {volume.name} to {new_size} GiB"), told(volume):
            self.pool.extend(volume, new_size)

    def retype(self, context: Any, volume: Any, new_type: Any, diff: Any, host: Any) -> tuple[bool, None]:
        """Change the type of a volume, attached or not: limits and durability reach a running guest at once.

        Types with another encryption do not come here: Cinder then copies, which ``before_volume_copy`` refuses.

        :raises TypeRefused: the type asks for what cannot be had; the volume stays as it is.
        """
        with translated(f"retype volume {volume.name}"), told(volume):
            done = self.pool.retype(volume, new_type.id)
        forget(volume)
        return done, None

    def migrate_volume(self, context: Any, volume: Any, host: dict[str, Any]) -> tuple[bool, None]:
        """Move a volume to another backend on the same vPool, which moves nothing; else let Cinder copy it."""
        there = host["capabilities"].get("location_info")
        return there == stats.location_info(self.pool), None

    def before_volume_copy(self, context: Any, src_vol: Any, dest_vol: Any, remote: str | None = None) -> None:
        """Refuse a copy to a type with another encryption, which Cinder could make between devices of the host only.

        :raises TypeRefused: it is one; nothing has been copied.
        """
        with told(dest_vol):
            encryption.check_copy(src_vol, dest_vol)

    def create_cloned_volume(self, volume: Any, src_vref: Any) -> dict[str, Any]:
        """Make a volume from another one, in constant time; it may be larger. Encrypted ones keep their header."""
        with translated(f"clone volume {src_vref.name} to {volume.name}"), told(volume):
            return {"provider_id": self.pool.clone(volume, self.pool.vdisk(src_vref))}

    def create_volume_from_snapshot(self, volume: Any, snapshot: Any) -> dict[str, Any]:
        """Make a volume from a snapshot, in constant time; it may be larger. Encrypted ones keep their header."""
        with translated(f"create volume {volume.name} from snapshot {snapshot.name}"), told(volume):
            return {"provider_id": self.pool.clone(volume, *self.pool.snapshot(snapshot))}

    # Snapshots

    def create_snapshot(self, snapshot: Any) -> dict[str, Any]:
        """Take a snapshot, of an attached volume too (consistent as after a power cut)."""
        with translated(f"take snapshot {snapshot.name} of volume {snapshot.volume_name}"):
            return {"provider_id": self.pool.create_snapshot(snapshot)}

    def delete_snapshot(self, snapshot: Any) -> None:
        """Delete a snapshot; what is gone already is a success.

        :raises SnapshotIsBusy: the cluster does not delete what was cloned from.
        """
        with translated(f"delete snapshot {snapshot.name} of volume {snapshot.volume_name}"):
            self.pool.delete_snapshot(snapshot)

    def revert_to_snapshot(self, context: Any, volume: Any, snapshot: Any) -> None:
        """Put a volume back to a snapshot; newer snapshots stay, and so does the volume's size."""
        with translated(f"revert volume {volume.name} to snapshot {snapshot.name}"):
            connection.make_room(self.pool, volume, lambda: self.pool.revert(volume, snapshot))

    def snapshot_revert_use_temp_snapshot(self) -> bool:
        """Tell that a revert here is done wholly or not at all, so Cinder need not take a snapshot before."""
        return False

    # Images

    def clone_image(
        self, context: Any, volume: Any, image_location: Any, image_meta: dict[str, Any], image_service: Any
    ) -> tuple[dict[str, Any] | None, bool]:
        """Make a volume of a raw image while it comes from Glance, instead of storing it on this host first.

        :returns: the update of the volume and True, or None and False where Cinder has to do it its usual way.
        :raises ImageUnacceptable: the image is too large or not what it claims to be; nothing is left behind.
        """
        uses_cache = bool(self.configuration.safe_get("image_volume_cache_enabled"))
        with translated(f"create volume {volume.name} from image {image_meta['id']}"), told(volume):
            if not images.can_stream(self.pool, image_meta, image_location, uses_cache):
                return None, False
            guid = self.pool.create(volume)
        with ExitStack() as undo:
            undo.callback(self._discard, guid)
            images.stream(self.pool, guid, context, volume, image_service, image_meta["id"], is_new=True)
            undo.pop_all()
        return {"provider_id": guid}, True

    def copy_image_to_volume(
        self, context: Any, volume: Any, image_service: Any, image_id: str, disable_sparse: bool = False
    ) -> None:
        """Write an image into a volume, a new one or (``disable_sparse``) over what it held."""
        images.download(self.pool, context, volume, image_service, image_id, disable_sparse)

    def copy_image_to_encrypted_volume(
        self, context: Any, volume: Any, image_service: Any, image_id: str, disable_sparse: bool = False
    ) -> None:
        """Encrypt an image into a volume. All of the image is written, so ``disable_sparse`` changes nothing."""
        images.download_encrypted(self.pool, context, volume, image_service, image_id)

    def copy_volume_to_image(self, context: Any, volume: Any, image_service: Any, image_meta: dict[str, Any]) -> None:
        """Make an image of a volume, attached or not."""
        images.upload(self.pool, context, volume, image_service, image_meta)

    # Attachments

    def validate_connector(self, connector: dict[str, Any]) -> None:
        """Check that a host says its name. :raises InvalidConnectorException: it does not."""
        if not connector.get("host"):
            LOG.error("A connector without a host name cannot be given a grant.")
            raise exception.InvalidConnectorException(missing="host")

    def initialize_connection(self, volume: Any, connector: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Let a host open a volume and tell it how. Asking again changes nothing."""
        with translated(f"attach volume {volume.name} to host {connector['host']}"):
            timeout = self.configuration.openvstorage_snapshot_timeout
            return connection.connect(self.pool, volume, connector, self._resolver(), timeout)

    def terminate_connection(self, volume: Any, connector: dict[str, Any] | None, **kwargs: Any) -> bool:
        """End a host's access to a volume, or every host's when ``connector`` is None; harmless when repeated.

        :returns: True when the host keeps it, because Cinder has another attachment there.
        """
        with translated(f"detach volume {volume.name} from host {(connector or {}).get('host', '(all)')}"):
            return connection.disconnect(self.pool, volume, connector)

    def initialize_connection_snapshot(self, snapshot: Any, connector: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Let a host read a snapshot, for a backup of a volume in use, and tell it how."""
        with translated(f"attach snapshot {snapshot.name} to host {connector['host']}"):
            return connection.connect_snapshot(self.pool, snapshot, connector, self._resolver())

    def terminate_connection_snapshot(self, snapshot: Any, connector: dict[str, Any] | None, **kwargs: Any) -> None:
        """End a host's access to a snapshot, or every host's; harmless when repeated."""
        with translated(f"detach snapshot {snapshot.name}"):
            connection.disconnect_snapshot(self.pool, snapshot, connector)

    def backup_use_temp_snapshot(self) -> bool:
        """Tell that a volume in use is backed up through a snapshot that is read directly, not through a copy."""
        return self.pool.has_grants

    def create_export(self, context: Any, volume: Any, connector: dict[str, Any]) -> None:
        """Do nothing: a grant makes the export."""

    def ensure_export(self, context: Any, volume: Any) -> None:
        """Do nothing: the vPool service keeps exports over restarts of its own and of Cinder."""

    def remove_export(self, context: Any, volume: Any) -> None:
        """Do nothing: the last grant takes the export with it.

        Cinder calls this for one attachment while another one may be in use, and after a refused one too.
        """

    def create_export_snapshot(self, context: Any, snapshot: Any, connector: dict[str, Any]) -> None:
        """Do nothing: a grant makes the export."""

    def remove_export_snapshot(self, context: Any, snapshot: Any) -> None:
        """Do nothing: the last grant takes the export with it."""

    # Statistics

    def _update_volume_stats(self) -> None:
        """Refresh what ``get_volume_stats`` gives; never raises for faults of the cluster."""
        self._stats = stats.collect(self.pool, self.configuration, self.VERSION)

    def _init_vendor_properties(self) -> tuple[dict[str, Any], str]:
        """Give what volume types may ask of this backend by extra specs, with its help, for the capabilities API."""
        properties: dict[str, Any] = {}
        if self.pool.has(durability.FEATURE):
            values = [str(value) for value in Durability]
            self._set_property(properties, durability.EXTRA_SPEC, "Durability", durability.HELP, "string", enum=values)
        return properties, "openvstorage"

    def _resolver(self) -> dict[str, Any]:
        """Give the properties by which a host, which has no account, asks where its grant is served now."""
        addresses, port = self.configuration.openvstorage_management_ips, self.configuration.openvstorage_port
        ca_file = self.configuration.openvstorage_ca_file
        return {
            "resolvers": management_urls(addresses, port),
            "ca": Path(ca_file).read_text() if ca_file else None,
        }

    def _discard(self, vdisk_guid: str) -> None:
        """Remove a vDisk that an image did not get into. Never raises: what went wrong before is what matters."""
        try:
            self.pool.client.vdisks.delete(vdisk_guid, force=True)
        except OpenvStorageError as error:
            LOG.warning("vDisk %s stays until its volume is deleted: %s", vdisk_guid, error)
