"""Nova's own libvirt host and configuration around the driver; the vPool service is a real one.

These tests run in an environment that has Nova and our wheel only: ``python tests/support/nova_env.py``.
"""

from __future__ import annotations

from nova import monkey_patch

# First of all, as in nova-compute of the release at hand. Older ones patch by the import itself.
if hasattr(monkey_patch, "patch"):
    monkey_patch.patch()

from tests.support import libvirtd

if libvirtd.missing() is None:
    libvirtd.bindings()

import os
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from nova import conf, objects
from nova.tests import fixtures as nova_fixtures
from nova.virt.libvirt import host as libvirt_host
from tests.support.service_fixtures import client, service
from tests.support.vpool_service import VpoolService

from openvstorage.client import Client, Grant
from openvstorage.nova.driver import LibvirtOpenvStorageEdgeVolumeDriver

__all__ = ["client", "service"]

objects.register_all()
conf.CONF([], project="nova", default_config_files=[])

GIB = 1024**3


@pytest.fixture
def grant(client: Client, service: VpoolService) -> Grant:
    vdisk = client.vdisks.create(f"volume-{uuid.uuid4()}", GIB, service.status["vpool_guid"])
    return client.grants.create(vdisk, "compute1", "instance-1")


@pytest.fixture
def connection_info(service: VpoolService, grant: Grant) -> dict[str, Any]:
    """What our Cinder driver and Cinder answer, as Nova keeps it."""
    status = service.status
    return connection_info_of(grant, status["management_ips"], status["port"], status["ca_file"])


def connection_info_of(grant: Grant, addresses: list[str], port: int, ca_file: str) -> dict[str, Any]:
    volume_id = str(uuid.uuid4())
    data = {
        "volume_id": volume_id,
        "vdisk": grant.vdisk_guid,
        "discard": True,
        "protocol": "nbd",
        "name": grant.export_name,
        "hosts": [grant.host],
        "ports": [str(grant.port)],
        "transport": "tcp",
        "tls": grant.tls,
        "grant": grant.guid,
        "secret": grant.secret,
        "resolvers": [f"https://{address}:{port}" for address in addresses],
        "ca": Path(ca_file).read_text(),
        "access_mode": "rw",
        "encrypted": False,
        "qos_specs": None,
    }
    return {"driver_volume_type": "openvstorage_edge", "data": data, "serial": volume_id, "status": "attached"}


@pytest.fixture
def fake_libvirt() -> Iterator[None]:
    """Nova's stand-in for libvirt, for what does not depend on it."""
    with nova_fixtures.LibvirtFixture():
        yield


@pytest.fixture
def driver(fake_libvirt: None) -> LibvirtOpenvStorageEdgeVolumeDriver:
    return LibvirtOpenvStorageEdgeVolumeDriver(libvirt_host.Host("qemu:///system"))


@pytest.fixture
def instance() -> Any:
    """An instance that is about to be made on this host."""
    name = str(uuid.uuid4())
    return SimpleNamespace(uuid=name, name=f"instance-{name[:8]}", host=conf.CONF.host)


@pytest.fixture
def disk_info() -> dict[str, str]:
    return {"bus": "virtio", "dev": "vdb", "type": "disk"}


_status = 0


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    global _status
    _status = int(exitstatus)


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """End the process although Nova's event threads, which have no end, are still there."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(_status)
