"""What is believed of what OpenStack's services tell about themselves."""

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from openvstorage.aio.catalog import host_is_usable, offered_backends

START = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
BEFORE, AFTER = "2026-03-01T11:59:59.900000", "2026-03-01T12:00:04.250000"


def cloud(*, pools: dict[str, Any] | None = None, told: str | None = None) -> Any:
    """Stand for a connection: these pools with their capabilities; a compute service that last told of itself then."""
    listed = [SimpleNamespace(name=name, capabilities=capabilities) for name, capabilities in (pools or {}).items()]
    return SimpleNamespace(
        block_storage=SimpleNamespace(backend_pools=lambda: iter(listed)),
        compute=SimpleNamespace(
            services=lambda binary: iter([SimpleNamespace(updated_at=told)]),
            hypervisors=lambda details: iter([SimpleNamespace(state="up")]),
        ),
        placement=SimpleNamespace(resource_providers=lambda resources: iter(["host"])),
    )


def test_a_pool_that_a_dead_cinder_volume_reported_is_not_offered() -> None:
    pools = {"aio@one#one": {"timestamp": BEFORE}, "aio@two#two": {"timestamp": AFTER}, "aio@three#three": {}}
    assert offered_backends(cloud(pools=pools), START) == ["aio@two#two"]
    assert offered_backends(cloud(pools=pools)) == list(pools)


@pytest.mark.parametrize(("told", "usable"), [(BEFORE, False), (AFTER, True), (None, False)])
def test_a_host_is_usable_once_its_present_service_has_told_of_itself(told: str | None, usable: bool) -> None:
    assert host_is_usable(cloud(told=told), START) is usable
    assert host_is_usable(cloud(told=told))
