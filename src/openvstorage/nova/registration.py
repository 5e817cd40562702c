"""Registration of the volume driver with the libvirt driver of this process."""

from __future__ import annotations

import shutil
import sys
from typing import Any

from oslo_log import log as logging

__all__ = ["DRIVER_VOLUME_TYPE", "register"]

LOG = logging.getLogger(__name__)

# ``driver_volume_type`` of the connection properties that our Cinder driver answers.
DRIVER_VOLUME_TYPE = "openvstorage_edge"

_CLASS = "openvstorage.nova.driver.LibvirtOpenvStorageEdgeVolumeDriver"
# Only the program nova-compute has this module loaded.
_PROGRAM = "nova.cmd.compute"


def register() -> bool:
    """Make Nova's libvirt driver find ours, in nova-compute with a libvirt driver; elsewhere nothing is touched.

    From then on this process also looks after guests that an outage paused.

    May be called again. Blocks while Nova's libvirt driver is imported, which nova-compute would do a little later.

    :returns: whether it is registered.
    """
    if _PROGRAM not in sys.modules:
        LOG.debug("This is not nova-compute: there is no volume driver to register")
        return False
    from nova import conf

    if not str(conf.CONF.compute_driver).startswith("libvirt."):
        LOG.debug("Compute driver %s has no use for our volume driver", conf.CONF.compute_driver)
        return False
    from nova.virt.libvirt import driver

    from openvstorage.nova.resume import Resumer

    if DRIVER_VOLUME_TYPE in driver.VOLUME_DRIVERS:
        return True
    driver.VOLUME_DRIVERS[DRIVER_VOLUME_TYPE] = _CLASS
    Resumer(conf.CONF.libvirt.connection_uri or "qemu:///system").start()
    LOG.info("Volumes of type %s are attached by %s", DRIVER_VOLUME_TYPE, _CLASS)
    _check_host(conf.CONF)
    return True


def _check_host(settings: Any) -> None:
    """Say what this host lacks for something that a user may ask of an instance, before one fails for it."""
    program = settings.mkisofs_cmd
    if shutil.which(program) is None:
        LOG.warning("Instances with a config drive cannot start on this host: %s is missing, install it", program)
