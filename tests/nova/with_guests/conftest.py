"""Real guests: Nova's libvirt driver, libvirt, QEMU and the vPool service, nothing of them replaced.

The guests have no operating system. An idle one does nothing at all; a writer is a boot sector that writes on.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from nova import conf, context
from nova.tests.unit import fake_instance
from nova.virt import fake
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt import guest as libvirt_guest
from tests.nova.conftest import connection_info_of
from tests.nova.with_guests.world import GIB, World
from tests.support.libvirtd import TREES, Libvirtd, missing
from tests.support.vpool_service import VpoolService

from openvstorage.client import Client, Grant
from openvstorage.nova.registration import DRIVER_VOLUME_TYPE

CLASS = "openvstorage.nova.driver.LibvirtOpenvStorageEdgeVolumeDriver"


@pytest.fixture(scope="session", params=[*TREES, "tls"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """On every libvirt at hand; and once with TLS, on the newest of them. ``tls on system`` is there on request."""
    if reason := missing():
        pytest.skip(reason)
    tls = request.param.startswith("tls")
    certificates = tmp_path_factory.mktemp("certificates") if tls else None
    tree = TREES.get(request.param.removeprefix("tls on "), list(TREES.values())[-1])
    with VpoolService(tmp_path_factory.mktemp("vpool") / "data", edge_tls=tls) as service:
        yield World(tree, service, certificates)


@pytest.fixture(scope="session")
def service(world: World) -> VpoolService:
    return world.service


@pytest.fixture(autouse=True)
def _certificate_of_this_host(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENVSTORAGE_EDGE_TLS_DIR", str(world.certificates(conf.CONF.host)))


@pytest.fixture(scope="session")
def libvirtd(world: World) -> Iterator[Libvirtd]:
    with world.libvirtd(conf.CONF.host) as running:
        yield running


@pytest.fixture(scope="session")
def other_libvirtd(world: World) -> Iterator[Libvirtd]:
    """Another host, ``other-host``; who starts a guest there ends it."""
    with world.libvirtd("other-host") as running:
        yield running


@pytest.fixture(scope="session")
def nova_driver(libvirtd: Libvirtd) -> Iterator[Any]:
    """Nova's libvirt driver with ours registered, its event threads running."""
    conf.CONF.set_override("connection_uri", libvirtd.uri, group="libvirt")
    conf.CONF.set_override("virt_type", "qemu", group="libvirt")
    libvirt_driver.VOLUME_DRIVERS[DRIVER_VOLUME_TYPE] = CLASS
    # There is no database of Nova's.
    with mock.patch.object(libvirt_driver.LibvirtDriver, "_set_host_enabled"):
        made = libvirt_driver.LibvirtDriver(fake.FakeVirtAPI(), False)
        made._host.initialize()
        yield made
    conf.CONF.clear_override("connection_uri", group="libvirt")
    conf.CONF.clear_override("virt_type", group="libvirt")


@pytest.fixture
def make_guest(nova_driver: Any) -> Iterator[Callable[..., Any]]:
    """Start guests with volumes attached, new ones or those of an instance again; gives Nova's guest and instance.

    With a file for its console it is one that has room for Linux. On ``connection``, the libvirt of another host, it is
    the caller's to end.
    """
    started: set[str] = set()

    def make(
        *connection_infos: dict[str, Any], instance: Any = None, console: Path | None = None, connection: Any = None
    ) -> tuple[Any, Any]:
        instance = instance or fake_instance.fake_instance_obj(
            context.get_admin_context(), uuid=str(uuid.uuid4()), host=conf.CONF.host, expected_attrs=["system_metadata"]
        )
        devices = []
        for number, connection_info in enumerate(connection_infos):
            ours = nova_driver._get_volume_driver(connection_info)
            ours.connect_volume(connection_info, instance)
            disk = ours.get_config(connection_info, {"bus": "virtio", "dev": f"vd{'abc'[number]}", "type": "disk"})
            # The BIOS knows only disks that it may boot from.
            disk.boot_order = str(number + 1)
            devices.append(disk.to_xml())
        if console is not None:
            devices.append(f'<serial type="file"><source path="{console}"/></serial>')
        # Without an iothread on guests of Nova 30, as there.
        iothreads = "<iothreads>1</iothreads>" if hasattr(nova_driver, "_get_guest_iothread") else ""
        xml = f"""
            <domain type="qemu"><name>guest-{instance.uuid[:8]}</name><uuid>{instance.uuid}</uuid>
            <memory unit="MiB">{64 if console is None else 192}</memory><vcpu>1</vcpu>{iothreads}
            <os><type arch="x86_64" machine="pc">hvm</type></os><features><acpi/></features>
            <devices><controller type="scsi" index="0" model="virtio-scsi"/>{"".join(devices)}</devices></domain>"""
        if connection is not None:
            return libvirt_guest.Guest(connection.createXML(xml)), instance
        domain = nova_driver._host.get_connection().defineXML(xml)
        started.add(instance.uuid)
        domain.create()
        return libvirt_guest.Guest(domain), instance

    yield make
    for domain in nova_driver._host.get_connection().listAllDomains():
        if domain.UUIDString() in started:
            if domain.isActive():
                domain.destroy()
            domain.undefine()


@pytest.fixture
def make_volume(world: World, client: Client) -> Callable[..., tuple[Grant, dict[str, Any]]]:
    """Make a vDisk and attach it to a host, by default this one; gives its grant and connection_info."""
    status = world.service.status

    def make(
        boot_sector: bytes = b"", host: str = conf.CONF.host, *, shared: bool = False
    ) -> tuple[Grant, dict[str, Any]]:
        vdisk = client.vdisks.create(f"volume-{uuid.uuid4()}", GIB, status["vpool_guid"])
        grant = client.grants.create(vdisk, host, f"instance on {host}", shared=shared)
        if boot_sector:
            with world.open(grant) as nbd:
                nbd.write(0, boot_sector)
                nbd.flush()
        info = connection_info_of(grant, *world.place())
        return grant, info

    return make
