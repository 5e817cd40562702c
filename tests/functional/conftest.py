"""What functional tests share: a running vPool service, and that no storage daemon outlives the run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.vpool_service import VpoolService, end_storage_daemons


@pytest.fixture(scope="session", autouse=True)
def _no_daemon_is_left() -> Iterator[None]:
    """The sockets of the run's vPools are in a directory of its own, so that what is left in the end is known."""
    with tempfile.TemporaryDirectory(prefix="ovs-run-") as name, pytest.MonkeyPatch.context() as environment:
        environment.setenv("RUNTIME_DIRECTORY", name)
        yield
        assert end_storage_daemons(Path(name)) == [], "a test left storage daemons"


@pytest.fixture(scope="session")
def vpool_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VpoolService]:
    """A service for the whole run: tests use names of their own in it and leave nothing behind that matters."""
    with VpoolService(tmp_path_factory.mktemp("vpool") / "data") as service:
        yield service
