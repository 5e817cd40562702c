"""Which iothread of a guest serves a disk: the one that Nova gives to its guests, where the guest has it."""

from __future__ import annotations

from typing import Any

import nova.conf
from lxml import etree
from nova import exception
from nova.virt.libvirt import config

__all__ = ["number_for"]

# Nova's guests have one, or none: before Nova 33, and until their next hard reboot after an upgrade.
_FIRST = 1


def number_for(host: Any, instance: Any) -> int | None:
    """Give the number of the iothread for a disk of this instance, None if there is none.

    A disk that names an iothread which its domain does not have is refused by libvirt. So on the destination of a
    migration, where the domain is not yet and is of the source's making, the answer is None.

    :param host: Nova's libvirt host of this process.
    """
    try:
        xml = host.get_guest(instance).get_xml_desc()
    except exception.InstanceNotFound:
        is_made_here = instance.host == nova.conf.CONF.host
        return _FIRST if is_made_here and hasattr(config.LibvirtConfigGuest(), "iothreads") else None
    except exception.InternalError:
        # Only speed is lost; what is wrong with libvirt will show where it matters.
        return None
    return _FIRST if int(etree.fromstring(xml).findtext("iothreads") or 0) >= _FIRST else None
