"""Who acts at random: a thread that takes some vDisks and does something with them, again and again."""

from __future__ import annotations

import random
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from tests.torture import reading_acts, snapshot_acts, vdisk_acts
from tests.torture.steward import Steward
from tests.torture.world import Disk

__all__ = ["Actor"]


@dataclass(frozen=True)
class Act:
    """An action on one vDisk. :ivar weight: how often it comes, in relation to the others."""

    name: str
    weight: int
    on: Callable[[Steward, random.Random, Disk], None]


ACTS = (
    Act("snapshot", 20, snapshot_acts.snapshot),
    Act("delete snapshots", 10, snapshot_acts.delete_some),
    Act("clone", 7, vdisk_acts.clone),
    Act("rollback", 5, vdisk_acts.rollback),
    Act("extend", 5, vdisk_acts.extend),
    Act("delete", 4, vdisk_acts.delete),
    Act("revoke", 6, vdisk_acts.revoke),
    Act("restart", 3, vdisk_acts.restart),
    Act("qos", 4, vdisk_acts.qos),
    Act("verify snapshot", 6, reading_acts.verify_snapshot),
    Act("verify", 4, reading_acts.verify),
    Act("read-only", 6, reading_acts.read_only),
)
CREATE, GROUP = 5, 8


class Actor(threading.Thread):
    """Acts until it is told to stop.

    :param turn: number of the round, of which its decisions are.
    :ivar doing: what it does, for whoever waits for it in vain.
    """

    def __init__(self, number: int, steward: Steward, turn: int) -> None:
        super().__init__(name=f"actor-{number}", daemon=True)
        self._steward = steward
        self._chance = steward.settings.chance(f"actor {number} of round {turn}")
        self.stopping = threading.Event()
        self.doing = "nothing"

    def run(self) -> None:
        """See the class."""
        while not self.stopping.wait(self._chance.uniform(0, 0.4)):
            try:
                self._act()
            except Exception:  # noqa: BLE001 - a fault of the checker must not pass for a success
                self._steward.report.violated("checker", f"{self.doing}: {traceback.format_exc()}")

    def _act(self) -> None:
        chance, steward = self._chance, self._steward
        act = chance.choices([*ACTS, None, ...], [*(act.weight for act in ACTS), CREATE, GROUP])[0]
        if act is None:
            self._tell("create", [])
            vdisk_acts.create(steward, chance)
        else:
            with steward.world.some(chance, 1 if isinstance(act, Act) else chance.randint(2, 4)) as disks:
                self._tell(act.name if isinstance(act, Act) else "group snapshot", disks)
                if not isinstance(act, Act):
                    snapshot_acts.group(steward, chance, disks)
                elif disks:
                    act.on(steward, chance, disks[0])
        steward.report.log(self.name, f"{self.doing}: done")

    def _tell(self, what: str, disks: list[Disk]) -> None:
        self.doing = " ".join([what, *(disk.name for disk in disks)])
        self._steward.report.log(self.name, self.doing)
