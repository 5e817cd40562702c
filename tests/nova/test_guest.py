"""Real guests: Nova's libvirt driver, libvirt, QEMU and the vPool service, nothing of them replaced.

The guests have no operating system. An idle one does nothing at all; a writer is a boot sector that writes on.
"""

from __future__ import annotations

import os
import signal
import struct
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from lxml import etree
from nova import conf, context, exception, objects
from nova.compute import power_state
from nova.tests.unit import fake_instance
from nova.virt import fake
from nova.virt.libvirt import driver as libvirt_driver
from nova.virt.libvirt import guest as libvirt_guest
from nova.virt.libvirt import migration
from tests.nova.conftest import connection_info_of
from tests.support.libvirtd import TREES, WRITER, Libvirtd, missing
from tests.support.vpool_service import VpoolService

from openvstorage.client import Client, Grant
from openvstorage.edge.errors import ExportRefused, TlsFailed
from openvstorage.edge.nbd import NbdClient
from openvstorage.edge.tls import client_context
from openvstorage.nova.registration import DRIVER_VOLUME_TYPE
from openvstorage.nova.resume import Resumer, is_paused_by_an_error

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

MIB = 1024**2
GIB = 1024**3
CLASS = "openvstorage.nova.driver.LibvirtOpenvStorageEdgeVolumeDriver"


class World:
    """A vPool service, and hosts with a libvirt of one kind.

    :ivar tree: where libvirt and QEMU are.
    """

    def __init__(self, tree: Path, service: VpoolService, certificates: Path | None) -> None:
        self.tree, self.service, self._certificates = tree, service, certificates

    def certificates(self, host: str) -> Path | None:
        """Give the directory of a host's certificate, None where there is no TLS."""
        if self._certificates is None:
            return None
        directory = self._certificates / host
        if not directory.exists():
            self.service.enroll(host, directory)
        return directory

    def libvirtd(self, host: str) -> Libvirtd:
        return Libvirtd(self.tree, self.certificates(host))

    def open(self, grant: Grant) -> NbdClient:
        """Open a volume past the guest, as the host that holds the grant."""
        directory = self.certificates(grant.client)
        tls = client_context(directory) if directory is not None else None
        return NbdClient.connect(grant.host, grant.port, grant.export_name, tls=tls)


