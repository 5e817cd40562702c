"""Looking whether a volume is served, past QEMU."""

from __future__ import annotations

import socket

from lxml import etree
from oslo_log import log as logging

from openvstorage.edge.errors import CertificateUnusable, EdgeError
from openvstorage.edge.location import NbdLocation
from openvstorage.edge.nbd import NbdClient
from openvstorage.edge.tls import client_context, host_directory

__all__ = ["accepts", "is_served"]

LOG = logging.getLogger(__name__)

_CONNECT_SECONDS = 2.0


def is_served(source: etree._Element) -> bool:
    """Tell whether the export of a ``source`` element can be opened here: not after the grant was revoked. Blocks."""
    host = source.find("host")
    place = NbdLocation(host.get("name"), int(host.get("port")), source.get("name"), tls=source.get("tls") == "yes")
    try:
        context = client_context(host_directory()) if place.tls else None
    except CertificateUnusable as error:
        # QEMU has a key that this process may not read. If the export is gone the guest pauses again at once.
        LOG.debug("Going by the port alone: %s", error)
        return accepts(place.host, place.port)
    try:
        NbdClient.connect(
            place.host,
            place.port,
            place.export,
            tls=context,
            tls_hostname=source.get("tlsHostname"),
            timeout=_CONNECT_SECONDS,
        ).close()
    except EdgeError as error:
        LOG.debug("%s is not served: %s", place, error)
        return False
    return True


def accepts(host: str, port: int) -> bool:
    """Tell whether something accepts connections there. Blocks for two seconds at most."""
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_SECONDS):
            return True
    except OSError:
        return False
