"""Snapshots of volumes that guests are writing to hold what had been acknowledged, and nothing later."""

from __future__ import annotations

from nova import conf
from tests.nova.with_guests.world import Written
from tests.support.libvirtd import writer


def frozen(world, client, grant, snapshot) -> Written:
    """What a writer had written when a snapshot was taken."""
    opened = client.grants.create(grant.vdisk_guid, conf.CONF.host, f"reader of {snapshot}", "ro", snapshot)
    return Written(world, opened)


def test_snapshot_is_of_one_instant(world, nova_driver, make_guest, make_volume, client) -> None:
    grant, info = make_volume(writer())
    make_guest(info)
    written = Written(world, grant)
    for _ in range(3):
        before = written.wait_for_more()
        snapshot = frozen(world, client, grant, client.snapshots.create(grant.vdisk_guid, "in use"))
        last = snapshot.look()[0]
        assert before <= last <= written.look()[0]
        written.wait_for_more()
        snapshot.assert_nothing_went_wrong()
        assert snapshot.look()[0] == last
    written.assert_nothing_went_wrong()


def test_group_snapshot_of_three_disks_is_of_one_instant(world, nova_driver, make_guest, make_volume, client) -> None:
    """The guest writes n to the first disk, then to the second, then to the third, and only then n + 1 to the first."""
    grants, infos = zip(*(make_volume(writer(disks=3)) for _ in range(3)), strict=True)
    make_guest(*infos)
    third = Written(world, grants[2])
    for _ in range(5):
        third.wait_for_more(by=10)
        vdisks = [grant.vdisk_guid for grant in grants]
        made = client.snapshots.create_group(world.service.status["vpool_guid"], vdisks, "group")
        parts = [frozen(world, client, grant, made[grant.vdisk_guid]) for grant in grants]
        a, b, c = (part.look()[0] for part in parts)
        assert a >= b >= c >= a - 1
        for part in parts:
            part.assert_nothing_went_wrong()
    third.wait_for_more(by=10)
    third.assert_nothing_went_wrong()
