"""Growing the disk of a running guest.

QEMU learns an NBD export's size when it connects, and only then. When Cinder has grown a vDisk, its export was closed
and opened again, so a guest that works has reconnected or is about to. An idle one has not noticed yet: it has to send
a request. Pausing a guest makes it flush its disks, which mostly is one; else QEMU's monitor is told to read a sector.

A guest whose disk has no reconnection delay (libvirt before 9.2) must not send a request of its own meanwhile: it would
fail. Such a guest is held until its QEMU has reconnected.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lxml import etree
from nova import exception
from nova.compute import power_state
from nova.virt.libvirt import guest as libvirt_guest
from oslo_log import log as logging

from openvstorage.nova.resume import is_paused_by_an_error

__all__ = ["CannotGrow", "grow"]

LOG = logging.getLogger(__name__)

# A reconnection that meets no export, as beside a copy of a snapshot, is repeated by QEMU after a second, then two.
_PATIENCE_SECONDS = 20.0
_PAUSE_SECONDS = 0.25
_GIB = 1024**3


class CannotGrow(Exception):
    """The guest cannot be told the new size; the text says why and what helps. The volume itself has grown."""


def grow(host: Any, instance: Any, volume_id: str, size: int, encrypted: bool) -> int:
    """Return when the guest's QEMU has taken on the new size; at once if the guest is not running or paused. Blocks.

    :param host: Nova's libvirt host of this process.
    :param size: new size of the volume in bytes, whole GiB as all of Cinder's.
    :param encrypted: whether QEMU decrypts it, so that the guest does not see the header.
    :returns: the size in bytes of what the guest sees.
    :raises CannotGrow: it does not; a guest that was running runs on.
    """
    try:
        guest = host.get_guest(instance)
    except exception.InstanceNotFound:
        return size
    state = guest.get_power_state(host)
    if state not in (power_state.RUNNING, power_state.PAUSED):
        return size
    disk = _find_disk(guest, volume_id)
    block_device = guest.get_block_device(disk.find("target").get("dev"))
    libvirt_error = libvirt_guest.libvirt.libvirtError
    deadline = time.monotonic() + _PATIENCE_SECONDS
    try:
        if encrypted:
            size -= _header(guest, disk)
        with _requests(guest, disk, running=state == power_state.RUNNING) as send:
            while True:
                send()
                try:
                    block_device.resize(size)
                    break
                except libvirt_error as error:
                    if time.monotonic() > deadline:
                        raise
                    LOG.debug("Volume %s: its QEMU has not reconnected yet: %s", volume_id, error)
                time.sleep(_PAUSE_SECONDS)
    except libvirt_error as error:
        words = f"its QEMU does not see the new size ({error}); a hard reboot of the instance will"
        raise CannotGrow(words) from error
    if is_paused_by_an_error(guest._domain):
        # Without a reconnection delay a guest that wrote while the export was closed was paused for that.
        guest.resume()
    return size


def _header(guest: Any, disk: etree._Element) -> int:
    """Give the bytes that a LUKS header takes of a volume: what the guest's disk lacks to whole GiB."""
    capacity = int(guest._domain.blockInfo(disk.find("target").get("dev"))[0])
    return -capacity % _GIB


@contextmanager
def _requests(guest: Any, disk: etree._Element, running: bool) -> Iterator[Callable[[], None]]:
    """Give what makes the guest's QEMU send a request, in the way that does the guest least harm."""

    def read() -> None:
        _read_a_sector(guest, disk)

    if not running:
        yield read
    elif disk.find("source/reconnect") is not None:
        guest.pause()
        guest.resume()
        ways = iter([_nothing])
        yield lambda: next(ways, read)()
    else:
        guest.pause()
        try:
            yield read
        finally:
            guest.resume()


def _nothing() -> None:
    """Leave it at the flush."""


def _read_a_sector(guest: Any, disk: etree._Element) -> None:
    """Have QEMU read from the disk's NBD node, past the guest. The domain is marked as one with monitor commands."""
    try:
        import libvirt_qemu
    except ImportError as error:
        raise CannotGrow("this host's libvirt-python lacks the module libvirt_qemu; stop and start helps") from error
    index = disk.find("source").get("index")
    flags = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
    answer = libvirt_qemu.qemuMonitorCommand(guest._domain, f'qemu-io libvirt-{index}-storage "read 0 512"', flags)
    LOG.debug("QEMU read a sector: %s", answer)


def _find_disk(guest: Any, volume_id: str) -> etree._Element:
    # Nova itself finds the disk by its serial number, too, right after this.
    for disk in etree.fromstring(guest.get_xml_desc()).iterfind("devices/disk"):
        if disk.findtext("serial") == volume_id:
            return disk
    raise CannotGrow("the guest has no disk of it")
