"""The disk element of a guest's XML: what Nova's own class says, and what it lacks for NBD and for the edge."""

from __future__ import annotations

from typing import Any, Self

from lxml import etree
from nova.virt.libvirt import config

__all__ = ["LibvirtConfigOpenvStorageEdgeGuestDisk"]

_BLOCK_SIZES = ("logical_block_size", "physical_block_size")


class LibvirtConfigOpenvStorageEdgeGuestDisk(config.LibvirtConfigGuestDisk):  # type: ignore[misc]
    """A network disk, served over NBD or by Open vStorage's own edge. Formats and parses alike.

    Everything that Nova's class has is kept. Added to it, None for what is not said:

    :ivar driver_error_policy: what happens on a failed write, ``stop`` pauses the guest.
    :ivar driver_rerror_policy: the same for reads.
    :ivar driver_detect_zeroes: ``unmap`` makes written zeroes free space.
    :ivar driver_iothread: number of the domain's iothread that serves the disk.
    :ivar source_tls: True or False; None leaves it to the host's qemu.conf.
    :ivar source_tls_hostname: name in the server's certificate, where it is not the host.
    :ivar source_reconnect_delay: seconds that requests wait for a lost server (libvirt 9.2; older ones ignore it).
    :ivar source_transport: ``tcp`` or ``rdma``; for the patched libvirt.
    :ivar source_snapshot_timeout: seconds that a snapshot may take; for the patched libvirt.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.driver_error_policy: str | None = None
        self.driver_rerror_policy: str | None = None
        self.driver_detect_zeroes: str | None = None
        self.driver_iothread: int | None = None
        self.source_tls: bool | None = None
        self.source_tls_hostname: str | None = None
        self.source_reconnect_delay: int | None = None
        self.source_transport: str | None = None
        self.source_snapshot_timeout: int | None = None

    @classmethod
    def from_stock(cls, stock: config.LibvirtConfigGuestDisk) -> Self:
        """Take over all that Nova has put into a disk of its own class."""
        disk = cls()
        disk.__dict__.update(stock.__dict__)
        return disk

    def format_dom(self) -> etree._Element:
        """Give the ``disk`` element."""
        disk = super().format_dom()
        driver, source = disk.find("driver"), disk.find("source")
        if driver is not None:
            _set(driver, "error_policy", self.driver_error_policy)
            _set(driver, "rerror_policy", self.driver_rerror_policy)
            _set(driver, "detect_zeroes", self.driver_detect_zeroes)
            _set(driver, "iothread", self.driver_iothread)
        if source is not None:
            _set(source, "tls", None if self.source_tls is None else "yes" if self.source_tls else "no")
            _set(source, "tlsHostname", self.source_tls_hostname)
            _set(source, "snapshot-timeout", self.source_snapshot_timeout)
            for host in source.findall("host"):
                _set(host, "transport", self.source_transport)
            if self.source_reconnect_delay is not None:
                source.append(etree.Element("reconnect", delay=str(self.source_reconnect_delay)))
        return disk

    def parse_dom(self, xmldoc: etree._Element) -> None:
        """Read a ``disk`` element, limits and block sizes included, which Nova's class only writes."""
        super().parse_dom(xmldoc)
        self.source_device = xmldoc.get("device", "disk")
        driver, source = xmldoc.find("driver"), xmldoc.find("source")
        if driver is not None:
            self.driver_error_policy = driver.get("error_policy")
            self.driver_rerror_policy = driver.get("rerror_policy")
            self.driver_detect_zeroes = driver.get("detect_zeroes")
            self.driver_iothread = _number(driver.get("iothread"))
        if source is not None:
            self._parse_source(source)
        for limit in xmldoc.iterfind("iotune/*"):
            setattr(self, f"disk_{limit.tag}", _number(limit.text))
        block = xmldoc.find("blockio")
        for name in _BLOCK_SIZES if block is not None else ():
            setattr(self, name, block.get(name))

    def _parse_source(self, source: etree._Element) -> None:
        tls, host, reconnect = source.get("tls"), source.find("host"), source.find("reconnect")
        self.source_tls = None if tls is None else tls == "yes"
        self.source_tls_hostname = source.get("tlsHostname")
        self.source_snapshot_timeout = _number(source.get("snapshot-timeout"))
        self.source_transport = host.get("transport") if host is not None else None
        self.source_reconnect_delay = _number(reconnect.get("delay")) if reconnect is not None else None


def _set(element: etree._Element, name: str, value: object) -> None:
    if value is not None:
        element.set(name, str(value))


def _number(text: str | None) -> int | None:
    return None if text is None else int(text)
