"""Volume types against the real service: back-end QoS, retype, moves within a vPool, managing, reading snapshots."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from cinder import exception, objects
from cinder.volume import volume_types
from cinder.volume.flows.manager import create_volume
from taskflow.types.failure import Failure
from tests.cinder.conftest import GIB, FakeGlance, read_by_user

from openvstorage.cinder.refusal import TypeRefused
from openvstorage.client import Durability, Qos
from openvstorage.edge.errors import EdgeError
from openvstorage.edge.nbd import NbdClient

Make = Callable[..., Any]
MISMATCH = exception.ManageExistingVolumeTypeMismatch


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


NONSENSE = [
    {"total_iops_sec": "abc"},
    {"write_bytes_sec": "-1"},
    {"read_iops_sec": "1.5"},
    {"total_bytes_sec": "9" * 30},
    {"read_iops_sec_per_gb": "many"},
    {"total_iops_sec": "100", "write_iops_sec": "50"},
]


@pytest.mark.parametrize("specs", NONSENSE)
def test_limits_that_are_none_are_refused_in_words_and_nothing_is_made(
    driver: Any, make_volume: Make, make_type: Make, context: Any, specs: dict[str, str]
) -> None:
    volume = make_volume(volume_type_id=make_type(**specs).id)
    key = next(iter(specs))
    with pytest.raises(TypeRefused, match=key):
        driver.create_volume(volume)
    assert driver.pool.client.vdisks.find(volume.name, driver.pool.vpool_guid) is None
    assert key in read_by_user(volume)


def test_cinder_does_not_try_elsewhere_what_no_backend_can_do(make_volume: Make, context: Any) -> None:
    """As the flow of its volume manager decides."""
    asked: list[Any] = []
    scheduler = SimpleNamespace(create_volume=lambda *args, **options: asked.append(args))
    task = create_volume.OnFailureRescheduleTask(context, None, None, scheduler, do_reschedule=True)
    volume = make_volume()
    try:
        raise TypeRefused(reason="it is nonsense")
    except TypeRefused:
        failures = {"create": Failure()}
    assert task.revert(context, None, failures, volume, request_spec={}, filter_properties={}) is False
    assert asked == []
    assert objects.Volume.get_by_id(context, volume.id).status == "error"


def test_every_way_to_a_volume_refuses_such_a_type(
    driver: Any, make_volume: Make, make_snapshot: Make, make_type: Make, context: Any, glance: FakeGlance
) -> None:
    nonsense = make_type(total_iops_sec="abc")
    source = created(driver, make_volume)
    snapshot = make_snapshot(source)
    snapshot.update(driver.create_snapshot(snapshot))
    image = glance.add("raw", b"x" * 512)
    name, guid = foreign(driver)

    def refused(way: Callable[[Any], Any], error: type[Exception] = TypeRefused) -> None:
        volume = make_volume(volume_type_id=nonsense.id)
        with pytest.raises(error, match="abc"):
            way(volume)
        assert driver.pool.client.vdisks.find(volume.name, driver.pool.vpool_guid) is None

    refused(lambda volume: driver.create_cloned_volume(volume, source))
    refused(lambda volume: driver.create_volume_from_snapshot(volume, snapshot))
    refused(lambda volume: driver.clone_image(context, volume, (None, None), image, glance))
    refused(lambda volume: driver.manage_existing(volume, {"source-name": name}), MISMATCH)
    with pytest.raises(TypeRefused, match="abc"):
        driver.retype(context, source, nonsense, {}, {})
    assert "abc" in read_by_user(source)
    assert driver.retype(context, source, make_type(), {}, {}) == (True, None)
    assert objects.Volume.get_by_id(context, source.id).metadata == {}, "what is no longer so is not said any more"
    driver.delete_snapshot(snapshot)
    driver.delete_volume(source)
    driver.pool.client.vdisks.delete(guid)


def test_a_volume_does_not_grow_while_its_limits_are_none(driver: Any, make_volume: Make, make_type: Make) -> None:
    volume = created(driver, make_volume)
    volume.volume_type_id = make_type(total_iops_sec="abc").id
    with pytest.raises(TypeRefused, match="abc"):
        driver.extend_volume(volume, 2)
    assert driver.pool.size(volume.provider_id) == 1
    driver.delete_volume(volume)


def durability_of(driver: Any, volume: Any) -> Durability | None:
    return driver.pool.client.vdisks.get(volume.provider_id).durability  # type: ignore[no-any-return]


def test_durability_is_that_of_the_type_and_changes_live(
    driver: Any, make_volume: Make, make_snapshot: Make, context: Any, attach: Make
) -> None:
    kinds = {value: type_with(context, value) for value in Durability}
    default = make_volume()
    default.update(driver.create_volume(default))
    for value, kind in kinds.items():
        volume = created(driver, make_volume, volume_type_id=kind.id)
        assert durability_of(driver, volume) == value
        copy = make_volume(volume_type_id=kind.id)
        copy.update(driver.create_cloned_volume(copy, default))
        assert durability_of(driver, copy) == value, "a copy has the durability of its own type"
        attach(volume, "host1", "11111111-0000-4000-8000-000000000000")
        data = driver.initialize_connection(volume, {"host": "host1"})["data"]
        other = next(kind for other, kind in kinds.items() if other != value)
        assert driver.retype(context, volume, other, {}, {}) == (True, None)
        assert durability_of(driver, volume) != value
        with NbdClient.connect(data["hosts"][0], int(data["ports"][0]), data["name"]) as disk:
            disk.write(0, b"x" * 4096)
        driver.terminate_connection(volume, None)
        for done in (copy, volume):
            driver.delete_volume(done)
    name, _guid = foreign(driver, GIB)
    taken = make_volume(volume_type_id=kinds[Durability.FLUSHED].id)
    taken.update(driver.manage_existing(taken, {"source-name": name}))
    assert durability_of(driver, taken) == Durability.FLUSHED
    for done in (taken, default):
        driver.delete_volume(done)


def test_a_retype_to_a_type_without_durability_takes_the_default(
    driver: Any, make_volume: Make, make_type: Make, context: Any
) -> None:
    default = created(driver, make_volume)
    volume = created(driver, make_volume, volume_type_id=type_with(context, Durability.FLUSHED).id)
    assert driver.retype(context, volume, make_type(), {}, {}) == (True, None)
    assert durability_of(driver, volume) == durability_of(driver, default)
    for done in (volume, default):
        driver.delete_volume(done)


def type_with(context: Any, durability: str) -> Any:
    kind = volume_types.create(context, f"type-{uuid.uuid4()}", {"openvstorage:durability": str(durability)})
    return objects.VolumeType.get_by_id(context, kind["id"])


def test_durability_that_there_is_not_is_refused_in_words(
    driver: Any, standin_driver: Any, make_volume: Make, context: Any
) -> None:
    volume = make_volume(volume_type_id=type_with(context, "eternal").id)
    with pytest.raises(TypeRefused, match="'eternal', it may be acknowledged or flushed"):
        driver.create_volume(volume)
    on_old_cluster = make_volume(volume_type_id=type_with(context, Durability.FLUSHED).id)
    with pytest.raises(TypeRefused, match="does not know"):
        standin_driver.create_volume(on_old_cluster)
    assert "does not know" in read_by_user(on_old_cluster)


def test_durability_is_explained_where_the_vpool_knows_it(driver: Any, standin_driver: Any) -> None:
    driver.init_capabilities()
    told = driver.capabilities["properties"]["openvstorage:durability"]
    assert told["enum"] == ["acknowledged", "flushed"]
    assert all(value in told["description"] for value in Durability)
    assert driver.capabilities["vendor_prefix"] == "openvstorage"
    standin_driver.init_capabilities()
    assert "openvstorage:durability" not in standin_driver.capabilities["properties"]


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
            with pytest.raises(exception.SnapshotIsBusy, match="in use"):
                driver.delete_snapshot(snapshot)
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


def test_what_another_backend_of_the_vpool_manages_is_not_offered(
    driver: Any, make_volume: Make, make_snapshot: Make
) -> None:
    """Cinder hands over the volumes and snapshots of the asked backend only."""
    volume = created(driver, make_volume, host="other@backend#pool")
    nameless = make_volume(host="other@backend#pool")
    driver.create_volume(nameless)  # as the driver of 2017 left them: Cinder knows no guid
    snapshot = make_snapshot(volume)
    snapshot.update(driver.create_snapshot(snapshot))
    snapshot.save()
    paging = (None, 1000, 0, ["size"], ["asc"])
    entries = {entry["reference"]["source-name"]: entry for entry in driver.get_manageable_volumes([], *paging)}
    assert [entries[each.name]["cinder_id"] for each in (volume, nameless)] == [volume.id, nameless.id]
    assert not any(entries[each.name]["safe_to_manage"] for each in (volume, nameless))
    for each in (volume, nameless):
        with pytest.raises(exception.ManageExistingAlreadyManaged):
            driver.manage_existing_get_size(make_volume(), {"source-name": each.name})
    listed = {entry["reference"]["source-name"]: entry for entry in driver.get_manageable_snapshots([], *paging)}
    assert listed[snapshot.name]["cinder_id"] == snapshot.id
    with pytest.raises(exception.ManageExistingInvalidReference, match="managed already"):
        driver.manage_existing_snapshot(make_snapshot(volume), {"source-id": snapshot.provider_id})
    driver.delete_snapshot(snapshot)
    for each in (volume, nameless):
        driver.delete_volume(each)


def test_what_the_vpool_took_for_a_clone_is_not_offered_and_not_accepted(
    driver: Any, make_volume: Make, make_snapshot: Make
) -> None:
    volume = created(driver, make_volume)
    copy = make_volume()
    copy.update(driver.create_cloned_volume(copy, volume))
    (internal,) = driver.pool.client.snapshots.list(volume.provider_id)
    assert internal.for_clone
    listed = driver.get_manageable_snapshots([], None, 1000, 0, ["size"], ["asc"])
    assert {"source-name": volume.name} not in [entry["source_reference"] for entry in listed]
    for reference in ({"source-id": internal.guid}, {"source-name": internal.label}):
        with pytest.raises(exception.ManageExistingInvalidReference):
            driver.manage_existing_snapshot(make_snapshot(volume), reference)
    for each in (copy, volume):
        driver.delete_volume(each)


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
