"""Looking whether a volume is served, past QEMU."""

from __future__ import annotations

import socket
from enum import Enum

from lxml import etree
from oslo_log import log as logging

from openvstorage.edge.errors import CertificateUnusable, EdgeError, ExportRefused
from openvstorage.edge.location import NbdLocation
from openvstorage.edge.nbd import NbdClient
from openvstorage.edge.tls import client_context, host_directory

__all__ = ["Sight", "accepts", "look_at"]

LOG = logging.getLogger(__name__)

_CONNECT_SECONDS = 2.0


class Sight(Enum):
    """What can be seen of an export from here."""

    SERVED = "it can be opened"
    LISTENING = "something accepts connections there; this process may not ask for more"
    REFUSED = "a server is there that does not give it: its grant was revoked, or it has another name by now"
    GONE = "nobody who could give it answers"


def look_at(source: etree._Element) -> Sight:
    """Tell whether the export of a ``source`` element can be opened here. Blocks."""
    host = source.find("host")
    place = NbdLocation(host.get("name"), int(host.get("port")), source.get("name"), tls=source.get("tls") == "yes")
    try:
        context = client_context(host_directory()) if place.tls else None
    except CertificateUnusable as error:
        # QEMU has a key that this process may not read. If the export is gone the guest pauses again at once.
        LOG.debug("Going by the port alone: %s", error)
        return Sight.LISTENING if accepts(place.host, place.port) else Sight.GONE
    try:
        NbdClient.connect(
            place.host,
            place.port,
            place.export,
            tls=context,
            tls_hostname=source.get("tlsHostname"),
            timeout=_CONNECT_SECONDS,
        ).close()
    except ExportRefused as error:
        LOG.debug("%s is not given: %s", place, error)
        return Sight.REFUSED
    except EdgeError as error:
        LOG.debug("%s is not served: %s", place, error)
        return Sight.GONE
    return Sight.SERVED


def accepts(host: str, port: int) -> bool:
    """Tell whether something accepts connections there. Blocks for two seconds at most."""
    try:
        with socket.create_connection((host, port), timeout=_CONNECT_SECONDS):
            return True
    except OSError:
        return False
