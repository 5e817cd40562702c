"""Guests that an outage of the storage paused go on when it is back.

A disk whose requests fail pauses its guest, so that no error reaches the guest's file systems. libvirt leaves it at
that, Nova notices the pause and ignores it, and its API refuses to unpause what it believes is running. So this process
looks after its host's guests.
"""

from __future__ import annotations

import socket
import threading
from typing import Any

from lxml import etree
from nova.virt.libvirt import guest as libvirt_guest
from oslo_log import log as logging

from openvstorage.edge.errors import CertificateUnusable, EdgeError
from openvstorage.edge.location import NbdLocation
from openvstorage.edge.nbd import NbdClient
from openvstorage.edge.tls import client_context, host_directory

__all__ = ["Resumer", "is_ours", "is_paused_by_an_error"]

LOG = logging.getLogger(__name__)

_INTERVAL_SECONDS = 5.0
_CONNECT_SECONDS = 2.0


class Resumer:
    """A thread that resumes guests paused by failed requests to a volume of ours.

    :param host: Nova's libvirt host of this process.
    """

    def __init__(self, host: Any) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin, if it has not begun; it ends with the process. Does not block."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="openvstorage-resume", daemon=True)
                self._thread.start()

    def look(self) -> list[str]:
        """Look at all guests of the host once. Blocks.

        :returns: names of the guests that were told to go on. They pause again if the storage is not back after all.
        """
        libvirt = libvirt_guest.libvirt
        resumed = []
        paused = self._host.get_connection().listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED)
        for domain in paused:
            try:
                if is_paused_by_an_error(domain) and _storage_is_back(domain):
                    LOG.info("Guest %s goes on: its volumes can be reached again", domain.name())
                    domain.resume()
                    resumed.append(domain.name())
            except libvirt.libvirtError as error:
                LOG.warning("A guest that an outage paused could not go on yet: %s", error)
        return resumed

    def _run(self) -> None:
        ticks = threading.Event()
        while not ticks.wait(_INTERVAL_SECONDS):
            try:
                self.look()
            except Exception:
                # A thread that ends would leave guests paused for good, and nobody would know.
                LOG.exception("Looking for guests that an outage paused failed; trying again")


def is_paused_by_an_error(domain: Any) -> bool:
    """Tell whether a libvirt domain is paused because a request to a disk failed, and not by anybody's wish."""
    libvirt = libvirt_guest.libvirt
    return bool(domain.state() == [libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_IOERROR])


def is_ours(disk: etree._Element) -> bool:
    """Tell whether a ``disk`` element is one that our driver made: an NBD disk that pauses its guest on errors."""
    source, driver = disk.find("source"), disk.find("driver")
    if source is None or driver is None or source.get("protocol") != "nbd":
        return False
    return bool(driver.get("error_policy") == driver.get("rerror_policy") == "stop")


def _storage_is_back(domain: Any) -> bool:
    """Tell whether the guest's failed disks are all ours, and are served to this host again."""
    disks = etree.fromstring(domain.XMLDesc(0)).findall("devices/disk")
    failed = set(domain.diskErrors())
    concerned = [disk for disk in disks if disk.find("target").get("dev") in failed]
    # A local disk that is full pauses a guest, too: that is for the operator.
    return bool(concerned) and all(is_ours(disk) and _is_served(disk.find("source")) for disk in concerned)


def _is_served(source: etree._Element) -> bool:
    """Tell whether the export of a ``source`` element can be opened here: not after the grant was revoked."""
    host = source.find("host")
    place = NbdLocation(host.get("name"), int(host.get("port")), source.get("name"), tls=source.get("tls") == "yes")
    try:
        context = client_context(host_directory()) if place.tls else None
    except CertificateUnusable as error:
        # QEMU has a key that this process may not read. If the export is gone the guest pauses again at once.
        LOG.debug("Going by the port alone: %s", error)
        return _accepts(place)
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


def _accepts(place: NbdLocation) -> bool:
    try:
        with socket.create_connection((place.host, place.port), timeout=_CONNECT_SECONDS):
            return True
    except OSError:
        return False
