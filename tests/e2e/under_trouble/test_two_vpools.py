"""Two vPools on one Cinder, one with TLS and one without, beside a backend of another kind."""

from collections.abc import Iterator
from hashlib import sha256

import pytest
from tests.support.cinder_world import FAKE, FIRST, GIB, SECOND, CinderWorld, eventually

pytestmark = pytest.mark.timeout(600)

MIB = 1024**2


@pytest.fixture(scope="module")
def volumes(world: CinderWorld) -> Iterator[dict[str, str]]:
    """A volume of each type."""
    asked = {name: world.storage.create_volume(volume_type=name, size=1).id for name in (FIRST, SECOND, FAKE)}
    made = {name: world.await_volume(volume) for name, volume in asked.items()}
    yield made
    world.delete(*(volume for volume in made.values() if world.status(volume) != "gone"))


def holders(world: CinderWorld, vdisk: str) -> list[str]:
    """Give the vPools that have a vDisk."""
    return [name for name, vpool in world.vpools.items() if vdisk in vpool.vdisks()]


def places(world: CinderWorld, volume: str) -> list[str]:
    return holders(world, world.vdisk(volume))


def move(world: CinderWorld, volume: str, there: str) -> None:
    """Retype a volume to another vPool and wait until nothing of it is left where it was."""
    before = world.vdisk(volume)
    world.storage.retype_volume(volume, there, "on-demand")
    eventually(lambda: world.storage.get_volume(volume).volume_type == there)
    world.await_volume(volume)
    eventually(lambda: holders(world, before) == [])
    assert places(world, volume) == [there]


def test_a_volume_is_where_its_type_says(world: CinderWorld, volumes: dict[str, str]) -> None:
    hosts = {name: world.storage.get_volume(volume).host for name, volume in volumes.items()}
    assert {name: host.partition("@")[2].partition("#")[0] for name, host in hosts.items()} == {
        name: name for name in volumes
    }
    assert {name: places(world, volume) for name, volume in volumes.items()} == {
        FIRST: [FIRST],
        SECOND: [SECOND],
        FAKE: [],
    }


def test_a_volume_moves_to_the_other_vpool_and_back_with_its_bytes(world: CinderWorld) -> None:
    volume = world.make(FIRST)
    for offset, value in ((0, 0x11), (512 * MIB + 4096, 0x22), (GIB - MIB, 0x33)):
        world.vpools[FIRST].edge.write(world.vdisk(volume), offset, value, MIB)
    expected = sha256()
    for length, value in (
        (MIB, 0x11),
        (511 * MIB + 4096, 0),
        (MIB, 0x22),
        (GIB - MIB - 513 * MIB - 4096, 0),
        (MIB, 0x33),
    ):
        expected.update(bytes([value]) * length)
    for there in (SECOND, FIRST):
        move(world, volume, there)
        found = world.vpools[there].edge.read(world.vdisk(volume), GIB)
        assert (found.size, found.sha256) == (GIB, expected.hexdigest())
        assert f"@{there}#" in world.storage.get_volume(volume).host
        assert world.vpools[there].grants(world.vdisk(volume)) == []
    # What comes later finds the vDisk that the migration made, which has another name than the volume's first.
    snapshot = world.snapshot(volume)
    world.storage.extend_volume(volume, 2)
    world.await_volume(volume)
    copy = world.make(FIRST, 2, snapshot_id=snapshot)
    vdisks = [world.vdisk(each) for each in (volume, copy)]
    assert [world.vpools[FIRST].size(vdisk) for vdisk in vdisks] == [2 * GIB, 2 * GIB]
    world.delete(volume, copy)
    assert [holders(world, vdisk) for vdisk in vdisks] == [[], []]


def test_deleting_the_volume_of_one_type_leaves_the_others(world: CinderWorld, volumes: dict[str, str]) -> None:
    vdisk = world.vdisk(volumes[FIRST])
    world.delete(volumes[FIRST])
    assert (holders(world, vdisk), places(world, volumes[SECOND])) == ([], [SECOND])
    assert [world.status(volumes[name]) for name in (SECOND, FAKE)] == ["available", "available"]
    world.delete(volumes[FAKE])
    assert places(world, volumes[SECOND]) == [SECOND]
