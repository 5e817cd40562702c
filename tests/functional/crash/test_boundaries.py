"""SIGKILL of the service at each boundary of each operation, and what the next start makes of it.

A case is: set a scenario up in a child process, kill the child at the n-th boundary, let the guest write on, kill the
storage daemons too or not, start the vPool again (and kill that start too, or not), and audit. The boundaries are those
that the code declares: a test sees to it that none is missing.

``make test`` runs each boundary in one way or two; with ``CRASH_ALL=1`` in the environment it is all ways, the first
boundaries of the recovery included, on every QEMU at hand.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.audit import audit, calm
from tests.support.crash import Killer, guest_writes, in_child, kill_daemons
from tests.support.crash_acts import break_tool, settled, vdisk
from tests.support.crash_scenarios import GUEST_BLOCK, SCENARIOS, Scenario
from tests.support.crash_world import fits, look
from tests.support.engine import Engine, TaskFailed, engine
from tests.support.qemus import bin_dirs

from openvstorage.vpool.model.export import Grant
from openvstorage.vpool.model.task import Task, TaskStatus
from openvstorage.vpool.operations import housekeeping
from openvstorage.vpool.operations.grants import describe_grant
from openvstorage.vpool.operations.registry import TYPES

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]

ALL = bool(os.environ.get("CRASH_ALL"))
QEMUS = bin_dirs() if ALL else dict(itertools.islice(bin_dirs().items(), 1))
INTRICATE = {"snapshot-online", "group", "extend-online", "merge", "merge-online", "fold", "fold-under-readers"}
STRANGER = "stranger.qcow2"


@dataclass(frozen=True)
class Way:
    """What else happens.

    :ivar daemons: the storage daemons are killed with the service.
    :ivar again: the next start is killed too, at its n-th boundary; None not to.
    """

    daemons: bool
    again: int | None


class Stage:
    """What is there before a scenario: made once, copied for each case. Storage daemons come up with the copy."""

    def __init__(self, scenario: Scenario, directory: Path, qemu: Path) -> None:
        self.scenario = scenario
        self.directory = directory
        self.data = directory / "stage"
        self.settings = {"qemu_dir": str(qemu)}
        self._guest = directory / "guest.json"

    def guest(self) -> dict[str, Any]:
        """:returns: the guest's grant."""
        return dict(json.loads(self._guest.read_text()))

    async def make(self) -> None:
        """Set up."""
        async with engine(self.data, **self.settings) as vpool:
            await calm(vpool)
            vpool.context.tidy = lambda: None  # background work only where the scenario wants it
            await self.scenario.setup(vpool)
            if self.scenario.guest is not None:
                self._guest.write_text(json.dumps(await _guest_grant(vpool, self.scenario.guest)))


class Case:
    """One scenario killed at one boundary in one way, in a directory of its own."""

    def __init__(self, stage: Stage, at: int | None, way: Way) -> None:
        self.stage = stage
        self.scenario = stage.scenario
        self.at = at
        self.way = way
        number = len(list(stage.directory.iterdir()))
        self.data = stage.directory / f"case-{number}"
        self.first = stage.directory / f"case-{number}.first"
        self.second = stage.directory / f"case-{number}.second"
        self.wrote: bool | None = False

    def __str__(self) -> str:
        return f"{self.scenario.name} killed at {self.at} ({self.killed_at()}), {self.way}"

    def killed_at(self) -> str:
        """:returns: the boundary, once it was passed."""
        passed = Killer(frozenset(), None, self.first).passed()
        return passed[-1] if passed and self.at is not None else "no boundary"

    def run(self) -> tuple[list[str], list[str]]:
        """:returns: the boundaries passed in the first life, and in the next ones."""
        shutil.copytree(self.stage.data, self.data)
        killed = in_child(self._live)
        assert killed == (self.at is not None), f"{self}: it was {'not ' * (not killed)}killed"
        (self.data / "layers" / STRANGER).write_bytes(b"of somebody else")
        if self.scenario.guest is not None:
            self.wrote = guest_writes(self.stage.guest(), GUEST_BLOCK)
        if self.way.daemons:
            kill_daemons(self.data)
        if self.way.again is not None:
            in_child(self._come_back)
        asyncio.run(self._look())
        return Killer(frozenset(), None, self.first).passed(), Killer(frozenset(), None, self.second).passed()

    async def _live(self) -> None:
        """The first life: die in the act."""
        types = frozenset(boundary.partition(":")[0] for boundary in self.scenario.boundaries())
        killer = Killer(types, self.at, self.first, armed=self.scenario.act is settled)
        async with engine(self.data, boundary=killer, stop_daemons=False, **self.stage.settings) as vpool:
            await calm(vpool)
            if self.scenario.broken is not None:
                break_tool(vpool, self.scenario.broken)
            killer.armed = True
            try:
                await self.scenario.act(vpool)
            except TaskFailed:
                assert self.scenario.broken is not None

    async def _come_back(self) -> None:
        """The second life: die while recovering."""
        killer = Killer(frozenset({"task", *TYPES}), self.way.again, self.second)
        async with engine(self.data, boundary=killer, stop_daemons=False, **self.stage.settings) as vpool:
            await calm(vpool)

    async def _look(self) -> None:
        killer = Killer(frozenset({"task", *TYPES}), None, self.second)
        async with engine(self.data, boundary=killer, **self.stage.settings) as vpool:
            try:
                await calm(vpool)
                await audit(vpool, {STRANGER: b"of somebody else"})
                killer.armed = False
                status = await _verdict(vpool, self.scenario)
                assert status == TaskStatus.SUCCESS or self.scenario.may_fail, f"the task ended with {status}"
                expected = self.scenario.after if status == TaskStatus.SUCCESS else self.scenario.before
                world = await look(vpool)
                assert fits(world, expected, self.wrote), f"{status}, guest wrote: {self.wrote}\n{world}\n{expected}"
            except AssertionError as error:
                raise AssertionError(f"{self}: {error}") from error


