"""What crash tests share: directories whose storage daemons end with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.crash import kill_daemons
from tests.support.disk_room import mounted

from openvstorage.vpool.operations import housekeeping


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data directory; storage daemons that a failed test left are ended."""
    yield tmp_path / "pool"
    kill_daemons(tmp_path / "pool")


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where cases have their directories; storage daemons of a case that failed are ended."""
    monkeypatch.setattr(housekeeping, "SETTLE_SECONDS", 0.0)  # each of many starts and stops would wait for it
    yield tmp_path
    for marker in tmp_path.glob("*/pool.json"):
        kill_daemons(marker.parent)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 48 MiB."""
    with mounted(tmp_path / "small", 48) as path:
        yield path
        kill_daemons(path / "pool")
