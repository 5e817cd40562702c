"""What the library does with vDisks, on a cluster without our extensions and on our own service alike."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import pytest

from openvstorage.client import (
    AlreadyExists,
    HasClones,
    InvalidRequest,
    NotFound,
    NotSupported,
    OpenvStorageError,
    Qos,
    Refused,
    ServerError,
)

GIB = 1024**3
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def name() -> str:
    return f"volume-{uuid.uuid4()}"


@pytest.fixture
def disk(api, vpool, name) -> str:
    return api.vdisks.create(name, GIB, vpool)


def test_vpools_are_found_by_guid_and_name(api, management_api):
    vpool = api.vpools.get(management_api.vpool_guid)
    assert vpool.name == management_api.vpool_name
    assert api.vpools.find(vpool.name) == vpool
    assert vpool in api.vpools.list()
    assert api.vpools.find("no such vpool") is None
    with pytest.raises(NotFound):
        api.vpools.get(NOBODY)


def test_capacity_is_given_where_the_cluster_knows_it(api, vpool, management_api, disk):
    capacity = api.vpools.capacity(vpool)
    if not management_api.extended:
        assert capacity is None
        return
    assert capacity is not None
    assert 0 < capacity.free_bytes <= capacity.total_bytes
    assert capacity.provisioned_bytes >= GIB
    assert capacity.vdisk_count >= 1


def test_a_new_vdisk_is_found_by_guid_and_by_name(api, vpool, disk, name):
    vdisk = api.vdisks.get(disk)
    assert (vdisk.guid, vdisk.name, vdisk.size, vdisk.vpool_guid) == (disk, name, GIB, vpool)
    assert vdisk.devicename == f"/{name}.raw"
    assert vdisk.parent_vdisk_guid is None
    assert not vdisk.is_vtemplate
    assert api.vdisks.find(name, vpool) == vdisk
    assert api.vdisks.find(name + "x", vpool) is None
    # Open vStorage fails over an unknown guid in a query, our service says what is wrong.
    with pytest.raises((NotFound, ServerError), match=r"could not be found|does not exist"):
        api.vdisks.find(name, NOBODY)


def test_a_name_is_taken_until_its_vdisk_is_deleted(api, vpool, disk, name):
    with pytest.raises(AlreadyExists):
        api.vdisks.create(name, GIB, vpool)
    api.vdisks.delete(disk)
    assert api.vdisks.find(name, vpool) is None
    again = api.vdisks.create(name, 2 * GIB, vpool)
    assert again != disk
    assert api.vdisks.get(again).size == 2 * GIB


def test_what_does_not_exist_is_not_found(api, vpool):
    for call in (
        lambda: api.vdisks.get(NOBODY),
        lambda: api.vdisks.delete(NOBODY),
        lambda: api.vdisks.extend(NOBODY, GIB),
        lambda: api.vdisks.clone(NOBODY, "x"),
        lambda: api.vdisks.clone(NOBODY, "x", size=GIB),
        lambda: api.vdisks.rollback(NOBODY, NOBODY),
        lambda: api.snapshots.list(NOBODY),
        lambda: api.snapshots.create(NOBODY, "x"),
        lambda: api.snapshots.delete(NOBODY, NOBODY),
    ):
        with pytest.raises(NotFound):
            call()


def test_extend_grows_and_never_shrinks(api, disk):
    api.vdisks.extend(disk, 3 * GIB)
    assert api.vdisks.get(disk).size == 3 * GIB
    api.vdisks.extend(disk, 3 * GIB)
    with pytest.raises(InvalidRequest):
        api.vdisks.extend(disk, GIB)
    assert api.vdisks.get(disk).size == 3 * GIB


def test_64_tib_is_the_limit(api, vpool, name):
    with pytest.raises(InvalidRequest):
        api.vdisks.create(name, 64 * 1024**4 + 4096, vpool)
    assert api.vdisks.find(name, vpool) is None
    guid = api.vdisks.create(name, 64 * 1024**4, vpool)
    assert api.vdisks.get(guid).size == 64 * 1024**4


def test_snapshots_are_listed_oldest_first_with_what_they_were_given(api, disk):
    first = api.snapshots.create(disk, "first")
    second = api.snapshots.create(disk, "second", consistent=True, automatic=True, sticky=True)
    snapshots = api.snapshots.list(disk)
    assert [snapshot.guid for snapshot in snapshots] == [first, second]
    assert [snapshot.label for snapshot in snapshots] == ["first", "second"]
    assert [(s.is_consistent, s.is_automatic, s.is_sticky) for s in snapshots] == [(False,) * 3, (True,) * 3]
    assert snapshots[0].taken_at <= snapshots[1].taken_at
    api.snapshots.delete(disk, first)
    assert [snapshot.guid for snapshot in api.snapshots.list(disk)] == [second]
    with pytest.raises(NotFound):
        api.snapshots.delete(disk, first)


def test_a_clone_has_its_parent_and_the_size_asked_for(api, vpool, disk, name):
    snapshot = api.snapshots.create(disk, "s")
    same = api.vdisks.get(api.vdisks.clone(disk, name + "-same", snapshot))
    larger = api.vdisks.get(api.vdisks.clone(disk, name + "-larger", snapshot, size=5 * GIB))
    assert (same.size, larger.size) == (GIB, 5 * GIB)
    assert {same.parent_vdisk_guid, larger.parent_vdisk_guid} == {disk}
    assert {same.parentsnapshot, larger.parentsnapshot} == {snapshot}
    assert api.vdisks.find(name + "-larger", vpool) == larger


def test_a_clone_of_the_present_state_takes_a_larger_size_too(api, disk, name):
    assert api.vdisks.get(api.vdisks.clone(disk, name + "-copy", size=2 * GIB)).size == 2 * GIB


def test_a_clone_that_is_too_small_is_refused_and_leaves_nothing(api, vpool, disk, name):
    api.vdisks.extend(disk, 2 * GIB)
    snapshot = api.snapshots.create(disk, "s")
    for source in (snapshot, None):
        with pytest.raises(InvalidRequest):
            api.vdisks.clone(disk, name + "-small", source, size=GIB)
        assert api.vdisks.find(name + "-small", vpool) is None


def test_a_clone_that_is_too_large_is_refused_and_leaves_nothing(api, vpool, disk, name):
    snapshot = api.snapshots.create(disk, "s")
    with pytest.raises(InvalidRequest):
        api.vdisks.clone(disk, name + "-large", snapshot, size=65 * 1024**4)
    assert api.vdisks.find(name + "-large", vpool) is None


def test_parents_of_clones_are_refused_by_the_old_cluster_only(api, management_api, disk, name):
    snapshot = api.snapshots.create(disk, "s")
    clone = api.vdisks.clone(disk, name + "-clone", snapshot)
    if management_api.extended:
        api.snapshots.delete(disk, snapshot)
        api.vdisks.delete(disk)
        assert api.vdisks.get(clone).size == GIB
        return
    with pytest.raises(HasClones):
        api.snapshots.delete(disk, snapshot)
    with pytest.raises(HasClones):
        api.vdisks.delete(disk)
    api.vdisks.delete(clone)
    api.vdisks.delete(disk)


def test_rollback_reaches_the_snapshot_and_says_what_it_cannot_keep(api, management_api, disk):
    first = api.snapshots.create(disk, "first")
    api.vdisks.rollback(disk, first, keep_newer=True)
    newer = api.snapshots.create(disk, "newer")
    if management_api.extended:
        api.vdisks.rollback(disk, first, keep_newer=True)
    else:
        with pytest.raises(NotSupported):
            api.vdisks.rollback(disk, first, keep_newer=True)
    assert [snapshot.guid for snapshot in api.snapshots.list(disk)] == [first, newer]
    api.vdisks.rollback(disk, first)
    assert [snapshot.guid for snapshot in api.snapshots.list(disk)] == [first]
    with pytest.raises(NotFound):
        api.vdisks.rollback(disk, newer)


def test_a_group_of_snapshots_is_taken_of_all_or_of_none(api, management_api, vpool, name):
    disks = [api.vdisks.create(f"{name}-{number}", GIB, vpool) for number in range(3)]
    snapshots = api.snapshots.create_group(vpool, disks, "group", atomic=management_api.extended)
    assert list(snapshots) == disks
    for disk in disks:
        assert [(s.guid, s.label) for s in api.snapshots.list(disk)] == [(snapshots[disk], "group")]
    api.vdisks.rollback(disks[0], snapshots[disks[0]])
    with pytest.raises(Refused):
        api.snapshots.create_group(vpool, [disks[0], NOBODY, disks[2]], "bad", atomic=management_api.extended)
    assert all(len(api.snapshots.list(disk)) == 1 for disk in disks)


def test_atomic_groups_are_not_pretended(api, management_api, vpool, disk):
    if management_api.extended:
        assert list(api.snapshots.create_group(vpool, [disk], "group")) == [disk]
        return
    with pytest.raises(NotSupported, match="atomic_group_snapshots"):
        api.snapshots.create_group(vpool, [disk], "group")
    assert api.snapshots.list(disk) == []


def test_qos_is_set_or_said_to_be_missing(api, management_api, disk):
    qos = Qos(iops_total=100, bps_read=10**6)
    if not management_api.extended:
        with pytest.raises(NotSupported, match="qos"):
            api.vdisks.set_qos(disk, qos)
        return
    api.vdisks.set_qos(disk, qos)
    assert api.vdisks.get(disk).qos == qos
    api.vdisks.set_qos(disk, Qos())
    assert api.vdisks.get(disk).qos == Qos()


def test_all_vdisks_are_listed_over_several_pages(api, vpool, name):
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(lambda number: api.vdisks.create(f"{name}-{number}", GIB, vpool), range(105)))
    listed = [vdisk.guid for vdisk in api.vdisks.list(vpool)]
    assert made <= set(listed)
    assert len(listed) == len(set(listed))


def test_twenty_threads_share_a_client(api, vpool, name):
    def life(number: int) -> None:
        guid = api.vdisks.create(f"{name}-{number}", GIB, vpool)
        snapshot = api.snapshots.create(guid, "s")
        assert api.vdisks.find(f"{name}-{number}", vpool).guid == guid
        api.snapshots.delete(guid, snapshot)
        api.vdisks.delete(guid)

    with ThreadPoolExecutor(20) as pool:
        list(pool.map(life, range(20)))
    assert [vdisk for vdisk in api.vdisks.list(vpool) if vdisk.name.startswith(name)] == []


def test_grants_are_given_and_revoked_or_said_to_be_missing(api, management_api, disk):
    if not management_api.extended:
        with pytest.raises(NotSupported, match="grants"):
            api.grants.create(disk, "host1", "instance1")
        return
    grant = api.grants.create(disk, "host1", "instance1")
    assert (grant.vdisk_guid, grant.client, grant.consumer, grant.mode) == (disk, "host1", "instance1", "rw")
    assert grant.size == GIB
    assert api.grants.create(disk, "host1", "instance1").guid == grant.guid
    assert api.grants.get(grant.guid).export_name == grant.export_name
    assert [entry.guid for entry in api.grants.list(disk)] == [grant.guid]
    with pytest.raises(OpenvStorageError, match="in use"):
        api.grants.create(disk, "host2", "instance2")
    with pytest.raises(OpenvStorageError, match=r"(?i)in use"):
        api.vdisks.delete(disk)
    api.grants.revoke(grant.guid)
    with pytest.raises(NotFound):
        api.grants.revoke(grant.guid)
    assert api.grants.list(disk) == []
    other = api.grants.create(disk, "host2", "instance2")
    api.vdisks.delete(disk, force=True)
    with pytest.raises(NotFound):
        api.grants.get(other.guid)
