"""Who lost a volume can not write to it, and who has it does not notice."""

from __future__ import annotations

from contextlib import closing

import pytest
from nova.virt.libvirt import guest as libvirt_guest
from tests.nova.conftest import connection_info_of
from tests.nova.with_guests.world import MIB, Written, connections, eventually, xml_for_destination
from tests.support.libvirtd import writer

from openvstorage.client import InUse
from openvstorage.edge.errors import TransportError
from openvstorage.nova.resume import Resumer, is_paused_by_an_error


def test_fenced_guest_neither_writes_nor_is_told_to_go_on(world, nova_driver, make_guest, make_volume, client) -> None:
    """As after a forced detach: another instance has the volume while the old guest still runs."""
    grant, info = make_volume(writer())
    guest, _ = make_guest(info)
    Written(world, grant).wait_for_more()
    client.grants.revoke(grant.guid)
    theirs = client.grants.create(grant.vdisk_guid, "another-host", "another instance")
    with world.open(theirs) as nbd:
        nbd.write(0, b"theirs" * 1024 * 1024)
        nbd.flush()
    if not nova_driver._host.has_min_version(lv_ver=(9, 2, 0)):
        eventually(lambda: is_paused_by_an_error(guest._domain))
    for _ in range(5):
        assert Resumer(nova_driver._host._uri).look() == []
        with world.open(theirs) as nbd:
            assert nbd.read(0, 6 * 1024 * 1024) == b"theirs" * 1024 * 1024


def test_refused_second_attachment_leaves_the_first_alone(world, nova_driver, make_guest, make_volume, client) -> None:
    grant, info = make_volume(writer())
    make_guest(info)
    written = Written(world, grant)
    written.wait_for_more()
    peers = connections(grant.port)
    for host in (grant.client, "another-host"):
        with pytest.raises(InUse, match=grant.consumer):
            client.grants.create(grant.vdisk_guid, host, "another instance")
    written.wait_for_more()
    assert connections(grant.port) == peers == 1
    assert [held.guid for held in client.grants.list(grant.vdisk_guid)] == [grant.guid]
    written.assert_nothing_went_wrong()


def test_evacuated_guest_has_its_volume_for_itself(
    world, nova_driver, other_libvirtd, make_guest, make_volume, client
) -> None:
    """Nova's order: the old attachment goes, then the new host connects. The old guest was not dead after all."""
    grant, info = make_volume(writer())
    guest, instance = make_guest(info)
    Written(world, grant).wait_for_more()
    client.grants.revoke(grant.guid)
    theirs = client.grants.create(grant.vdisk_guid, "other-host", grant.consumer)
    there = connection_info_of(theirs, *world.place())
    there["serial"] = there["data"]["volume_id"] = info["serial"]
    xml = xml_for_destination(nova_driver, guest, instance, there)
    with world.open(theirs) as nbd:
        nbd.write(0, bytes(64 * MIB))
        nbd.write(0, writer())
        nbd.flush()
    with closing(libvirt_guest.libvirt.open(other_libvirtd.uri)) as connection:
        domain = connection.createXML(xml)
        written = Written(world, theirs)
        for _ in range(3):
            written.wait_for_more()
            assert Resumer(nova_driver._host._uri).look() == []
        assert guest.is_active()
        domain.destroy()
    # The new guest began with 1 again. What the old one writes has numbers far beyond, or is missing in between.
    assert connections(theirs.port) == 0
    numbers = written.numbers()
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert set(numbers.values()) == {0}


def test_guests_of_two_hosts_write_to_one_volume_and_each_is_fenced_by_itself(
    world, nova_driver, other_libvirtd, make_guest, make_volume, client
) -> None:
    """Multi-attach. The second guest boots from a volume of its own, and writes elsewhere than the first."""
    elsewhere = 2 * 65536
    grant, info = make_volume(writer(), shared=True)
    info["multiattach"] = True
    make_guest(info)
    first = Written(world, grant)
    first.wait_for_more()
    _, boot = make_volume(writer(disks=2, start=elsewhere), "other-host")
    theirs = client.grants.create(grant.vdisk_guid, "other-host", "another instance", shared=True)
    there = connection_info_of(theirs, *world.place())
    there["multiattach"] = True
    libvirt = libvirt_guest.libvirt
    with closing(libvirt.open(other_libvirtd.uri)) as connection:
        guest, _ = make_guest(boot, there, connection=connection)
        assert guest.get_xml_desc().count("<shareable/>") == 1
        second = Written(world, theirs, elsewhere)
        for _ in range(3):
            first.wait_for_more()
            second.wait_for_more()
        for written in (first, second):
            written.assert_nothing_went_wrong()
        client.grants.revoke(theirs.guid)
        left = Written(world, grant, elsewhere)
        last = left.look()
        for _ in range(3):
            first.wait_for_more()
            assert left.look() == last
        guest.poweroff()
    assert last[1:] == (0, 0)
    first.assert_nothing_went_wrong()


@pytest.mark.parametrize("world", ["tls", "tls on system"], indirect=True, scope="session")
def test_guest_goes_on_when_another_host_of_its_volume_is_cut_off(
    world, nova_driver, make_guest, make_volume, client
) -> None:
    """With TLS all are, and come again: a guest that can wait notices nothing, another one is paused and resumed."""
    grant, info = make_volume(writer())
    make_guest(info)
    written, resumer, resumed = Written(world, grant), Resumer(nova_driver._host._uri), []
    written.wait_for_more()
    other = client.grants.create(grant.vdisk_guid, "another-host", grant.consumer)
    with world.open(other) as copy:
        client.grants.revoke(other.guid)
        with pytest.raises(TransportError, match=r"access to the volume ended.*repeat the whole operation"):
            copy.read(0, 512)
    now = written.last()

    def goes_on() -> bool:
        resumed.extend(resumer.look())
        return written.last() > now + 50

    eventually(goes_on)
    assert bool(resumed) is not nova_driver._host.has_min_version(lv_ver=(9, 2, 0))
    written.assert_nothing_went_wrong()
