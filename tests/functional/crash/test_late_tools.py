"""A tool that is stalled when its service is killed: when it would go on, others have gone on with its file.

Each operation that runs a tool is cut off at it. The next service makes the operation whole, its vDisks are written,
and then the late tool does what it came for, if it lives. ``CRASH_ALL=1`` in the environment makes it each operation in
each way.
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from tests.support.audit import audit, calm
from tests.support.crash import guest_writes, in_child, until
from tests.support.crash_acts import written
from tests.support.crash_case import Stage, verdict
from tests.support.crash_scenarios import SCENARIOS, Scenario
from tests.support.crash_world import Disk, World, fits, look
from tests.support.engine import Engine, engine
from tests.support.late_tool import WAYS, LateTool, path_with
from tests.support.qemus import bin_dirs

from openvstorage.vpool.model.task import TaskStatus

pytestmark = [pytest.mark.crash]

QEMU = next(iter(bin_dirs().values()))
#: Every operation that runs a tool, offline and with a guest.
NAMES = (
    *("create", "clone-snapshot", "template", "clone-volume", "clone-volume-online", "snapshot", "snapshot-online"),
    *("group", "rollback", "extend", "fold", "fold-under-readers"),
)
CHOSEN = [scenario for scenario in SCENARIOS if scenario.name in NAMES]
ALL = bool(os.environ.get("CRASH_ALL"))
CASES = [
    (scenario, way)
    for number, scenario in enumerate(CHOSEN)
    for turn, way in enumerate(WAYS)
    if ALL or number % len(WAYS) == turn
]
#: Nothing but its name keeps one from harm that nobody finds; that is so where a new file is made.
FOUND = ("itself", "child")
#: A block that was written to after the crash; a guest's own stands behind it.
LATER_BLOCK = 2


@pytest.mark.parametrize(("scenario", "way"), CASES, ids=[f"{scenario.name}-{way}" for scenario, way in CASES])
def test_a_tool_that_was_stalled_when_its_service_was_killed_changes_nothing_later(
    scenario: Scenario, way: str, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(scenario, directory, QEMU)
    asyncio.run(stage.make())
    tool = LateTool.make(directory / "tools", QEMU, way)
    try:
        with monkeypatch.context() as patch:
            patch.setenv("PATH", path_with(tool.folder))
            assert in_child(lambda: _die_at_the_tool(stage, tool)), "the operation came to its tool"
        asyncio.run(_go_on(stage, tool, found=way in FOUND or scenario.name == "extend"))
    finally:
        tool.let_go_on()


async def _die_at_the_tool(stage: Stage, tool: LateTool) -> None:
    async with engine(stage.data, stop_daemons=False, qemu_dir=str(tool.folder)) as vpool:

        async def stalled() -> bool:
            return bool(tool.alive())

        async def die() -> None:
            await until(stalled, "a tool stalls")
            os.kill(os.getpid(), signal.SIGKILL)

        dying = asyncio.create_task(die())
        await asyncio.wait({dying, asyncio.create_task(_act(vpool, stage.scenario))})


async def _act(vpool: Engine, scenario: Scenario) -> None:
    await calm(vpool)
    await scenario.act(vpool)
    await calm(vpool)


async def _go_on(stage: Stage, tool: LateTool, *, found: bool) -> None:
    alive: list[int] = []

    async def note(_operation: str, _boundary: str) -> None:
        alive.extend(tool.alive())

    scenario = stage.scenario
    async with engine(stage.data, boundary=note, **stage.settings) as vpool:
        await calm(vpool)
        if found:
            assert not alive, "it has ended before anything was done"
            assert not tool.alive()
        await audit(vpool)
        status = await verdict(vpool, scenario)
        assert status == TaskStatus.SUCCESS or scenario.may_fail
        expected = scenario.after if status == TaskStatus.SUCCESS else scenario.before
        assert fits(await look(vpool), expected, wrote=False)
        for name, disk in expected.disks.items():
            if f"{name}:guest" in expected.grants:
                assert guest_writes(stage.guest(), LATER_BLOCK)
            elif not disk.template and f"{name}:other" not in expected.grants:
                await written(name, LATER_BLOCK, "W")(vpool)
        later = _with_block(expected)
        assert fits(await look(vpool), later, wrote=False)
        await asyncio.to_thread(tool.let_go_on)
        await calm(vpool)
        assert fits(await look(vpool), later, wrote=False), "what was flushed is as it was"
    async with engine(stage.data, **stage.settings) as vpool:
        await calm(vpool)
        await audit(vpool)
        assert fits(await look(vpool), later, wrote=False)


def _with_block(world: World) -> World:
    def after(name: str, disk: Disk) -> Disk:
        if disk.template or f"{name}:other" in world.grants:
            return disk
        return replace(disk, content=disk.content[:LATER_BLOCK] + "W" + disk.content[LATER_BLOCK + 1 :])

    return replace(world, disks={name: after(name, disk) for name, disk in world.disks.items()})
