"""Who lost a volume can not write to it, and who has it does not notice."""

from __future__ import annotations

from tests.nova.with_guests.world import Written, eventually
from tests.support.libvirtd import writer

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
