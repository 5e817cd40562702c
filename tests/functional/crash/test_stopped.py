"""A service that is stopped while operations hang: they are cut off, and the next start makes them whole.

The stop itself waits for them only so long. ``CRASH_ALL=1`` in the environment makes it each task at each boundary.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from tests.support.crash_case import Case, Stage, Way
from tests.support.crash_scenarios import SCENARIOS, Scenario
from tests.support.qemus import bin_dirs

from openvstorage.vpool.operations import tasks

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]

ALL = bool(os.environ.get("CRASH_ALL"))
QEMU = next(iter(bin_dirs().values()))
CHOSEN = (
    *("clone-volume-online", "snapshot-online", "group", "snapshots-of-many", "rollback", "extend-online"),
    *("delete-forced", "grant-first", "revoke-last", "restart"),
)
TASKS = [scenario for scenario in SCENARIOS if "task:submitted" in scenario.boundaries() and not scenario.broken]


@pytest.mark.parametrize(
    "scenario", [each for each in TASKS if ALL or each.name in CHOSEN], ids=lambda scenario: scenario.name
)
def test_what_a_stop_cuts_off_the_next_start_makes_whole(
    scenario: Scenario, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "CLOSE_SECONDS", 0.0)
    stage = Stage(scenario, directory, QEMU)
    asyncio.run(stage.make())
    boundaries = scenario.boundaries()
    middle = len(boundaries) // 2
    for at in range(1, len(boundaries)) if ALL else (middle, middle + 1):  # at 0 nobody runs it yet
        case = Case(stage, at, Way(daemons=False, again=None, stopped=True))
        before, _ = case.run()
        assert before == boundaries[: at + 1], f"{case}: it took another way"
