"""A real vPool service, and what our Cinder driver answers for a volume on it.

These tests run where os-brick is: in the environments of ``tests/support/nova_env.py`` and ``cinder_env.py``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.vpool_service import VpoolService

from openvstorage.client import Client, Grant

GIB = 1024**3


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VpoolService]:
    with VpoolService(tmp_path_factory.mktemp("vpool") / "data") as running:
        yield running


@pytest.fixture
def client(service: VpoolService) -> Iterator[Client]:
    with Client.from_status(service.status) as client:
        yield client


@pytest.fixture
def vdisk(client: Client, service: VpoolService) -> str:
    return client.vdisks.create(f"volume-{uuid.uuid4()}", GIB, service.status["vpool_guid"])


@pytest.fixture
def properties(service: VpoolService, client: Client, vdisk: str) -> dict[str, Any]:
    return properties_of(service, client.grants.create(vdisk, "host1", "host-host1"))


def properties_of(service: VpoolService, grant: Grant) -> dict[str, Any]:
    status = service.status
    return {
        "protocol": "nbd",
        "name": grant.export_name,
        "hosts": [grant.host],
        "ports": [str(grant.port)],
        "tls": grant.tls,
        "grant": grant.guid,
        "secret": grant.secret,
        "resolvers": [f"https://{address}:{status['port']}" for address in status["management_ips"]],
        "ca": Path(status["ca_file"]).read_text(),
    }
