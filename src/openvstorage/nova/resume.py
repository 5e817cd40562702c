"""Guests that an outage of the storage paused go on when it is back.

A disk whose requests fail pauses its guest, so that no error reaches the guest's file systems. libvirt leaves it at
that, Nova notices the pause and ignores it, and its API refuses to unpause what it believes is running. So this process
looks after its host's guests, from its start on: an outage may have begun before.

One kind stays paused: where a vDisk's durability is "flushed" and its storage process died, writes may be gone that the
guest was told to be written. It must not go on over them, so the vPool serves the vDisk under another name from then
on. A hard reboot by Nova finds that name, and the guest starts as after a power cut.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from lxml import etree
from oslo_log import log as logging

from openvstorage.nova.grants import LostExports, Opened
from openvstorage.nova.probe import Sight, look_at

__all__ = ["Resumer", "is_ours", "is_paused_by_an_error"]

LOG = logging.getLogger(__name__)

_INTERVAL_SECONDS = 5.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Paused:
    """A guest that failed requests have paused, and the ``disk`` elements concerned."""

    uuid: str
    name: str
    disks: list[etree._Element]

    def opened(self) -> list[Opened]:
        """Give what the guest has opened for these disks."""
        return [
            Opened(self.uuid, disk.findtext("serial") or "", disk.find("source").get("name")) for disk in self.disks
        ]


class Resumer:
    """A thread that resumes guests paused by failed requests to a volume of ours.

    It has a connection of its own to libvirt: Nova's is not there yet when it starts.

    :param uri: libvirt's.
    """

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._connection: Any = None
        self._exports = LostExports()
        # Of those that are lost, what was said already.
        self._told: set[Opened] = set()

    def start(self) -> None:
        """Begin; it ends with the process. Does not block."""
        threading.Thread(target=self._run, name="openvstorage-resume", daemon=True).start()

    def look(self) -> list[str]:
        """Look at all guests of the host once. Blocks.

        :returns: names of the guests that were told to go on. They pause again if the storage is not back after all.
        :raises libvirtError: libvirt does not answer; the next time another connection is tried.
        """
        paused = [guest for guest in _apart(self._paused) if guest.disks and all(map(is_ours, guest.disks))]
        opened = {one for guest in paused for one in guest.opened()}
        self._exports.keep(opened)
        self._told &= opened
        return [guest.name for guest in paused if self._may_go_on(guest) and self._go_on(guest)]

    def _paused(self) -> list[_Paused]:
        libvirt = _libvirt()
        self._connection = self._connection or libvirt.open(self._uri)
        try:
            paused = self._connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_PAUSED)
        except libvirt.libvirtError:
            self._connection = None
            raise
        found = []
        for domain in paused:
            try:
                if is_paused_by_an_error(domain):
                    found.append(_Paused(domain.UUIDString(), domain.name(), _failed_disks(domain)))
            except libvirt.libvirtError as error:
                LOG.debug("A paused guest is not looked at: %s", error)
        return found

    def _may_go_on(self, guest: _Paused) -> bool:
        """Tell whether the storage of a guest is back, and is what the guest knows."""
        sights = {look_at(disk.find("source")) for disk in guest.disks}
        if sights == {Sight.SERVED}:
            return True
        if Sight.GONE in sights:
            return False
        # A server is there, and does not give the export, or it cannot be seen whether it does.
        lost = [(one, self._exports.is_lost(one)) for one in guest.opened()]
        for one, is_lost in lost:
            if is_lost and one not in self._told:
                self._told.add(one)
                LOG.error(
                    "Instance %s (%s) stays paused: the storage process of its volume %s died, and acknowledged "
                    "writes that were not flushed may be lost; start the instance anew: hard reboot",
                    guest.uuid,
                    guest.name,
                    one.volume,
                )
        return Sight.REFUSED not in sights and all(is_lost is False for _one, is_lost in lost)

    def _go_on(self, guest: _Paused) -> bool:
        LOG.info("Guest %s goes on: its volumes can be reached again", guest.name)
        return _apart(partial(self._resume, guest))

    def _resume(self, guest: _Paused) -> bool:
        libvirt = _libvirt()
        try:
            self._connection.lookupByUUIDString(guest.uuid).resume()
        except libvirt.libvirtError as error:
            LOG.warning("Guest %s, which an outage paused, could not go on yet: %s", guest.name, error)
            return False
        return True

    def _run(self) -> None:
        ticks = threading.Event()
        while not ticks.wait(_INTERVAL_SECONDS):
            try:
                self.look()
            except Exception as error:
                # A thread that ends would leave guests paused for good, and nobody would know.
                LOG.warning("Looking for guests that an outage paused failed, trying again: %s", error)
                LOG.debug("Where it failed", exc_info=True)


def is_paused_by_an_error(domain: Any) -> bool:
    """Tell whether a libvirt domain is paused because a request to a disk failed, and not by anybody's wish.

    When a guest that was told to go on pauses again at once, libvirt may no longer know why; QEMU does.
    """
    libvirt = _libvirt()
    state, reason = domain.state()
    if state != libvirt.VIR_DOMAIN_PAUSED:
        return False
    return bool(
        reason == libvirt.VIR_DOMAIN_PAUSED_IOERROR
        or (reason == libvirt.VIR_DOMAIN_PAUSED_UNKNOWN and domain.diskErrors())
    )


def is_ours(disk: etree._Element) -> bool:
    """Tell whether a ``disk`` element is one that our driver made: an NBD disk that pauses its guest on errors."""
    source, driver = disk.find("source"), disk.find("driver")
    if source is None or driver is None or source.get("protocol") != "nbd":
        return False
    return bool(driver.get("error_policy") == driver.get("rerror_policy") == "stop")


def _failed_disks(domain: Any) -> list[etree._Element]:
    """Give the ``disk`` elements of a domain whose requests failed. A full disk of the host's own may be among them."""
    failed = set(domain.diskErrors())
    disks = etree.fromstring(domain.XMLDesc(0)).findall("devices/disk")
    return [disk for disk in disks if disk.find("target").get("dev") in failed]


def _libvirt() -> Any:
    # Not at the top: Nova, too, is imported on hosts without it.
    return importlib.import_module("libvirt")


def _apart(call: Callable[[], _T]) -> _T:
    """Make a call into libvirt: where threads are green ones, in a real one, or all of them would wait for it."""
    eventlet = sys.modules.get("eventlet")
    if eventlet is None or not eventlet.patcher.is_monkey_patched("thread"):
        return call()
    result: _T = importlib.import_module("eventlet.tpool").execute(call)
    return result
