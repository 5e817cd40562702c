"""Hard reboot and delete by Nova's own hand, while the storage is there and while it is not."""

from __future__ import annotations

import inspect
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from nova import conf, context, exception, objects
from tests.nova.with_guests.world import Written, eventually, unrecorded
from tests.support.libvirtd import writer

from openvstorage.nova import driver as our_driver


class Attached(dict[str, Any]):
    """A volume in Nova's list of an instance's; there is no database to save it to."""

    def save(self) -> None:
        """Do nothing."""


@pytest.fixture
def instances() -> Iterator[Path]:
    """Where Nova keeps its instances' files, which libvirt's user writes to."""
    directory = Path(tempfile.mkdtemp(prefix="instances-"))
    shutil.chown(directory, "nobody")
    conf.neutron.register_dynamic_opts(conf.CONF)
    conf.CONF.set_override("instances_path", str(directory))
    yield directory
    conf.CONF.clear_override("instances_path")
    shutil.rmtree(directory)


def test_hard_reboot_and_delete_in_an_outage_end_with_a_sentence_or_done(
    world, nova_driver, make_guest, make_volume, monkeypatch, instances
) -> None:
    monkeypatch.setattr(our_driver, "_RESOLVE_SECONDS", 1.0)
    grant, info = make_volume(writer())
    guest, instance = make_guest(info)
    for name in ("numa_topology", "vcpu_model", "trusted_certs", "device_metadata", "resources", "migration_context"):
        setattr(instance, name, None)
    instance.pci_devices = objects.PciDeviceList()
    instance.pci_requests = objects.InstancePCIRequests(requests=[])
    instance.metadata = {}
    # Its console's file is made by libvirt's user.
    (instances / instance.uuid).mkdir()
    shutil.chown(instances / instance.uuid, "nobody")
    written = Written(world, grant)
    written.wait_for_more()
    root = Attached(connection_info=info, mount_device="/dev/vda", boot_index=0, disk_bus="virtio", device_type="disk")
    volumes = {"root_device_name": "/dev/vda", "block_device_mapping": [root], "ephemerals": [], "swap": None}
    with world.outage(), pytest.raises(exception.VolumeAttachFailed, match="can be reached; try again later"):
        hard_reboot(nova_driver, instance, volumes)
    hard_reboot(nova_driver, instance, volumes)
    guest = nova_driver._host.get_guest(instance)
    eventually(lambda: guest._domain.blockStats("vda")[2] > 50)
    assert grant.export_name in guest.get_xml_desc()
    with world.outage(), unrecorded(nova_driver, instance):
        nova_driver.destroy(context.get_admin_context(), instance, [], volumes)
        with pytest.raises(exception.InstanceNotFound):
            nova_driver._host.get_guest(instance)


def hard_reboot(nova_driver: Any, instance: Any, volumes: dict[str, Any]) -> None:
    shares = {"share_info": []} if "share_info" in inspect.signature(nova_driver.reboot).parameters else {}
    with unrecorded(nova_driver, instance):
        nova_driver.reboot(context.get_admin_context(), instance, [], "HARD", block_device_info=volumes, **shares)
