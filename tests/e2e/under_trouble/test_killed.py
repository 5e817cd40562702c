"""cinder-volume is killed while one of each operation is under way, and started again.

All are stopped at a call of theirs to the vPool, then the process is killed, so none of them is done or not begun.
Unmanaging is not among them: it calls nobody.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.support.cinder_operations import OPERATIONS, Operation
from tests.support.cinder_world import FIRST, CinderWorld
from tests.support.gate import When

pytestmark = pytest.mark.timeout(900)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "cut" in metafunc.fixturenames:
        rounds = [(number // 2, ("after", "before")[number % 2]) for number in range(metafunc.config.option.kills)]
        metafunc.parametrize("cut", rounds, ids=[f"{when} call {point}" for point, when in rounds])


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "image.raw"
    file.write_bytes(bytes(range(1, 256)) * 200_000)
    return file


@pytest.fixture
def operations(world: CinderWorld, image: Path) -> list[Operation]:
    operations = [kind(world, image) for kind in OPERATIONS]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda operation: operation.prepare(), operations))
    return operations


def all_grants(world: CinderWorld) -> set[str]:
    return {grant.guid for grant in world.vpools[FIRST].client.grants.all()}


def test_everything_that_was_under_way_has_an_end(
    world: CinderWorld, operations: list[Operation], cut: tuple[int, When]
) -> None:
    point, when = cut
    before, grants = world.vpools[FIRST].vdisks(), all_grants(world)
    holds = []
    for operation in operations:
        points = operation.points()
        holds.append(world.stop(points[point % len(points)], when))
    with ThreadPoolExecutor(len(operations)) as pool:
        begun = [(operation, pool.submit(operation.begin)) for operation in operations]
        try:
            late = {
                type(operation).__name__: result.exception() if result.done() else None
                for (operation, result), hold in zip(begun, holds, strict=True)
                if not hold.reached.wait(120)
            }
            assert late == {}, "they did not come to the call at which they should be stopped"
        finally:
            world.kill_cinder_volume()
            for gate in world.gates:
                gate.open()
            world.start_cinder_volume()
        for operation, result in begun:
            error = result.exception()
            assert error is None or operation.waits, f"{type(operation).__name__}: {error}"
        checks = [(operation, pool.submit(operation.check)) for operation in operations]
        faults = {type(operation).__name__: error for operation, check in checks if (error := check.exception())}
        assert faults == {}
        list(pool.map(lambda operation: operation.clean(), operations))
    assert world.vpools[FIRST].vdisks().keys() <= before.keys()
    assert all_grants(world) <= grants