@pytest.fixture(scope="module", params=[*TREES, "tls"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """On every libvirt at hand; and once with TLS, on the newest of them."""
    tls = request.param == "tls"
    certificates = tmp_path_factory.mktemp("certificates") if tls else None
    tree = TREES.get(request.param, list(TREES.values())[-1])
    with VpoolService(tmp_path_factory.mktemp("vpool") / "data", edge_tls=tls) as service:
        yield World(tree, service, certificates)


@pytest.fixture(scope="module")
def service(world: World) -> VpoolService:
    return world.service


@pytest.fixture(autouse=True)
def _certificate_of_this_host(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENVSTORAGE_EDGE_TLS_DIR", str(world.certificates(conf.CONF.host)))


@pytest.fixture(scope="module")
def libvirtd(world: World) -> Iterator[Libvirtd]:
    with world.libvirtd(conf.CONF.host) as running:
        yield running


@pytest.fixture(scope="module")
def nova_driver(libvirtd: Libvirtd) -> Iterator[Any]:
    """Nova's libvirt driver with ours registered, its event threads running."""
    conf.CONF.set_override("connection_uri", libvirtd.uri, group="libvirt")
    conf.CONF.set_override("virt_type", "qemu", group="libvirt")
    libvirt_driver.VOLUME_DRIVERS[DRIVER_VOLUME_TYPE] = CLASS
    # There is no database of Nova's; and what the thread looks at, the tests ask for themselves.
    unneeded = [
        mock.patch.object(libvirt_driver.LibvirtDriver, "_set_host_enabled"),
        mock.patch.object(Resumer, "start"),
    ]
    with unneeded[0], unneeded[1]:
        made = libvirt_driver.LibvirtDriver(fake.FakeVirtAPI(), False)
        made._host.initialize()
        yield made
    conf.CONF.clear_override("connection_uri", group="libvirt")
    conf.CONF.clear_override("virt_type", group="libvirt")


@pytest.fixture
def make_guest(nova_driver: Any) -> Iterator[Callable[..., Any]]:
    """Start guests with a volume attached; gives Nova's guest and instance."""
    started = []

    def make(*connection_infos: dict[str, Any]) -> tuple[Any, Any]:
        instance = fake_instance.fake_instance_obj(
            context.get_admin_context(), uuid=str(uuid.uuid4()), host=conf.CONF.host, expected_attrs=["system_metadata"]
        )
        devices = []
        for letter, connection_info in zip("abc", connection_infos, strict=False):
            ours = nova_driver._get_volume_driver(connection_info)
            ours.connect_volume(connection_info, instance)
            disk_info = {"bus": "virtio", "dev": f"vd{letter}", "type": "disk"}
            devices.append(ours.get_config(connection_info, disk_info).to_xml())
        # Without an iothread on guests of Nova 30, as there.
        iothreads = "<iothreads>1</iothreads>" if hasattr(nova_driver, "_get_guest_iothread") else ""
        xml = f"""
            <domain type="qemu"><name>guest-{instance.uuid[:8]}</name><uuid>{instance.uuid}</uuid>
            <memory unit="MiB">64</memory><vcpu>1</vcpu>{iothreads}
            <os><type arch="x86_64" machine="pc">hvm</type><boot dev="hd"/></os><features><acpi/></features>
            <devices><controller type="scsi" index="0" model="virtio-scsi"/>{"".join(devices)}</devices></domain>"""
        domain = nova_driver._host.get_connection().defineXML(xml)
        started.append(domain)
        domain.create()
        return nova_driver._host.get_guest(instance), instance

    yield make
    for domain in started:
        if domain.isActive():
            domain.destroy()
        domain.undefine()


@pytest.fixture
def make_volume(world: World, client: Client) -> Callable[..., tuple[Grant, dict[str, Any]]]:
    """Make a vDisk and attach it to this host; gives its grant and connection_info."""
    status = world.service.status

    def make(boot_sector: bytes = b"") -> tuple[Grant, dict[str, Any]]:
        vdisk = client.vdisks.create(f"volume-{uuid.uuid4()}", GIB, status["vpool_guid"])
        grant = client.grants.create(vdisk, conf.CONF.host, "instance-1")
        if boot_sector:
            with world.open(grant) as nbd:
                nbd.write(0, boot_sector)
                nbd.flush()
        info = connection_info_of(grant, status["management_ips"], status["port"], status["ca_file"])
        return grant, info

    return make


class Written:
    """What a writer has written, read past the guest."""

    def __init__(self, world: World, grant: Grant) -> None:
        self._world, self._grant = world, grant

    def look(self) -> tuple[int, int, int]:
        """Give the highest number written, the errors that the writer has seen, and acknowledged writes missing."""
        with self._world.open(self._grant) as nbd:
            data = nbd.read(64 * 512, 65536 * 512)
        records = {}
        for place in range(65536):
            number, errors = struct.unpack_from("<II", data, place * 512)
            if number:
                assert number % 65536 == place
                records[number] = errors
        last = max(records, default=0)
        lost = [number for number in range(max(1, last - 65535 + 1), last) if number not in records]
        # The oldest ones are being overwritten while they are read.
        lost = [number for number in lost if number > last - 60000]
        return last, max(records.values(), default=0), len(lost)

    def wait_for_more(self, than: int = 0, by: int = 50) -> int:
        """Return the number of the last write once there are so many more."""
        return eventually(lambda: (found := self.look()[0]) > than + by and found)

    def assert_nothing_went_wrong(self) -> None:
        last, errors, lost = self.look()
        assert last > 0
        assert (errors, lost) == (0, 0)


def eventually(condition: Callable[[], Any], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)
    return value


def capacity(guest: Any, device: str) -> int:
    return int(guest._domain.blockInfo(device)[0])


def state(guest: Any, nova_driver: Any) -> int:
    return int(guest.get_power_state(nova_driver._host))


def grow(client: Client, nova_driver: Any, grant: Grant, info: dict[str, Any], instance: Any, size: int) -> None:
    """As Cinder does it and then Nova."""
    client.vdisks.extend(grant.vdisk_guid, size)
    nova_driver.extend_volume(context.get_admin_context(), info, instance, size)


def test_nova_attaches_extends_and_detaches(world, nova_driver, make_guest, make_volume, client) -> None:
    guest, instance = make_guest()
    grant, info = make_volume()
    admin = context.get_admin_context()
    with (
        mock.patch.object(instance, "save"),
        mock.patch.object(nova_driver, "_build_device_metadata", return_value=None),
    ):
        # SCSI, because a guest without an operating system does not let go of PCI devices.
        nova_driver.attach_volume(admin, info, instance, "/dev/sda", disk_bus="scsi", device_type="disk")
        (disk,) = etree.fromstring(guest.get_xml_desc()).findall("devices/disk")
        assert disk.find("source").get("name") == grant.export_name
        assert disk.findtext("serial") == info["serial"]
        assert disk.find("driver").get("error_policy") == "stop"
        assert connections(grant.port) == 1
        grow(client, nova_driver, grant, info, instance, 2 * GIB)
        assert capacity(guest, "sda") == 2 * GIB
        nova_driver.detach_volume(admin, info, instance, "/dev/sda")
    assert etree.fromstring(guest.get_xml_desc()).findall("devices/disk") == []
    eventually(lambda: connections(grant.port) == 0)


def test_idle_guest_is_extended(world, nova_driver, make_guest, make_volume, client) -> None:
    grant, info = make_volume()
    guest, instance = make_guest(info)
    for size in (2, 3, 4):
        grow(client, nova_driver, grant, info, instance, size * GIB)
        assert capacity(guest, "vda") == size * GIB
        assert state(guest, nova_driver) == power_state.RUNNING
    info["data"]["encrypted"] = True
    with pytest.raises(exception.VolumeExtendFailed, match="encrypted"):
        grow(client, nova_driver, grant, info, instance, 5 * GIB)
    assert state(guest, nova_driver) == power_state.RUNNING


def test_writing_guest_is_extended_without_an_error(world, nova_driver, make_guest, make_volume, client) -> None:
    grant, info = make_volume(WRITER)
    guest, instance = make_guest(info)
    written = Written(world, grant)
    last = written.wait_for_more()
    for size in (2, 3, 4):
        grow(client, nova_driver, grant, info, instance, size * GIB)
        assert capacity(guest, "vda") == size * GIB
        last = written.wait_for_more(last)
    assert state(guest, nova_driver) == power_state.RUNNING
    written.assert_nothing_went_wrong()


def test_guest_paused_by_its_user_is_extended(world, nova_driver, make_guest, make_volume, client) -> None:
    grant, info = make_volume(WRITER)
    guest, instance = make_guest(info)
    written = Written(world, grant)
    written.wait_for_more()
    guest.pause()
    grow(client, nova_driver, grant, info, instance, 2 * GIB)
    assert capacity(guest, "vda") == 2 * GIB
    assert state(guest, nova_driver) == power_state.PAUSED
    last = written.look()[0]
    assert Resumer(nova_driver._host).look() == []
    guest.resume()
    written.wait_for_more(last)
    written.assert_nothing_went_wrong()


def test_guest_survives_the_death_of_its_storage_process(
    world, nova_driver, make_guest, make_volume, service, client
) -> None:
    """Whether it waits (libvirt 9.2) or is paused and resumed (before that), it sees no error and loses nothing."""
    grant, info = make_volume(WRITER)
    guest, _ = make_guest(info)
    written, resumer, resumed = Written(world, grant), Resumer(nova_driver._host), []
    last = written.wait_for_more()

    def goes_on() -> int | None:
        resumed.extend(resumer.look())
        number = written.look()[0]
        return number if number > last + 50 else None

    for _ in range(3):
        os.kill(storage_process(world.service.data, grant.vdisk_guid), signal.SIGKILL)
        last = eventually(goes_on)
    waits = nova_driver._host.has_min_version(lv_ver=(9, 2, 0))
    assert bool(resumed) is not waits
    assert state(guest, nova_driver) == power_state.RUNNING
    written.assert_nothing_went_wrong()


def test_writing_guest_is_migrated_and_the_source_is_fenced(
    world, nova_driver, make_guest, make_volume, client
) -> None:
    """As Nova and Cinder do it: the destination connects, the source renders its disk, then the source is detached."""
    grant, info = make_volume(WRITER)
    guest, instance = make_guest(info)
    written = Written(world, grant)
    last = written.wait_for_more()
    theirs = client.grants.create(grant.vdisk_guid, "destination", grant.consumer)
    status = world.service.status
    there = connection_info_of(theirs, status["management_ips"], status["port"], status["ca_file"])
    there["serial"] = there["data"]["volume_id"] = info["serial"]
    nova_driver._get_volume_driver(there).connect_volume(there, instance)
    xml = xml_for_destination(nova_driver, guest, instance, there)
    with world.libvirtd("destination") as other:
        libvirt = libvirt_guest.libvirt
        flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
        guest.migrate(other.uri, migrate_uri="tcp://127.0.0.1", destination_xml=xml, flags=flags)
        assert not guest.is_active()
        client.grants.revoke(grant.guid)
        with pytest.raises((ExportRefused, TlsFailed)):
            world.open(grant)
        Written(world, theirs).wait_for_more(last)
        domain = libvirt.open(other.uri).lookupByUUIDString(instance.uuid)
        assert domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
        disk = etree.fromstring(domain.XMLDesc(0)).find("devices/disk")
        assert disk.find("source").get("name") == theirs.export_name
        assert disk.find("driver").get("error_policy") == "stop"
        Written(world, theirs).assert_nothing_went_wrong()
        domain.destroy()


def test_fenced_guest_neither_writes_nor_is_told_to_go_on(world, nova_driver, make_guest, make_volume, client) -> None:
    """As after a forced detach or an evacuation: another host has the volume while the old guest still runs."""
    grant, info = make_volume(WRITER)
    guest, _ = make_guest(info)
    Written(world, grant).wait_for_more()
    client.grants.revoke(grant.guid)
    theirs = client.grants.create(grant.vdisk_guid, "another-host", "another instance")
    with world.open(theirs) as nbd:
        nbd.write(0, b"theirs" * 1024 * 1024)
        nbd.flush()
    if not nova_driver._host.has_min_version(lv_ver=(9, 2, 0)):
        eventually(lambda: is_paused_by_an_error(guest._domain))
    for _ in range(5):
        assert Resumer(nova_driver._host).look() == []
        with world.open(theirs) as nbd:
            assert nbd.read(0, 6 * 1024 * 1024) == b"theirs" * 1024 * 1024


def xml_for_destination(nova_driver: Any, guest: Any, instance: Any, connection_info: dict[str, Any]) -> str:
    """Let Nova make the guest's XML for the other host."""
    bdm = objects.migrate_data.LibvirtLiveMigrateBDMInfo(
        serial=connection_info["serial"], bus="virtio", dev="vda", type="disk"
    )
    bdm.connection_info = connection_info
    migrate_data = SimpleNamespace(bdms=[bdm])
    document = etree.fromstring(guest.get_xml_desc(dump_migratable=True))
    migration._update_volume_xml(document, migrate_data, instance, nova_driver._get_volume_config)
    return etree.tostring(document, encoding="unicode")


def connections(port: int) -> int:
    """Count the connections that somebody has to a port of this machine."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(remote.endswith(f":{port:04X}") and established == "01" for _, _, remote, established, *_ in rows)


def storage_process(data: Path, vdisk: str) -> int:
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_text() if entry.name.isdigit() else ""
        except OSError:
            continue
        if "qemu-storage-daemon" in command and vdisk in command and str(data) in command:
            return int(entry.name)
    raise AssertionError("nothing serves it")
