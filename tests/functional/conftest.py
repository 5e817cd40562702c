"""What functional tests share: a running vPool service."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from tests.support.vpool_service import VpoolService


@pytest.fixture(scope="session")
def vpool_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VpoolService]:
    """A service for the whole run: tests use names of their own in it and leave nothing behind that matters."""
    with VpoolService(tmp_path_factory.mktemp("vpool") / "data") as service:
        yield service
