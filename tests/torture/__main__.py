"""``python -m tests.torture``: see ``docs/torture.md``."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from tests.torture.driver import run
from tests.torture.report import Report
from tests.torture.settings import Settings


def main() -> int:
    """Run once. :returns: the exit status: 1 if anything was wrong."""
    settings = Settings.parse()
    program = (settings.qemu_dir or Path()) / "qemu-storage-daemon"
    version = subprocess.run([str(program), "--version"], capture_output=True, text=True, check=True).stdout
    told = {key: value if not isinstance(value, Path) else str(value) for key, value in asdict(settings).items()}
    report = Report(settings.output, {**told, "qemu": version.splitlines()[0]})
    print(f"torture: seed {settings.seed}, {settings.seconds:.0f} s, {version.splitlines()[0]}", flush=True)
    try:
        run(settings, report)
    finally:
        path = report.keep()
        report.close()
    report.show(Console())
    print(f"kept: {path}")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
