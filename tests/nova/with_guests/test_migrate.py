"""Guests move between hosts while they write."""

from __future__ import annotations

import os
from contextlib import closing
from types import SimpleNamespace

import pytest
from lxml import etree
from nova.virt.libvirt import guest as libvirt_guest
from tests.nova.conftest import connection_info_of
from tests.nova.with_guests.world import Written, xml_for_destination
from tests.support.libvirtd import writer

from openvstorage.edge.errors import ExportRefused, TlsFailed

# The figures of the documentation were made with more.
MIGRATIONS = int(os.environ.get("OPENVSTORAGE_TEST_MIGRATIONS", "4"))


def test_writing_guest_migrates_again_and_again_and_each_source_is_fenced(
    world, nova_driver, other_libvirtd, make_guest, make_volume, client
) -> None:
    """As Nova and Cinder do it: the destination connects, the source renders its disk, then the source is detached."""
    libvirt = libvirt_guest.libvirt
    grant, info = make_volume(writer())
    guest, instance = make_guest(info)
    Written(world, grant).wait_for_more()
    with closing(libvirt.open(other_libvirtd.uri)) as there:
        hosts = {
            grant.client: (nova_driver._host._uri, nova_driver._host.get_connection()),
            "other-host": (other_libvirtd.uri, there),
        }
        for _ in range(MIGRATIONS):
            (target,) = hosts.keys() - {grant.client}
            uri, connection = hosts[target]
            theirs = client.grants.create(grant.vdisk_guid, target, grant.consumer)
            new = connection_info_of(theirs, *world.place())
            new["serial"] = new["data"]["volume_id"] = info["serial"]
            arriving = SimpleNamespace(uuid=instance.uuid, name=instance.name, host=grant.client)
            nova_driver._get_volume_driver(new).connect_volume(new, arriving)
            xml = xml_for_destination(nova_driver, guest, instance, new)
            flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
            guest.migrate(uri, migrate_uri="tcp://127.0.0.1", destination_xml=xml, flags=flags)
            assert hosts[grant.client][1].listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE) == []
            client.grants.revoke(grant.guid)
            with pytest.raises((ExportRefused, TlsFailed)):
                world.open(grant)
            grant, guest = theirs, libvirt_guest.Guest(connection.lookupByUUIDString(instance.uuid))
            Written(world, grant).wait_for_more()
            assert guest._domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
            disk = etree.fromstring(guest.get_xml_desc()).find("devices/disk")
            assert disk.find("source").get("name") == grant.export_name
            assert disk.find("driver").get("error_policy") == "stop"
        Written(world, grant).assert_nothing_went_wrong()
        guest._domain.destroy()
