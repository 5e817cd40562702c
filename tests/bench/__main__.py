"""``python -m tests.bench``: measure a real vPool service through the library, and keep the figures."""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import clients, depth, durability, report, scale, sizes, tls
from tests.bench.figures import Results

ROOT = Path(__file__).resolve().parents[2]
MIB, GIB = 1024**2, 1024**3


def main() -> None:
    """Run the chapters asked for. The exit status is 0 whether or not targets are met, unless something errs."""
    asked = _arguments()
    chance = random.Random(asked.seed)
    about = _about(asked)
    output: Path = asked.output
    output.mkdir(parents=True, exist_ok=True)
    results = Results()
    work = Path(tempfile.mkdtemp(prefix="work-", dir=output))
    try:
        for name, chapter in _chapters(asked, work, chance).items():
            if asked.only and name not in asked.only:
                continue
            print(f"{name} ...", flush=True)
            started = time.monotonic()
            results.extend(chapter())
            # at once: a later chapter may err, or the run be ended
            about["load at the end"] = _load()
            report.keep(results, about, output)
            print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    finally:
        shutil.rmtree(work)
    print()
    print(report.as_markdown(results, about))
    print(f"kept in {output}: bench.json, bench.md, bench.png")


def _chapters(asked: argparse.Namespace, work: Path, chance: random.Random) -> dict[str, Callable[[], Results]]:
    quick: bool = asked.quick
    return {
        "scale": lambda: scale.measure(
            work, few=10, many=asked.vdisks, rounds=10 if quick else asked.rounds, chance=chance
        ),
        "sizes": lambda: sizes.measure(work, rounds=5 if quick else asked.rounds // 2, chance=chance),
        "clients": lambda: clients.measure(work, clients=20, rounds=1 if quick else 5),
        "depth": lambda: depth.measure(
            work,
            snapshots=20 if quick else 100,
            size=(128 if quick else 1024) * MIB,
            rounds=3 if quick else 20,
            seconds=2,
        ),
        "large": lambda: depth.measure_large(
            work, snapshots=15 if quick else 63, size=(16 if quick else 128) * GIB, rounds=3 if quick else 10, seconds=2
        ),
        "durability": lambda: durability.measure(
            work, size=(256 if quick else 1024) * MIB, rounds=2 if quick else 7, seconds=1 if quick else 3
        ),
        "tls": lambda: tls.measure(work, size=(64 if quick else 512) * MIB, rounds=3 if quick else 15),
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples and little data, to see that it runs")
    chapters = ["scale", "sizes", "clients", "depth", "large", "durability", "tls"]
    parser.add_argument("--only", action="append", choices=chapters, help="this chapter")
    parser.add_argument("--vdisks", type=int, default=10_000, help="how many the large pool has (%(default)s)")
    parser.add_argument("--rounds", type=int, default=60, help="samples of each call on each side (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="what is left to chance follows from it (%(default)s)")
    parser.add_argument("--output", type=Path, default=ROOT / "var" / "bench", help="where figures are kept")
    return parser.parse_args()


def _about(asked: argparse.Namespace) -> dict[str, Any]:
    return {
        "taken": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": _said_by("git", "-C", str(ROOT), "describe", "--always", "--dirty"),
        "short run": "yes" if asked.quick else "no",
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "Python": platform.python_version(),
        "QEMU": _said_by("qemu-storage-daemon", "--version").splitlines()[0],
        "load at the start": _load(),
    }


def _said_by(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _load() -> str:
    return " ".join(f"{value:.1f}" for value in os.getloadavg())


if __name__ == "__main__":
    main()
