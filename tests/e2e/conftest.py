"""One all-in-one for all end-to-end tests, in a state directory of its own, driven by the public command.

Needs root, Debian, 4 GiB of memory, and on first use the package registries.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).with_name("openvstorage")


@dataclass(frozen=True)
class AllInOne:
    """The command ``openvstorage aio`` for one state directory."""

    state: Path

    @property
    def report(self) -> Path:
        return self.state.with_name(f"{self.state.name}-tour.json")

    def argv(self, *words: str) -> list[str]:
        return [str(COMMAND), "aio", words[0], "--state", str(self.state), *words[1:]]

    def run(self, *words: str, status: int = 0) -> str:
        """Run a subcommand, show what it prints, and insist on its exit status."""
        done = subprocess.run(
            self.argv(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=900
        )
        print(done.stdout, done.stderr)
        assert done.returncode == status, f"{words} ended with {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout + done.stderr

    def up(self, *words: str) -> str:
        return self.run("up", *words)

    def tour(self, *words: str, status: int = 0) -> str:
        return self.run("tour", "--report", str(self.report), *words, status=status)

    def steps(self) -> list[dict[str, Any]]:
        steps: list[dict[str, Any]] = json.loads(self.report.read_text())
        return steps

    def programs(self) -> list[dict[str, Any]]:
        done = subprocess.run(self.argv("status", "--json"), capture_output=True, text=True, check=False)
        programs: list[dict[str, Any]] = json.loads(done.stdout)
        return programs

    def pids(self) -> dict[str, int | None]:
        return {program["name"]: program["pid"] for program in self.programs()}

    def marked(self) -> list[int]:
        """Return the processes that carry the state directory's mark, whoever started them."""
        mark = f"OPENVSTORAGE_AIO_STATE={self.state}".encode()
        found = []
        for entry in os.scandir("/proc"):
            if entry.name.isdigit():
                try:
                    environment = Path(entry.path, "environ").read_bytes()
                except OSError:
                    continue
                if mark in environment.split(b"\0"):
                    found.append(int(entry.name))
        return found


def pytest_addoption(parser: pytest.Parser) -> None:
    words = "rounds in which cinder-volume is killed in the middle of everything; each stops it at other calls"
    parser.addoption("--kills", type=int, default=1, help=words)


@pytest.fixture(scope="session")
def all_in_one() -> Iterator[AllInOne]:
    """An all-in-one brought up from nothing; its logs stay in var/e2e afterwards."""
    all_in_one = AllInOne(ROOT / "var" / "e2e")
    all_in_one.run("down", "--purge")
    all_in_one.up()
    yield all_in_one
    all_in_one.run("down")
