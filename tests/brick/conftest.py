"""A real vPool service, and what our Cinder driver answers for a volume on it.

These tests run where os-brick is: in the environments of ``tests/support/nova_env.py`` and ``cinder_env.py``.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from tests.support.service_fixtures import client, service
from tests.support.vpool_service import VpoolService

from openvstorage.client import Client, Grant

__all__ = ["client", "service"]

GIB = 1024**3


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
