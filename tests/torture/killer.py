"""SIGKILL, at random: storage daemons, the service, both."""

from __future__ import annotations

import signal
import threading
import traceback

from tests.torture.pool import Daemon, Pool
from tests.torture.report import Report
from tests.torture.settings import Settings
from tests.torture.world import World

__all__ = ["Killer"]


class Killer(threading.Thread):
    """Kills until it is told to stop."""

    def __init__(self, pool: Pool, world: World, settings: Settings, report: Report, began: int) -> None:
        super().__init__(name="killer", daemon=True)
        self._pool = pool
        self._world = world
        self._report = report
        self._chance = settings.chance(f"killer of round {began}")
        self.stopping = threading.Event()

    def run(self) -> None:
        """See the class."""
        while not self.stopping.wait(self._chance.uniform(0.5, 4)):
            victim = self._chance.choices(["daemon", "daemons", "service", "service, in order"], [70, 8, 16, 6])[0]
            try:
                self._strike(victim)
            except Exception:  # noqa: BLE001 - a fault of the checker must not pass for a success
                self._report.violated("checker", f"killing {victim}: {traceback.format_exc()}")

    def _strike(self, victim: str) -> None:
        self._report.log("killer", victim)
        if victim.startswith("service"):
            how = signal.SIGTERM if victim.endswith("order") else signal.SIGKILL
            self._pool.restart_service(how)
            self._report.count("kills", "service, SIGTERM" if how == signal.SIGTERM else "service")
            return
        daemons = sorted(self._pool.daemons(), key=lambda daemon: daemon.serves)
        if not daemons:
            return
        for daemon in daemons if victim == "daemons" else [self._chance.choice(daemons)]:
            self._kill(daemon)

    def _kill(self, daemon: Daemon) -> None:
        disk = self._world.of(daemon.serves)
        if disk is not None:
            disk.writer.is_being_killed()
        killed = self._pool.kill(daemon, disk.writer.was_killed if disk is not None else lambda _: None)
        self._report.log("killer", "killed", pid=daemon.pid, serves=disk.name if disk else daemon.serves, killed=killed)
        if killed:
            self._report.count("kills", "daemon of a vDisk" if disk else "daemon of something else")
