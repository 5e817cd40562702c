"""Consistent groups against the real service: all of one instant, all or nothing, and nothing left over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cinder import exception, objects
from tests.cinder.conftest import GIB
from tests.support.patience import PATIENCE

from openvstorage.cinder import transfer
from openvstorage.edge.nbd import NbdClient

Make = Callable[..., Any]


def volumes_of(driver: Any, make_volume: Make, number: int, size: int = 1) -> list[Any]:
    volumes = [make_volume(size=size) for _ in range(number)]
    for volume in volumes:
        volume.update(driver.create_volume(volume))
        volume.save()
    return volumes


def snapshots_of(make_snapshot: Make, volumes: list[Any]) -> list[Any]:
    return [make_snapshot(volume) for volume in volumes]


def opened(grant: Any) -> NbdClient:
    return NbdClient.connect(grant.host, grant.port, grant.export_name, timeout=PATIENCE)


def write(driver: Any, volume: Any, text: bytes) -> None:
    with transfer.transfer(driver.pool, volume.provider_id, "rw") as grant, opened(grant) as nbd:
        nbd.write(0, text.ljust(512))
        nbd.flush()


def read(driver: Any, guid: str) -> bytes:
    with transfer.transfer(driver.pool, guid, "ro") as grant, opened(grant) as nbd:
        return nbd.read(0, 512).strip()


def apply(things: list[Any], updates: list[dict[str, Any]]) -> None:
    by_id = {update["id"]: update["provider_id"] for update in updates}
    for thing in things:
        thing.provider_id = by_id[thing.id]
        thing.save()


def labels(driver: Any, volume: Any) -> list[str]:
    return [known.label for known in driver.pool.client.snapshots.list(volume.provider_id)]


def test_a_group_is_snapshot_and_made_again_from_it(
    driver: Any, make_volume: Make, make_snapshot: Make, make_group: Make, make_group_snapshot: Make, context: Any
) -> None:
    group = make_group()
    assert driver.create_group(context, group) == {"status": "available"}
    assert driver.update_group(context, group) == (None, None, None)
    volumes = volumes_of(driver, make_volume, 3)
    for number, volume in enumerate(volumes):
        write(driver, volume, b"before %d" % number)
    group_snapshot = make_group_snapshot(group, volumes)
    snapshots = snapshots_of(make_snapshot, volumes)
    update, updates = driver.create_group_snapshot(context, group_snapshot, snapshots)
    assert update == {"status": "available"}
    apply(snapshots, updates)
    for volume in volumes:
        write(driver, volume, b"after")

    copies = [make_volume(size=2) for _ in volumes]
    _none, updates = driver.create_group_from_src(context, group, copies, group_snapshot, snapshots)
    apply(copies, updates)
    assert [read(driver, copy.provider_id) for copy in copies] == [b"before 0", b"before 1", b"before 2"]
    assert {driver.pool.client.vdisks.get(copy.provider_id).size for copy in copies} == {2 * GIB}

    driver.initialize_connection_snapshot(snapshots[0], {"host": "backup1"})
    update, updates = driver.delete_group_snapshot(context, group_snapshot, snapshots)
    assert update == {"status": "error_deleting"}
    assert [entry["status"] for entry in updates] == ["available", "deleted", "deleted"], "one is read by somebody"
    driver.terminate_connection_snapshot(snapshots[0], {"host": "backup1"})
    assert driver.delete_group_snapshot(context, group_snapshot, snapshots)[0] == {"status": "deleted"}
    assert labels(driver, volumes[0]) == []
    update, updates = driver.delete_group(context, group, volumes + copies)
    assert update == {"status": "deleted"}
    assert all(driver.pool.client.vdisks.find(v.name, driver.pool.vpool_guid) is None for v in volumes + copies)


def test_a_group_is_copied_as_it_is_and_its_instant_is_not_kept(
    driver: Any, make_volume: Make, make_group: Make, context: Any
) -> None:
    volumes, copies = volumes_of(driver, make_volume, 2), [make_volume(size=1) for _ in range(2)]
    for number, volume in enumerate(volumes):
        write(driver, volume, b"now %d" % number)
    group = make_group()
    _none, updates = driver.create_group_from_src(context, group, copies, None, None, group, volumes)
    apply(copies, updates)
    assert [read(driver, copy.provider_id) for copy in copies] == [b"now 0", b"now 1"]
    assert labels(driver, volumes[0]) == []
    driver.delete_group(context, group, volumes + copies)


def test_one_missing_volume_leaves_no_snapshot_of_the_others(
    driver: Any, make_volume: Make, make_snapshot: Make, make_group: Make, make_group_snapshot: Make, context: Any
) -> None:
    volumes = volumes_of(driver, make_volume, 2)
    driver.pool.client.vdisks.delete(volumes[1].provider_id)
    group_snapshot = make_group_snapshot(make_group(), volumes)
    with pytest.raises(exception.VolumeBackendAPIException):
        driver.create_group_snapshot(context, group_snapshot, snapshots_of(make_snapshot, volumes))
    assert labels(driver, volumes[0]) == []
    driver.delete_volume(volumes[0])


def test_a_group_that_cannot_be_made_whole_is_not_made(
    driver: Any, make_volume: Make, make_group: Make, context: Any
) -> None:
    """The second copy would be smaller than its source."""
    volumes, copies = volumes_of(driver, make_volume, 2, size=2), [make_volume(size=2), make_volume(size=1)]
    group = make_group()
    with pytest.raises(exception.VolumeBackendAPIException):
        driver.create_group_from_src(context, group, copies, None, None, group, volumes)
    assert driver.pool.client.vdisks.find(copies[0].name, driver.pool.vpool_guid) is None
    assert labels(driver, volumes[0]) == []
    driver.delete_group(context, group, volumes)


def test_one_volume_that_cannot_go_does_not_keep_the_others(
    driver: Any, make_volume: Make, make_group: Make, attach: Make, context: Any
) -> None:
    volumes = volumes_of(driver, make_volume, 2)
    attach(volumes[0], "host1", "11111111-0000-4000-8000-000000000000")
    driver.initialize_connection(volumes[0], {"host": "host1"})
    fresh = [objects.Volume.get_by_id(context, volume.id) for volume in volumes]
    update, updates = driver.delete_group(context, make_group(), fresh)
    assert update == {"status": "error_deleting"}
    assert [entry["status"] for entry in updates] == ["error_deleting", "deleted"]
    driver.terminate_connection(volumes[0], None)
    driver.delete_volume(volumes[0])


def test_cinder_takes_the_volumes_one_by_one_where_nobody_asked_for_more(
    driver: Any, standin_driver: Any, make_group: Make, context: Any
) -> None:
    for unable, group in ((driver, make_group(consistent=False)), (standin_driver, make_group())):
        with pytest.raises(NotImplementedError):
            unable.create_group(context, group)
        with pytest.raises(NotImplementedError):
            unable.create_group_snapshot(context, group, [])
    assert driver.get_volume_stats(refresh=True)["consistent_group_snapshot_enabled"] is True
    assert standin_driver.get_volume_stats(refresh=True)["consistent_group_snapshot_enabled"] is False


def test_a_cut_off_group_snapshot_is_found_by_the_label_of_its_group(
    driver: Any, make_volume: Make, make_snapshot: Make, make_group: Make, make_group_snapshot: Make, context: Any
) -> None:
    (volume,) = volumes_of(driver, make_volume, 1)
    group = make_group()
    group_snapshot = make_group_snapshot(group, [volume])
    snapshot = make_snapshot(volume, group_snapshot_id=group_snapshot.id)
    driver.create_group_snapshot(context, group_snapshot, [snapshot])
    assert snapshot.provider_id is None
    driver.delete_snapshot(snapshot)
    assert labels(driver, volume) == []
    driver.delete_volume(volume)
