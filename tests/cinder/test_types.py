"""Volume types against the real service: back-end QoS, retype, moves within a vPool, managing, reading snapshots."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest
from cinder import exception
from tests.cinder.conftest import GIB

from openvstorage.client import Qos
from openvstorage.edge.errors import EdgeError
from openvstorage.edge.nbd import NbdClient

Make = Callable[..., Any]


def qos_of(driver: Any, volume: Any) -> Qos | None:
    return driver.pool.client.vdisks.get(volume.provider_id).qos  # type: ignore[no-any-return]


def created(driver: Any, make_volume: Make, **fields: Any) -> Any:
    volume = make_volume(**fields)
    volume.update(driver.create_volume(volume))
    volume.save()
    return volume


def test_limits_of_the_type_are_on_the_volume_from_the_start(driver: Any, make_volume: Make, make_type: Make) -> None:
    kind = make_type(total_iops_sec="500", read_bytes_sec="1000000")
    volume = created(driver, make_volume, volume_type_id=kind.id)
    assert qos_of(driver, volume) == Qos(iops_total=500, bps_read=1000000)
    copy = make_volume(volume_type_id=make_type().id)
    copy.update(driver.create_cloned_volume(copy, volume))
    assert qos_of(driver, copy) in (None, Qos()), "a copy has the limits of its own type"
    for done in (copy, volume):
        driver.delete_volume(done)


def test_limits_per_gib_grow_with_the_volume(driver: Any, make_volume: Make, make_type: Make) -> None:
    kind = make_type(write_iops_sec_per_gb="100", write_iops_sec_per_gb_min="150", write_iops_sec_max="450")
    volume = created(driver, make_volume, volume_type_id=kind.id)
    assert qos_of(driver, volume) == Qos(iops_write=150)
    for size, limit in ((3, 300), (9, 450)):
        driver.extend_volume(volume, size)
        assert qos_of(driver, volume) == Qos(iops_write=limit)
    driver.delete_volume(volume)


def test_front_end_limits_are_novas_business(driver: Any, make_volume: Make, make_type: Make) -> None:
    volume = created(driver, make_volume, volume_type_id=make_type("front-end", total_iops_sec="5").id)
    assert qos_of(driver, volume) in (None, Qos())
    driver.delete_volume(volume)


def test_retype_changes_and_removes_limits_of_a_volume_in_use(
    driver: Any, make_volume: Make, make_type: Make, context: Any
) -> None:
    slow, fast, free = make_type(total_iops_sec="10"), make_type(total_iops_sec="9000"), make_type()
    volume = created(driver, make_volume, volume_type_id=slow.id)
    info = driver.initialize_connection(volume, {"host": "host1"})
    host = {"host": "host@backend#pool"}
    assert driver.retype(context, volume, fast, {}, host) == (True, None)
    assert qos_of(driver, volume) == Qos(iops_total=9000)
    assert driver.retype(context, volume, free, {}, host) == (True, None)
    assert qos_of(driver, volume) in (None, Qos())
    with NbdClient.connect(info["data"]["hosts"][0], int(info["data"]["ports"][0]), info["data"]["name"]) as nbd:
        nbd.write(0, b"x" * 4096)
    driver.terminate_connection(volume, None)
    driver.delete_volume(volume)


def test_a_cluster_without_qos_does_not_pretend(
    standin_driver: Any, make_volume: Make, make_type: Make, context: Any
) -> None:
    limited, free = make_type(total_iops_sec="10"), make_type()
    volume = created(standin_driver, make_volume, volume_type_id=free.id)
    assert standin_driver.retype(context, volume, limited, {}, {}) == (False, None)
    assert standin_driver.retype(context, volume, make_type(), {}, {}) == (True, None)
    with pytest.raises(exception.VolumeBackendAPIException, match="qos"):
        standin_driver.create_volume(make_volume(volume_type_id=limited.id))


def test_moving_between_backends_on_one_vpool_copies_nothing(driver: Any, make_volume: Make, context: Any) -> None:
    volume = created(driver, make_volume)
    stats = driver.get_volume_stats(refresh=True)
    assert driver.migrate_volume(context, volume, {"host": "other", "capabilities": stats}) == (True, None)
    elsewhere = {**stats, "location_info": "openvstorage:another"}
    assert driver.migrate_volume(context, volume, {"host": "other", "capabilities": elsewhere}) == (False, None)
    assert driver.migrate_volume(context, volume, {"host": "lvm", "capabilities": {}}) == (False, None)
    driver.delete_volume(volume)


def test_a_snapshot_is_read_while_its_volume_goes_on(driver: Any, make_volume: Make, make_snapshot: Make) -> None:
    volume = created(driver, make_volume)
    guest = driver.initialize_connection(volume, {"host": "host1"})["data"]
    with NbdClient.connect(guest["hosts"][0], int(guest["ports"][0]), guest["name"]) as disk:
        disk.write(0, b"old".ljust(512))
        snapshot = make_snapshot(volume)
        snapshot.update(driver.create_snapshot(snapshot))
        snapshot.save()
        disk.write(0, b"new".ljust(512))
        info = driver.initialize_connection_snapshot(snapshot, {"host": "backup1"})["data"]
        assert info["access_mode"] == "ro"
        with NbdClient.connect(info["hosts"][0], int(info["ports"][0]), info["name"]) as reader:
            assert reader.info.read_only
            assert reader.read(0, 512).strip() == b"old"
            driver.terminate_connection_snapshot(snapshot, {"host": "backup1"})
            with pytest.raises(EdgeError):
                reader.read(0, 512)
        driver.terminate_connection_snapshot(snapshot, {"host": "backup1"})
        assert disk.read(0, 512).strip() == b"new"
    driver.terminate_connection(volume, None)
    driver.delete_snapshot(snapshot)
    driver.terminate_connection_snapshot(snapshot, None)
    driver.delete_volume(volume)


def foreign(driver: Any, size: int = GIB + 1024**2) -> tuple[str, str]:
    name = f"foreign-{uuid.uuid4()}"
    return name, driver.pool.client.vdisks.create(name, size, driver.pool.vpool_guid)


@pytest.mark.parametrize("key", ["source-name", "source-id"])
def test_a_foreign_vdisk_is_managed_and_let_go(any_driver: Any, make_volume: Make, key: str) -> None:
    name, guid = foreign(any_driver)
    reference = {key: name if key == "source-name" else guid}
    volume = make_volume(size=2)
    assert any_driver.manage_existing_get_size(volume, reference) == 2
    volume.update(any_driver.manage_existing(volume, reference))
    volume.save()
    assert any_driver.pool.client.vdisks.get(guid).size == 2 * GIB
    with pytest.raises(exception.ManageExistingAlreadyManaged):
        any_driver.manage_existing_get_size(make_volume(), reference)
    any_driver.unmanage(volume)
    volume.destroy()
    assert any_driver.manage_existing_get_size(make_volume(), reference) == 2
    any_driver.pool.client.vdisks.delete(guid)


@pytest.mark.parametrize("reference", [{}, {"source-name": "nothing-of-that-name"}, {"source-id": str(uuid.uuid4())}])
def test_references_to_nothing_are_refused(any_driver: Any, make_volume: Make, reference: dict[str, str]) -> None:
    with pytest.raises(exception.ManageExistingInvalidReference):
        any_driver.manage_existing_get_size(make_volume(), reference)


def test_a_vdisk_that_somebody_has_open_is_not_managed(driver: Any, make_volume: Make) -> None:
    name, guid = foreign(driver)
    driver.pool.client.grants.create(guid, "host1", "somebody")
    with pytest.raises(exception.ManageExistingInvalidReference, match="open"):
        driver.manage_existing_get_size(make_volume(), {"source-name": name})
    driver.pool.client.vdisks.delete(guid, force=True)


def test_lists_say_what_can_be_managed(any_driver: Any, make_volume: Make, make_snapshot: Make) -> None:
    name, guid = foreign(any_driver)
    label = f"label-{uuid.uuid4()}"
    any_driver.pool.client.snapshots.create(guid, label)
    volume = created(any_driver, make_volume)
    paging = (None, 1000, 0, ["size"], ["asc"])
    entries = {
        entry["reference"]["source-name"]: entry for entry in any_driver.get_manageable_volumes([volume], *paging)
    }
    assert entries[name]["safe_to_manage"] is True
    assert entries[name]["size"] == 2
    assert entries[volume.name]["cinder_id"] == volume.id
    assert entries[volume.name]["reason_not_safe"] == "already managed"
    listed = any_driver.get_manageable_snapshots([], *paging)
    (found,) = [entry for entry in listed if entry["reference"]["source-name"] == label]
    assert found["source_reference"] == {"source-name": name}
    any_driver.pool.client.vdisks.delete(guid)
    any_driver.delete_volume(volume)


def test_a_foreign_snapshot_is_managed(any_driver: Any, make_volume: Make, make_snapshot: Make) -> None:
    volume = created(any_driver, make_volume, size=3)
    guid = any_driver.pool.client.snapshots.create(volume.provider_id, "by hand")
    snapshot = make_snapshot(volume)
    for reference in ({"source-name": "by hand"}, {"source-id": guid}):
        assert any_driver.manage_existing_snapshot_get_size(snapshot, reference) == 3
        assert any_driver.manage_existing_snapshot(snapshot, reference) == {"provider_id": guid}
    with pytest.raises(exception.ManageExistingInvalidReference):
        any_driver.manage_existing_snapshot(snapshot, {"source-name": "other"})
    any_driver.unmanage_snapshot(snapshot)
    any_driver.delete_volume(volume)
