"""Attaching to guests that run, and starting guests whose volumes moved while they were off."""

from __future__ import annotations

import socket

import pytest
from lxml import etree
from nova import context
from tests.nova.with_guests.world import GIB, Written, capacity, connections, eventually, grow, unrecorded
from tests.support.libvirtd import writer

from openvstorage.edge.errors import TransportError


def test_nova_attaches_extends_and_detaches(world, nova_driver, make_guest, make_volume, client) -> None:
    guest, instance = make_guest()
    grant, info = make_volume()
    admin = context.get_admin_context()
    with unrecorded(nova_driver, instance):
        # SCSI, because a guest without an operating system does not let go of PCI devices.
        nova_driver.attach_volume(admin, info, instance, "/dev/sda", disk_bus="scsi", device_type="disk")
        (disk,) = etree.fromstring(guest.get_xml_desc()).findall("devices/disk")
        assert disk.find("source").get("name") == grant.export_name
        assert disk.findtext("serial") == info["serial"]
        assert disk.find("driver").get("error_policy") == "stop"
        assert connections(grant.port) == 1
        grow(client, nova_driver, grant, info, instance, 2 * GIB)
        assert capacity(guest, "sda") == 2 * GIB
        with world.open(grant) as left_behind:
            nova_driver.detach_volume(admin, info, instance, "/dev/sda")
            assert etree.fromstring(guest.get_xml_desc()).findall("devices/disk") == []
            eventually(lambda: connections(grant.port) == 1)
            # Cinder's part.
            client.grants.revoke(grant.guid)
            with pytest.raises(TransportError):
                left_behind.write(0, b"late" * 1024)
    theirs = client.grants.create(grant.vdisk_guid, "another-host", "another instance")
    with world.open(theirs) as nbd:
        assert nbd.read(0, 4096) == bytes(4096)


def test_guest_starts_again_from_a_volume_that_moved_while_it_was_off(
    world, nova_driver, make_guest, make_volume, client
) -> None:
    grant, info = make_volume(writer())
    guest, instance = make_guest(info)
    last = Written(world, grant).wait_for_more()
    guest.poweroff()
    world.service.stop()
    with socket.create_server((grant.host, grant.port)):
        world.service.start()
        moved = client.grants.get(grant.guid)
        assert moved.port != grant.port
        # As Nova does at every start: from what it kept, by the driver, to new XML.
        guest, _ = make_guest(info, instance=instance)
        assert info["data"]["ports"] == [str(moved.port)]
        eventually(lambda: connections(moved.port) == 1)
        written = Written(world, moved)
        eventually(lambda: len(written.numbers()) > last + 50)
        assert written.look()[1] == 0
