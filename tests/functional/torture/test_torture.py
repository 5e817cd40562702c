"""A minute of ``make torture``: every block of every vDisk and snapshot is what was written, whatever was killed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
SEED = 20261126
#: On a busy machine everything takes its time; the run has deadlines of its own for whatever it waits for.
DEADLINE_SECONDS = 900


def torture(output: Path, *options: str) -> tuple[int, dict[str, Any], str]:
    """:returns: exit status, report, and what was said."""
    command = [sys.executable, "-m", "tests.torture", "--seed", str(SEED), "--output", str(output), *options]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE_SECONDS, check=False)
    return ended.returncode, json.loads((output / "report.json").read_text()), ended.stdout + ended.stderr


@pytest.mark.crash
@pytest.mark.timeout(DEADLINE_SECONDS + 60)
def test_everything_that_was_written_is_there_after_a_minute_of_changes_and_kills(tmp_path: Path) -> None:
    status, report, said = torture(tmp_path / "run", "--seconds", "40", "--vdisks", "4", "--mib", "48")
    assert status == 0, said
    counts = report["counts"]
    assert not report["violations"], said
    assert counts["kills"].get("daemon of a vDisk", 0) > 0, "nothing was killed"
    assert counts["blocks compared"]["vDisks, whole"] > 0
    assert counts["requests"]["write"] > 100
    assert counts["at rest"]["layers checked"] > 0
    assert not (tmp_path / "run" / "data").exists(), "a clean run removes its data"
