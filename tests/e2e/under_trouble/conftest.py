"""The cloud of the other end-to-end tests with two vPools and a third backend, as long as these tests run."""

from collections.abc import Iterator

import pytest
from tests.e2e.conftest import AllInOne
from tests.support.cinder_world import CinderWorld


@pytest.fixture(scope="package")
def world(all_in_one: AllInOne, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CinderWorld]:
    with CinderWorld(all_in_one.state, tmp_path_factory.mktemp("cinder-world")).running() as world:
        yield world
