"""The os-vif plug-in that brings our volume driver into nova-compute.

Every process that uses os-vif loads it, Neutron's agents among them, and an error here would end such a process. So it
looks where it is first, and what goes wrong is logged.
"""

from __future__ import annotations

from typing import Any

from os_vif import objects, plugin
from oslo_log import log as logging

from openvstorage.nova.registration import register

__all__ = ["OpenvStoragePlugin"]

LOG = logging.getLogger(__name__)


class OpenvStoragePlugin(plugin.PluginBase):  # type: ignore[misc]
    """A plug-in without network interfaces."""

    def __init__(self, config: Any) -> None:
        """Register the volume driver if this is nova-compute with libvirt; never raises. Blocks while Nova loads."""
        super().__init__(config)
        try:
            register()
        except Exception:
            LOG.exception("The Open vStorage volume driver is not available: its registration failed")

    def describe(self) -> objects.host_info.HostPluginInfo:
        """Say that no kind of network interface is served."""
        return objects.host_info.HostPluginInfo(plugin_name="openvstorage", vif_info=[])

    def plug(self, vif: Any, instance_info: Any) -> None:
        """Do nothing; os-vif never asks, as there is no interface of ours."""

    def unplug(self, vif: Any, instance_info: Any) -> None:
        """Do nothing, likewise."""
