"""A disk that fills up inside each step of each operation, and has room again later.

``make test`` tries one instant of each operation; with ``CRASH_ALL=1`` in the environment it is all of them.
Requires QEMU's storage daemon and the right to mount a tmpfs.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.support.audit import audit, calm
from tests.support.crash_acts import disk, vdisk
from tests.support.crash_case import verdict
from tests.support.crash_scenarios import SCENARIOS, Scenario
from tests.support.crash_world import Disk, World, fits, look
from tests.support.disk_room import FULL, occupy
from tests.support.engine import Engine, TaskFailed, engine
from tests.support.qemus import bin_dirs

from openvstorage.vpool.backends.base import PoolFull
from openvstorage.vpool.model.task import TaskStatus

pytestmark = [pytest.mark.crash, pytest.mark.timeout(900)]

ALL = bool(os.environ.get("CRASH_ALL"))
QEMU = next(iter(bin_dirs().values()))
VICTIM = "victim"
WHOLE = [scenario for scenario in SCENARIOS if scenario.broken is None]


def instants(scenario: Scenario, number: int) -> list[int]:
    """:returns: before which boundaries the disk fills up; 0 is before it is asked for."""
    count = len(scenario.boundaries()) + 1
    return list(range(count)) if ALL else [number % count]


CASES = [(scenario, at) for number, scenario in enumerate(WHOLE) for at in instants(scenario, number)]


@dataclass
class Filler:
    """A boundary hook that leaves no free byte from the n-th boundary on."""

    path: Path
    at: int
    armed: bool = False
    seen: int = field(default=0)

    async def __call__(self, _operation: str, _boundary: str) -> None:
        if self.armed:
            self.seen += 1
            self.look()

    def look(self) -> None:
        """Fill it, if it is time. What the database gave back meanwhile is taken too."""
        if self.seen >= self.at:
            occupy(self.path)

    def give_back(self) -> None:
        """Make room."""
        self.armed = False
        self.path.unlink(missing_ok=True)


@pytest.mark.parametrize(("scenario", "at"), CASES, ids=[f"{scenario.name}-{at}" for scenario, at in CASES])
async def test_a_disk_that_is_full_inside_an_operation_loses_nothing(
    scenario: Scenario, at: int, small_disk: Path
) -> None:
    filler = Filler(small_disk / "of-another-program", at)
    settings = {"low_water_mib": 1, "ballast_mib": 4, "qemu_dir": str(QEMU)}
    async with engine(small_disk / "pool", boundary=filler, **settings) as vpool:
        vpool.context.tidy = lambda: None
        await scenario.setup(vpool)
        await disk(VICTIM, "V...")(vpool)
        filler.armed = True
        filler.look()
        refused = await attempt(vpool, scenario)
        await vpool.do("vdisk.delete", await vdisk(vpool, VICTIM))
        filler.give_back()
        await calm(vpool)
        await audit(vpool)
        done = not refused or (await look(vpool)) != with_zeroes(scenario.before)
        expected = scenario.after if done else scenario.before
        assert fits(await look(vpool), expected, wrote=False), f"refused: {refused}"
        if not done:
            assert await attempt(vpool, scenario) is None
            await calm(vpool)
            await audit(vpool)
            assert fits(await look(vpool), scenario.after, wrote=False)


def with_zeroes(world: World) -> World:
    """:returns: a world as it looks when its guest never wrote."""

    def plain(pattern: str) -> str:
        return pattern.replace("!", ".").replace("?", ".")

    def quiet(disk: Disk) -> Disk:
        snapshots = {label: plain(pattern) for label, pattern in disk.snapshots.items()}
        return replace(disk, content=plain(disk.content), snapshots=snapshots)

    return replace(world, disks={name: quiet(disk) for name, disk in world.disks.items()})


async def attempt(vpool: Engine, scenario: Scenario) -> str | None:
    """:returns: what a user is told if it is refused, which has to be one sentence that says what to do."""
    refusal = None
    try:
        await scenario.act(vpool)
    except (TaskFailed, PoolFull) as error:
        refusal = str(error)
    assert refusal is None or FULL in refusal
    if refusal is None and "task:submitted" in scenario.boundaries():
        assert await verdict(vpool, scenario) == TaskStatus.SUCCESS
    return refusal
