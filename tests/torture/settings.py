"""What a run is told, and the streams of chance that follow from its seed."""

from __future__ import annotations

import argparse
import random
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Settings"]

ROOT = Path(__file__).resolve().parents[2]

#: Of the vDisks: the pool's default, one of the two, or some of each.
DURABILITIES = ("default", "acknowledged", "flushed", "mixed")


@dataclass(frozen=True)
class Settings:
    """A run.

    :ivar seconds: how long the storm lasts, in all. :ivar round_seconds: after so many everything is verified and
        looked at with nothing running.
    :ivar qemu_dir: where QEMU's programs are; None for the PATH.
    :ivar vdisks: how many there are at most. :ivar mib: size of the largest, when it is made.
    :ivar rate: requests per second of all writers together, at most.
    :ivar actors: how many change vDisks at the same time.
    :ivar tls: whether vDisks are served with TLS.
    :ivar broken: what is broken on purpose, None for nothing.
    """

    seconds: float
    seed: int
    output: Path
    round_seconds: float = 120.0
    qemu_dir: Path | None = None
    vdisks: int = 8
    mib: int = 160
    rate: int = 2000
    actors: int = 3
    tls: bool = False
    kills: bool = True
    management: bool = True
    durability: str = "default"
    broken: str | None = None

    def chance(self, who: str) -> random.Random:
        """:returns: the decisions of one of those who decide."""
        return random.Random(f"{self.seed} {who}")

    @classmethod
    def parse(cls, words: list[str] | None = None) -> Settings:
        """:returns: what the command line says. Exits when it makes no sense."""
        parser = argparse.ArgumentParser(
            prog="python -m tests.torture",
            description="Write to many vDisks of a real vPool service while snapshots, clones, merges, rollbacks and "
            "SIGKILLs go on, and verify every block. Exit status 1: something was wrong.",
        )
        parser.add_argument("--minutes", type=float, help="how long the storm lasts (1)")
        parser.add_argument("--seconds", type=float, help="the same in seconds")
        parser.add_argument("--seed", type=int, help="all decisions follow from it (one of its own)")
        parser.add_argument(
            "--round", type=float, default=120, help="seconds after which all is verified (%(default)s)"
        )
        parser.add_argument("--qemu-dir", type=Path, help="where QEMU's programs are (the PATH)")
        parser.add_argument("--vdisks", type=int, default=8, help="how many at most (%(default)s)")
        parser.add_argument("--mib", type=int, default=160, help="size of the largest vDisk made (%(default)s)")
        parser.add_argument("--rate", type=int, default=2000, help="requests per second at most, in all (%(default)s)")
        parser.add_argument("--tls", action="store_true", help="serve vDisks with TLS")
        parser.add_argument("--no-kills", action="store_true", help="kill neither daemons nor the service")
        parser.add_argument("--no-management", action="store_true", help="writers and kills only")
        parser.add_argument("--durability", choices=DURABILITIES, default="default", help="of the vDisks (%(default)s)")
        parser.add_argument("--break", dest="broken", choices=["zero-race"], help="break the service on purpose")
        parser.add_argument("--output", type=Path, help="where the report goes (a directory of its own in var/torture)")
        asked = parser.parse_args(words)
        seed = int(time.time()) if asked.seed is None else asked.seed
        seconds = asked.seconds or 60 * (asked.minutes or 1)
        stamp = time.strftime("%Y%m%d-%H%M%S")
        return cls(
            seconds=seconds,
            seed=seed,
            output=(asked.output or ROOT / "var" / "torture" / f"{stamp}-{seed}").absolute(),
            round_seconds=asked.round,
            qemu_dir=asked.qemu_dir.absolute() if asked.qemu_dir else None,
            vdisks=asked.vdisks,
            mib=asked.mib,
            rate=asked.rate,
            tls=asked.tls,
            kills=not asked.no_kills,
            management=not asked.no_management,
            durability=asked.durability,
            broken=asked.broken,
        )
