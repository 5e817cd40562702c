"""What crash tests share: a data directory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.crash import kill_daemons


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A data directory; storage daemons that a failed test left are ended."""
    yield tmp_path / "pool"
    kill_daemons(tmp_path / "pool")
