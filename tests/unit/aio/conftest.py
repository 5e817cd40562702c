"""State directories of these tests."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from openvstorage.aio import paths


@pytest.fixture(autouse=True)
def _own_run_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a state directory with a long name keeps outside of itself goes with the test, too."""
    with tempfile.TemporaryDirectory(prefix="ovs-") as name:  # short: sockets are in it
        monkeypatch.setattr(paths, "_RUN", Path(name))
        yield