async def _guest_grant(vpool: Engine, name: str) -> dict[str, object]:
    guid = await vdisk(vpool, name)
    async with vpool.db.read() as session:
        query = select(Grant).where(Grant.vdisk_guid == guid, Grant.consumer == "guest")
        return await describe_grant(session, (await session.scalars(query)).one())


async def _verdict(vpool: Engine, scenario: Scenario) -> str:
    """:returns: status of the scenario's task, the last one; SUCCESS for background work."""
    if "task:submitted" not in scenario.boundaries():
        return TaskStatus.SUCCESS
    async with vpool.db.read() as session:
        return str(await session.scalar(select(Task.status).order_by(Task.created_at.desc()).limit(1)))


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where cases have their directories; storage daemons of a case that failed are ended."""
    monkeypatch.setattr(housekeeping, "SETTLE_SECONDS", 0.0)  # each of many starts and stops would wait for it
    yield tmp_path
    for marker in tmp_path.glob("*/pool.json"):
        kill_daemons(marker.parent)


def ways(scenario: Scenario, at: int) -> list[Way]:
    """:returns: the ways in which a boundary is tried: killed once or again, without the daemons or with them.

    Where a daemon's own state and the model change together both ways count; elsewhere they take turns.
    """
    if ALL:
        return [Way(daemons, again) for daemons in (False, True) for again in (None, 0, 1, 2)]
    both = [Way(daemons=False, again=None), Way(daemons=True, again=0)]
    if scenario.name in INTRICATE:
        return both
    if scenario.boundaries()[at] == "task:submitted":
        return []  # nothing has begun: the same for every operation
    return [both[at % 2]]


@pytest.mark.parametrize("qemu", QEMUS.values(), ids=QEMUS.keys())
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_killed_at_any_boundary_the_next_start_makes_it_whole(scenario: Scenario, qemu: Path, directory: Path) -> None:
    stage = Stage(scenario, directory, qemu)
    asyncio.run(stage.make())
    passed, _ = Case(stage, None, Way(daemons=False, again=None)).run()
    assert passed == scenario.boundaries()
    recovered: set[str] = set()
    for at in range(len(passed)):
        for way in ways(scenario, at):
            case = Case(stage, at, way)
            before, after = case.run()
            assert before == passed[: at + 1], f"{case}: it took another way"
            recovered.update(after)
    assert scenario.all_boundaries() - set(passed) <= recovered


def test_no_boundary_is_forgotten() -> None:
    """The code says which boundaries there are; each is one at which some scenario is killed or recovers."""
    declared = {"task:submitted"}
    for type_, operation in TYPES.items():
        declared.add(f"{type_}:begin")
        declared.update(f"{type_}:{step.name}" for step in operation.steps)
        declared.update(f"{type_}:{step.name}:committed" for step in operation.steps if step.commit)
        if operation.steps:
            declared.add(f"{type_}:finish")
        if operation.steps and not operation.forward:
            declared.add(f"{type_}:abort")
    reached = set().union(*(scenario.all_boundaries() for scenario in SCENARIOS))
    assert declared - reached == set()
    assert reached - declared == set(), "a scenario names a boundary that the code does not have"
