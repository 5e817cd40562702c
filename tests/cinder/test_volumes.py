"""Volumes and snapshots, on our own service and on a 2.9 cluster: once, twice and after an interruption."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from cinder import exception
from tests.cinder.conftest import GIB
from tests.support.patience import PATIENCE
from tests.support.standin29 import StandIn
from tests.support.standin29_tls import Authority

Make = Callable[..., Any]


def create(driver: Any, volume: Any) -> Any:
    volume.update(driver.create_volume(volume))
    volume.save()
    return volume


def snapshot_of(driver: Any, make_snapshot: Make, volume: Any) -> Any:
    snapshot = make_snapshot(volume)
    snapshot.update(driver.create_snapshot(snapshot))
    snapshot.save()
    return snapshot


def size_of(driver: Any, volume: Any) -> int:
    return int(driver.pool.client.vdisks.get(volume.provider_id).size)


def labels(driver: Any, volume: Any) -> list[str]:
    return [known.label for known in driver.pool.client.snapshots.list(volume.provider_id)]


def test_a_volume_is_a_vdisk_of_its_name_and_size(any_driver: Any, make_volume: Make) -> None:
    volume = create(any_driver, make_volume(size=3))
    vdisk = any_driver.pool.client.vdisks.find(volume.name, any_driver.pool.vpool_guid)
    assert vdisk.guid == volume.provider_id
    assert vdisk.size == 3 * GIB
    any_driver.delete_volume(volume)
    assert any_driver.pool.client.vdisks.find(volume.name, any_driver.pool.vpool_guid) is None


def test_the_operators_name_template_and_a_migrated_name_are_followed(any_driver: Any, make_volume: Make) -> None:
    volume = make_volume(_name_id="0f8fad5b-d9cb-469f-a165-70867728950e")
    create(any_driver, volume)
    assert any_driver.pool.client.vdisks.get(volume.provider_id).name == f"volume-{volume.name_id}"
    any_driver.delete_volume(volume)


def test_deleting_twice_and_what_never_was_succeeds(any_driver: Any, make_volume: Make, make_snapshot: Make) -> None:
    volume = create(any_driver, make_volume())
    snapshot = snapshot_of(any_driver, make_snapshot, volume)
    any_driver.delete_snapshot(snapshot)
    any_driver.delete_snapshot(snapshot)
    any_driver.delete_volume(volume)
    any_driver.delete_volume(volume)
    any_driver.delete_snapshot(snapshot)
    any_driver.delete_volume(make_volume())
    any_driver.delete_snapshot(make_snapshot(volume))


def test_a_volume_without_provider_id_is_found_by_its_name(any_driver: Any, make_volume: Make) -> None:
    """As volumes of the driver of 2017 are, and those whose creation was cut off."""
    volume = create(any_driver, make_volume())
    guid, volume.provider_id = volume.provider_id, None
    any_driver.extend_volume(volume, 2)
    assert any_driver.pool.client.vdisks.get(guid).size == 2 * GIB
    any_driver.delete_volume(volume)
    assert any_driver.pool.client.vdisks.find(volume.name, any_driver.pool.vpool_guid) is None


def test_what_a_cut_off_creation_left_is_replaced(any_driver: Any, make_volume: Make) -> None:
    volume = make_volume(size=2)
    leftover = any_driver.pool.client.vdisks.create(volume.name, GIB, any_driver.pool.vpool_guid)
    create(any_driver, volume)
    assert volume.provider_id != leftover
    assert size_of(any_driver, volume) == 2 * GIB
    any_driver.delete_volume(volume)


def test_copies_have_the_size_that_was_asked_for(any_driver: Any, make_volume: Make, make_snapshot: Make) -> None:
    source = create(any_driver, make_volume(size=1))
    snapshot = snapshot_of(any_driver, make_snapshot, source)
    clone, restored = make_volume(size=2), make_volume(size=3)
    clone.update(any_driver.create_cloned_volume(clone, source))
    restored.update(any_driver.create_volume_from_snapshot(restored, snapshot))
    assert (size_of(any_driver, clone), size_of(any_driver, restored)) == (2 * GIB, 3 * GIB)
    for volume in (clone, restored):
        any_driver.delete_volume(volume)
    any_driver.delete_volume(source)


def test_a_snapshot_taken_twice_is_one(any_driver: Any, make_volume: Make, make_snapshot: Make) -> None:
    volume = create(any_driver, make_volume())
    snapshot = make_snapshot(volume)
    first, second = any_driver.create_snapshot(snapshot), any_driver.create_snapshot(snapshot)
    assert first == second
    assert labels(any_driver, volume) == [snapshot.name]
    any_driver.delete_volume(volume)


def test_snapshots_of_one_label_on_other_vdisks_are_left_alone(
    any_driver: Any, make_volume: Make, make_snapshot: Make
) -> None:
    one, other = create(any_driver, make_volume()), create(any_driver, make_volume())
    snapshot = make_snapshot(one)
    any_driver.pool.client.snapshots.create(other.provider_id, snapshot.name)
    any_driver.delete_snapshot(snapshot)
    assert labels(any_driver, other) == [snapshot.name]
    for volume in (one, other):
        any_driver.delete_volume(volume)


def test_extend_grows_and_twice_is_once(any_driver: Any, make_volume: Make) -> None:
    volume = create(any_driver, make_volume())
    any_driver.extend_volume(volume, 5)
    any_driver.extend_volume(volume, 5)
    assert size_of(any_driver, volume) == 5 * GIB
    with pytest.raises(exception.VolumeBackendAPIException, match=volume.name):
        any_driver.extend_volume(volume, 4)
    any_driver.delete_volume(volume)


def test_missing_vdisk_is_an_error_where_it_matters(any_driver: Any, make_volume: Make, make_snapshot: Make) -> None:
    volume = create(any_driver, make_volume())
    any_driver.pool.client.vdisks.delete(volume.provider_id)
    for call in (
        lambda: any_driver.extend_volume(volume, 2),
        lambda: any_driver.create_snapshot(make_snapshot(volume)),
        lambda: any_driver.create_cloned_volume(make_volume(), volume),
        lambda: any_driver.create_volume_from_snapshot(make_volume(), make_snapshot(volume)),
    ):
        with pytest.raises(exception.VolumeBackendAPIException):
            call()


def test_parents_and_snapshots_go_in_any_order(driver: Any, make_volume: Make, make_snapshot: Make) -> None:
    source = create(driver, make_volume())
    snapshot = snapshot_of(driver, make_snapshot, source)
    clone = make_volume()
    clone.update(driver.create_volume_from_snapshot(clone, snapshot))
    driver.delete_snapshot(snapshot)
    driver.delete_volume(source)
    assert size_of(driver, clone) == GIB
    driver.delete_volume(clone)


def test_a_cluster_that_keeps_parents_makes_them_busy(
    standin_driver: Any, make_volume: Make, make_snapshot: Make
) -> None:
    """Cinder puts a busy volume or snapshot back to available; any other error leaves it in error_deleting."""
    driver = standin_driver
    source = create(driver, make_volume())
    snapshot = snapshot_of(driver, make_snapshot, source)
    clone = make_volume()
    clone.update(driver.create_volume_from_snapshot(clone, snapshot))
    with pytest.raises(exception.SnapshotIsBusy, match=snapshot.name):
        driver.delete_snapshot(snapshot)
    with pytest.raises(exception.VolumeIsBusy, match=source.name):
        driver.delete_volume(source)
    driver.delete_volume(clone)
    driver.delete_volume(source)


def test_a_snapshot_that_somebody_reads_is_busy(driver: Any, make_volume: Make, make_snapshot: Make) -> None:
    volume = create(driver, make_volume())
    snapshot = snapshot_of(driver, make_snapshot, volume)
    reader = driver.pool.client.grants.create(volume.provider_id, "host1", "backup", "ro", snapshot.provider_id)
    with pytest.raises(exception.SnapshotIsBusy, match=snapshot.name):
        driver.delete_snapshot(snapshot)
    driver.pool.client.grants.revoke(reader.guid)
    driver.delete_snapshot(snapshot)
    assert labels(driver, volume) == []
    driver.delete_volume(volume)


def test_revert_keeps_newer_snapshots(driver: Any, make_volume: Make, make_snapshot: Make, context: Any) -> None:
    volume = create(driver, make_volume())
    older, newer = (snapshot_of(driver, make_snapshot, volume) for _ in range(2))
    driver.revert_to_snapshot(context, volume, older)
    assert labels(driver, volume) == [older.name, newer.name]
    assert driver.snapshot_revert_use_temp_snapshot() is False
    driver.delete_volume(volume)


def test_revert_that_would_destroy_newer_snapshots_is_refused(
    standin_driver: Any, make_volume: Make, make_snapshot: Make, context: Any
) -> None:
    driver = standin_driver
    volume = create(driver, make_volume())
    older, newer = (snapshot_of(driver, make_snapshot, volume) for _ in range(2))
    with pytest.raises(exception.VolumeBackendAPIException, match="newer"):
        driver.revert_to_snapshot(context, volume, older)
    assert labels(driver, volume) == [older.name, newer.name]


def test_revert_leaves_the_size_that_cinder_knows(
    driver: Any, make_volume: Make, make_snapshot: Make, context: Any
) -> None:
    volume = create(driver, make_volume())
    snapshot = snapshot_of(driver, make_snapshot, volume)
    driver.extend_volume(volume, 2)
    volume.size = 2
    driver.revert_to_snapshot(context, volume, snapshot)
    assert size_of(driver, volume) == 2 * GIB
    driver.delete_volume(volume)


def test_statistics_are_real_and_thin(driver: Any, make_volume: Make) -> None:
    before = driver.get_volume_stats(refresh=True)
    assert before["backend_state"] == "up"
    assert before["volume_backend_name"] == "myvpool01"
    assert before["thin_provisioning_support"] is True
    assert before["multiattach"] is True
    assert 0 < before["free_capacity_gb"] <= before["total_capacity_gb"]
    volume = create(driver, make_volume(size=700))
    deadline = time.monotonic() + PATIENCE
    while driver.get_volume_stats(refresh=True)["provisioned_capacity_gb"] < 700:
        assert time.monotonic() < deadline, "figures may be some seconds old, not more"
        time.sleep(0.2)
    assert driver.get_volume_stats(refresh=True)["free_capacity_gb"] == pytest.approx(before["free_capacity_gb"], abs=1)
    driver.delete_volume(volume)


def test_a_cluster_that_cannot_say_is_unknown_and_not_infinite(standin_driver: Any) -> None:
    stats = standin_driver.get_volume_stats(refresh=True)
    assert (stats["total_capacity_gb"], stats["free_capacity_gb"]) == ("unknown", "unknown")
    assert stats["backend_state"] == "up"
    assert stats["multiattach"] is False


def test_a_dead_cluster_is_down_and_gets_no_volumes(
    standin_driver: Any, standin: StandIn, make_volume: Make, caplog: pytest.LogCaptureFixture
) -> None:
    standin.stop()
    stats = standin_driver.get_volume_stats(refresh=True)
    assert stats["backend_state"] == "down"
    assert stats["free_capacity_gb"] == 0
    with pytest.raises(exception.VolumeBackendAPIException, match=str(standin.port)):
        standin_driver.create_volume(make_volume())


def test_one_of_two_addresses_dies_and_no_operation_fails(
    standin_driver: Any, standin: StandIn, authority: Authority, make_volume: Make
) -> None:
    """The guide's management_ips: 127.0.0.1 and 127.0.0.2, two nodes of one cluster."""
    certificate = authority.issue("127.0.0.1", "127.0.0.2")
    volumes = [make_volume() for _ in range(6)]
    with StandIn(certificate, "127.0.0.2", standin.cluster, standin.port):
        for number, volume in enumerate(volumes):
            if number == 3:
                standin.stop()
            create(standin_driver, volume)
        for volume in volumes:
            standin_driver.delete_volume(volume)
    assert standin.cluster.vdisks == {}
