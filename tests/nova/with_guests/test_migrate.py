"""Guests move between hosts while they write."""

from __future__ import annotations

import pytest
from lxml import etree
from nova.virt.libvirt import guest as libvirt_guest
from tests.nova.conftest import connection_info_of
from tests.nova.with_guests.world import Written, xml_for_destination
from tests.support.libvirtd import writer

from openvstorage.edge.errors import ExportRefused, TlsFailed


def test_writing_guest_is_migrated_and_the_source_is_fenced(
    world, nova_driver, make_guest, make_volume, client
) -> None:
    """As Nova and Cinder do it: the destination connects, the source renders its disk, then the source is detached."""
    grant, info = make_volume(writer())
    guest, instance = make_guest(info)
    written = Written(world, grant)
    written.wait_for_more()
    theirs = client.grants.create(grant.vdisk_guid, "destination", grant.consumer)
    status = world.service.status
    there = connection_info_of(theirs, status["management_ips"], status["port"], status["ca_file"])
    there["serial"] = there["data"]["volume_id"] = info["serial"]
    nova_driver._get_volume_driver(there).connect_volume(there, instance)
    xml = xml_for_destination(nova_driver, guest, instance, there)
    with world.libvirtd("destination") as other:
        libvirt = libvirt_guest.libvirt
        flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
        guest.migrate(other.uri, migrate_uri="tcp://127.0.0.1", destination_xml=xml, flags=flags)
        assert not guest.is_active()
        client.grants.revoke(grant.guid)
        with pytest.raises((ExportRefused, TlsFailed)):
            world.open(grant)
        Written(world, theirs).wait_for_more()
        domain = libvirt.open(other.uri).lookupByUUIDString(instance.uuid)
        assert domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
        disk = etree.fromstring(domain.XMLDesc(0)).find("devices/disk")
        assert disk.find("source").get("name") == theirs.export_name
        assert disk.find("driver").get("error_policy") == "stop"
        Written(world, theirs).assert_nothing_went_wrong()
        domain.destroy()
