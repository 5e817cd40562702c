"""A real vPool service for the tests of a run, and the library as its client."""

from collections.abc import Iterator

import pytest
from tests.support.vpool_service import VpoolService

from openvstorage.client import Client

__all__ = ["client", "service"]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VpoolService]:
    with VpoolService(tmp_path_factory.mktemp("vpool") / "data") as running:
        yield running


@pytest.fixture
def client(service: VpoolService) -> Iterator[Client]:
    with Client.from_status(service.status) as client:
        yield client
