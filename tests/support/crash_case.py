"""A scenario whose service ends at one boundary in one way, and what the next start makes of it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from tests.support.audit import audit, calm
from tests.support.crash import Hanger, Killer, guest_writes, in_child, kill_daemons
from tests.support.crash_acts import break_tool, settled, vdisk
from tests.support.crash_scenarios import GUEST_BLOCK, Scenario
from tests.support.crash_world import fits, look
from tests.support.engine import Engine, TaskFailed, engine

from openvstorage.vpool.model.export import Grant
from openvstorage.vpool.model.task import Task, TaskStatus
from openvstorage.vpool.operations.errors import ServiceStops
from openvstorage.vpool.operations.grants import describe_grant
from openvstorage.vpool.operations.registry import TYPES

__all__ = ["Case", "Stage", "Way", "verdict"]

STRANGER = "stranger.qcow2"


@dataclass(frozen=True)
class Way:
    """What else happens.

    :ivar daemons: the storage daemons are killed with the service.
    :ivar again: the next start is killed too, at its n-th boundary; None not to.
    :ivar stopped: the service is not killed but stopped, while the operation hangs at the boundary.
    """

    daemons: bool
    again: int | None
    stopped: bool = False


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
        if self.way.stopped:
            asyncio.run(self._live_until_stopped())
        else:
            self._live_in_child()
        (self.data / "layers" / STRANGER).write_bytes(b"of somebody else")
        if self.scenario.guest is not None:
            self.wrote = guest_writes(self.stage.guest(), GUEST_BLOCK)
        if self.way.daemons:
            kill_daemons(self.data)
        if self.way.again is not None:
            in_child(self._come_back)
        asyncio.run(self._look())
        return Killer(frozenset(), None, self.first).passed(), Killer(frozenset(), None, self.second).passed()

    def _live_in_child(self) -> None:
        killed = in_child(self._live)
        assert killed == (self.at is not None), f"{self}: it was {'not ' * (not killed)}killed"

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

    async def _live_until_stopped(self) -> None:
        """The first life: a stop that waits in vain for the act to come to an end."""
        types = frozenset(boundary.partition(":")[0] for boundary in self.scenario.boundaries())
        hanger = Hanger(types, self.at, self.first, armed=False)
        async with engine(self.data, boundary=hanger, stop_daemons=False, **self.stage.settings) as vpool:
            await calm(vpool)
            hanger.armed = True
            act = asyncio.create_task(self.scenario.act(vpool))
            await hanger.reached.wait()
            vpool.operations.stop_waiting()
            # Not where its result was committed before the boundary.
            with contextlib.suppress(ServiceStops):
                await act

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
                status = await verdict(vpool, self.scenario)
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


async def verdict(vpool: Engine, scenario: Scenario) -> str:
    """:returns: status of the scenario's task, the last one; SUCCESS for background work."""
    if "task:submitted" not in scenario.boundaries():
        return TaskStatus.SUCCESS
    async with vpool.db.read() as session:
        return str(await session.scalar(select(Task.status).order_by(Task.created_at.desc()).limit(1)))
