"""Glance: its own ``cinder`` store keeps images on volumes of a vPool.

Glance imports every entry point of the group ``glance_store.drivers`` when it registers the options of stores, in use
or not. Ours is no store: it registers when it is imported. An error here would be one of Glance's start, so it is
logged instead.
"""

from __future__ import annotations

import logging
from typing import Any

__all__ = ["NoStore", "register"]

LOG = logging.getLogger(__name__)

# ``driver_volume_type`` of the connection properties that our Cinder driver answers.
_DRIVER_VOLUME_TYPE = "openvstorage_edge"
_CLASS = "openvstorage.brick.image_connector.ImageVolumeConnector"


class NoStore:
    """What the entry point names: without options, and not to be configured."""

    OPTIONS = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Refuse to be a store. :raises RuntimeError: Glance logs it and goes on without this store."""
        raise RuntimeError("'openvstorage' is no store of images: configure the store 'cinder' of Glance's own")


def register() -> bool:
    """Make the ``cinder`` store of this process open volumes of a vPool; never raises, and may be called again.

    Blocks while os-brick is imported, which that store does as well.

    :returns: whether it is registered. It is not where Glance was installed without what its ``cinder`` store needs.
    """
    try:
        return _register()
    except ImportError as error:
        LOG.debug("Glance's cinder store is not installed whole, so there are no images on volumes: %s", error)
    except Exception:
        LOG.exception("Images cannot be kept on volumes of a vPool: the registration with os-brick failed")
    return False


def _register() -> bool:
    from glance_store._drivers.cinder import base

    from openvstorage.brick import registration

    connectors = getattr(base, "_connector_mapping", None)
    if not isinstance(connectors, dict) or not hasattr(base.BaseBrickConnectorInterface, "yield_path"):
        LOG.warning("Images cannot be kept on volumes of a vPool: this release of glance_store has no room for it")
        return False
    registration.register()
    connectors[_DRIVER_VOLUME_TYPE] = _CLASS
    LOG.debug("Image volumes of type %s are opened by %s", _DRIVER_VOLUME_TYPE, _CLASS)
    return True


register()
