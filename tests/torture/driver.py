"""A run: rounds of storm and rest. In a storm everybody acts at random; then all is verified, and what is left with
nothing running is looked at."""

from __future__ import annotations

import shutil
import time
import traceback

from tests.torture import vdisk_acts
from tests.torture.actor import Actor
from tests.torture.calls import Calls
from tests.torture.killer import Killer
from tests.torture.pool import Pool
from tests.torture.report import Report
from tests.torture.rest import calm_down, look
from tests.torture.settings import Settings
from tests.torture.steward import Steward
from tests.torture.world import World

__all__ = ["run"]

#: An actor waits for the API at most so long, for each of a few calls.
_ACTOR_SECONDS = 1800.0
_KILLER_SECONDS = 600.0


def run(settings: Settings, report: Report) -> None:
    """Run. Blocks. What is wrong is in the report afterwards; the data directory stays if something is."""
    report.log("driver", "begin", **report.settings)
    with Pool(settings, settings.output) as pool:
        steward = Steward(settings, World(settings, report), Calls(pool, report))
        left, turn = settings.seconds, 0
        try:
            while left > 0:
                turn += 1
                _storm(steward, turn, min(left, settings.round_seconds))
                left -= settings.round_seconds
                _rest(steward, last=left <= 0)
                report.count("rounds", "all verified")
                report.keep()
        except Exception:  # noqa: BLE001 - a fault of the checker must not pass for a success
            report.violated("checker", traceback.format_exc())
        for disk in steward.world.disks():
            disk.writer.end()
            disk.writer.join(60)
    if not report.violations:
        shutil.rmtree(pool.data)


def _storm(steward: Steward, turn: int, seconds: float) -> None:
    """Everybody acts at random for a while."""
    settings, world, report = steward.settings, steward.world, steward.report
    while len(world.disks()) < max(1, settings.vdisks * 2 // 3):
        vdisk_acts.create(steward, settings.chance(f"round {turn}, vDisk {len(world.disks())}"))
    actors = [Actor(number, steward, turn) for number in range(settings.actors)] if settings.management else []
    killers = [Killer(steward.pool, world, settings, report, turn)] if settings.kills else []
    threads = (*actors, *killers)
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    for thread in threads:
        thread.stopping.set()
    for killer in killers:
        killer.join(_KILLER_SECONDS)
        if killer.is_alive():
            report.violated("hang", f"the killer waits for more than {_KILLER_SECONDS:.0f} s")
    for actor in actors:
        actor.join(_ACTOR_SECONDS)
        if actor.is_alive():
            report.violated("hang", f"{actor.name} waits for more than {_ACTOR_SECONDS:.0f} s: {actor.doing}")


def _rest(steward: Steward, *, last: bool) -> None:
    """Verify everything, then look at what is left with nothing running, then go on."""
    world, pool, report = steward.world, steward.pool, steward.report
    report.log("driver", "verify everything")
    steward.verifier.everything(world)
    for disk in world.disks():
        steward.detach(disk)
    calm_down(pool, report)
    report.log("driver", "look at what is left")
    with pool.stopped(again=not last):
        look(pool, world, report)
    if not last:
        for disk in world.disks():
            disk.writer.quiet(False)
            steward.attach(disk)
