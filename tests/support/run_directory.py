"""Where state directories of tests keep what they keep outside of themselves."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from openvstorage.aio import paths

__all__ = ["own_run_directory"]


@pytest.fixture(autouse=True)
def own_run_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a state directory with a long name keeps outside of itself goes with the test, too."""
    with tempfile.TemporaryDirectory(prefix="ovs-") as name:  # short: sockets are in it
        monkeypatch.setattr(paths, "_RUN", Path(name))
        yield
