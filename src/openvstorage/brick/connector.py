"""The connector: a volume as a Python file over NBD, without a device node or a privileged call."""

from __future__ import annotations

from typing import Any

from os_brick import exception
from os_brick.initiator.connectors import base
from oslo_log import log as logging

from openvstorage.client import OpenvStorageError
from openvstorage.client.resolve import resolve
from openvstorage.edge.errors import EdgeError
from openvstorage.edge.handle import NbdHandle
from openvstorage.edge.location import NbdLocation
from openvstorage.edge.nbd import NbdClient
from openvstorage.edge.tls import client_context, host_directory

__all__ = ["OpenvStorageEdgeConnector"]

LOG = logging.getLogger(__name__)


class OpenvStorageEdgeConnector(base.BaseLinuxConnector):  # type: ignore[misc]
    """Opens volumes whose ``driver_volume_type`` is ``openvstorage_edge``.

    Connection properties are what our Cinder driver answers, see :mod:`openvstorage.client.resolve`. All calls block.
    """

    @staticmethod
    def get_connector_properties(root_helper: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Give nothing: the host's name, which all hosts tell, is what grants are made for."""
        return {}

    def connect_volume(self, connection_properties: dict[str, Any]) -> dict[str, Any]:
        """Open the volume where it is served now.

        :returns: ``type`` is ``block``; ``path`` is an open :class:`openvstorage.edge.handle.NbdHandle`, a seekable
            binary file, writable unless the grant is for reading.
        :raises BrickException: it cannot be opened; the text says why.
        """
        location = _locate(connection_properties)
        LOG.debug("Opening %s", location)
        return {"type": "block", "path": NbdHandle(_connect(location))}

    def disconnect_volume(
        self,
        connection_properties: dict[str, Any],
        device_info: dict[str, Any] | None,
        force: bool = False,
        ignore_errors: bool = False,
    ) -> None:
        """Make durable what was written, and close; a handle that is closed already is fine.

        :param force: close even if what was written cannot be made durable.
        :param ignore_errors: with ``force``, only log that.
        :raises OSError: what was written may not be durable; the handle is closed all the same.
        """
        handle = (device_info or {}).get("path")
        self.check_IO_handle_valid(handle, NbdHandle, "Open vStorage edge")
        if handle is None:
            return
        try:
            handle.close()
        except OSError as error:
            if not (force and ignore_errors):
                raise
            LOG.warning("A volume was closed that may lack what was written last: %s", error)

    def reopen(self, connection_properties: dict[str, Any], handle: NbdHandle) -> None:
        """Have an open handle go on with the size that the volume has now, where it is served now.

        :raises BrickException: it cannot be opened; the handle is as it was.
        :raises OSError: what was written before may not be durable.
        """
        handle.renew(_connect(_locate(connection_properties)))

    def check_valid_device(self, path: Any, run_as_root: bool = True) -> bool:
        """Tell whether ``path`` is a handle of ours that can be read; its position stays."""
        if not isinstance(path, NbdHandle) or path.closed:
            return False
        position = path.tell()
        try:
            path.seek(0)
            path.read(min(4096, path.size))
            path.seek(position)
        except OSError as error:
            LOG.error("A volume cannot be read: %s", error)
            return False
        return True

    def extend_volume(self, connection_properties: dict[str, Any]) -> int:
        """Give the size in bytes that the volume has now. Handles opened before keep the size they began with.

        :raises BrickException: it cannot be opened.
        """
        with _connect(_locate(connection_properties)) as client:
            return client.size

    def get_volume_paths(self, connection_properties: dict[str, Any]) -> list[str]:
        """Give nothing: the volume is in no file system."""
        return []

    def get_search_path(self) -> None:
        """Give nothing: volumes are not looked for on the host."""

    def get_all_available_volumes(self, connection_properties: dict[str, Any] | None = None) -> list[str]:
        """Give nothing, as ``get_volume_paths``."""
        return []


def _locate(properties: dict[str, Any]) -> NbdLocation:
    """Ask where the volume is served. Without a grant to ask for, the place in the properties is all there is."""
    if properties.get("protocol") != "nbd":
        words = "only a host with Open vStorage's patched QEMU can open it (protocol {}), not a process"
        raise exception.BrickException(words.format(properties.get("protocol")))
    try:
        found = resolve(properties)
        if found is not None:
            return NbdLocation.from_grant(found)
        (host,), (port,) = properties["hosts"], properties["ports"]
        return NbdLocation(host, int(port), properties["name"], tls=bool(properties.get("tls")))
    except (OpenvStorageError, EdgeError) as error:
        raise exception.BrickException(str(error)) from error
    except (KeyError, TypeError, ValueError) as error:
        raise exception.BrickException(f"the connection properties are incomplete: {error!r}") from error


def _connect(location: NbdLocation) -> NbdClient:
    try:
        tls = client_context(host_directory()) if location.tls else None
        return NbdClient.connect(location.host, location.port, location.export, tls=tls)
    except EdgeError as error:
        raise exception.BrickException(str(error)) from error
