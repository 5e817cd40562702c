"""Storage goes away under guests that write: they lose nothing, and no error reaches them."""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nova import conf, context, exception
from nova.compute import power_state
from tests.nova.conftest import connection_info_of
from tests.nova.with_guests.world import (
    GIB,
    World,
    Written,
    connections,
    eventually,
    state,
    storage_process,
    unrecorded,
)
from tests.support.libvirtd import TREES, writer
from tests.support.qemus import QEMU_10, bin_dirs
from tests.support.vpool_service import VpoolService

from openvstorage.client import Client, Grant
from openvstorage.nova import driver as our_driver
from openvstorage.nova.resume import Resumer, is_paused_by_an_error

# nova-compute's own main(), until it would ask for its conductor: the plug-ins are loaded by then. It stays there.
NOVA_COMPUTE = """
    import sys, time
    sys.argv = ["nova-compute", "--config-file", sys.argv[1]]
    import nova.cmd.compute
    from nova import objects, service

    def create(*args, **kwargs):
        while True:
            time.sleep(1)

    service.Service.create = create
    objects.Service.enable_min_version_cache = lambda: None
    nova.cmd.compute.main()
"""


@contextmanager
def nova_compute(directory: Path, uri: str) -> Iterator[Path]:
    """Run nova-compute with a libvirt; gives its log."""
    settings, log = directory / "nova.conf", directory / "nova-compute.log"
    lines = ["[DEFAULT]", "compute_driver = libvirt.LibvirtDriver", "debug = true", "transport_url = fake://"]
    lines += [f"state_path = {directory}", "[oslo_concurrency]", f"lock_path = {directory}"]
    settings.write_text("\n".join([*lines, "[libvirt]", "virt_type = qemu", f"connection_uri = {uri}"]))
    (bindings,) = [place for place in sys.path if "libvirt-python-" in place]
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(NOVA_COMPUTE), str(settings)]
    with log.open("wb") as output:
        environment = {**os.environ, "PYTHONPATH": bindings}
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=directory)
    try:
        yield log
        assert process.poll() is None, log.read_text()
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def short_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Guests made from here on wait one second for their storage, then they are paused."""
    monkeypatch.setattr(our_driver, "_RECONNECT_SECONDS", 1)


@pytest.fixture
def goes_on(nova_driver: Any) -> Callable[[Written], list[str]]:
    """Wait until a guest has written more, helped as nova-compute does; gives the names of guests that were helped."""
    resumer = Resumer(conf.CONF.libvirt.connection_uri)

    def wait(written: Written) -> list[str]:
        resumed = []
        now = written.last()

        def has_more() -> bool:
            resumed.extend(resumer.look())
            return written.last() > now + 50

        eventually(has_more)
        return resumed

    return wait


def test_guest_survives_the_death_of_its_storage_process(world, nova_driver, make_guest, make_volume, goes_on) -> None:
    """Whether it waits (libvirt 9.2) or is paused and resumed (before that), it sees no error and loses nothing."""
    grant, info = make_volume(writer())
    guest, _ = make_guest(info)
    written, resumed = Written(world, grant), []
    written.wait_for_more()
    for _ in range(3):
        os.kill(before := storage_process(world.service.data, grant.vdisk_guid), signal.SIGKILL)
        eventually(lambda old=before: storage_process(world.service.data, grant.vdisk_guid) not in (None, old))
        resumed += goes_on(written)
    assert bool(resumed) is not nova_driver._host.has_min_version(lv_ver=(9, 2, 0))
    assert state(guest, nova_driver) == power_state.RUNNING
    written.assert_nothing_went_wrong()


def test_outage_shorter_than_the_delay_is_waited_out(
    world, nova_driver, make_guest, make_volume, goes_on, monkeypatch
) -> None:
    # On a busy machine the service alone may take a minute to start.
    monkeypatch.setattr(our_driver, "_RECONNECT_SECONDS", 280)
    grant, info = make_volume(writer())
    guest, _ = make_guest(info)
    written, waits = Written(world, grant), nova_driver._host.has_min_version(lv_ver=(9, 2, 0))
    written.wait_for_more()
    with world.outage():
        if waits:
            time.sleep(10)
            assert state(guest, nova_driver) == power_state.RUNNING
        else:
            eventually(lambda: state(guest, nova_driver) == power_state.PAUSED)
    assert bool(goes_on(written)) is not waits
    written.assert_nothing_went_wrong()


def test_guest_paused_before_nova_compute_started_goes_on(
    world, nova_driver, libvirtd, make_guest, make_volume, short_delay, tmp_path
) -> None:
    """An outage longer than the delay, which nova-compute does not see begin, without any volume being attached."""
    grant, info = make_volume(writer())
    guest, _ = make_guest(info)
    written = Written(world, grant)
    written.wait_for_more()
    with world.outage():
        eventually(lambda: is_paused_by_an_error(guest._domain))
    assert state(guest, nova_driver) == power_state.PAUSED
    with nova_compute(tmp_path, libvirtd.uri) as log:
        written.wait_for_more()
        assert "goes on: its volumes can be reached again" in log.read_text()
    assert state(guest, nova_driver) == power_state.RUNNING
    written.assert_nothing_went_wrong()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_guest_does_not_notice_that_the_service_is_started_again(
    world, nova_driver, make_guest, make_volume, how
) -> None:
    """As at an upgrade: the storage process stays, and with it the guest's connection."""
    grant, info = make_volume(writer())
    guest, _ = make_guest(info)
    written = Written(world, grant)
    written.wait_for_more()
    before = storage_process(world.service.data, grant.vdisk_guid)
    peers = connections(grant.port)
    world.service.restart(how)
    written.wait_for_more()
    assert storage_process(world.service.data, grant.vdisk_guid) == before
    assert connections(grant.port) == peers == 1
    assert state(guest, nova_driver) == power_state.RUNNING
    written.assert_nothing_went_wrong()


@pytest.mark.parametrize("world", list(TREES), indirect=True, scope="session")
def test_guest_goes_on_when_its_storage_process_becomes_a_newer_qemu(
    world, nova_driver, make_guest, goes_on, tmp_path
) -> None:
    """The service is started again with the other QEMU, which changes nothing yet; then the vDisk is restarted."""
    if "qemu-10" not in bin_dirs():
        pytest.skip("needs tests/support/fetch_qemu10.sh")
    with VpoolService(tmp_path / "data") as service:
        alone = World(world.tree, service, None)
        with Client.from_status(service.status) as client:
            vdisk = client.vdisks.create("volume", GIB, service.status["vpool_guid"])
            grant = client.grants.create(vdisk, conf.CONF.host, "instance")
        with alone.open(grant) as nbd:
            nbd.write(0, writer())
            nbd.flush()
        guest, _ = make_guest(connection_info_of(grant, *alone.place()))
        written = Written(alone, grant)
        written.wait_for_more()
        before = storage_process(service.data, vdisk)
        service.restart(signal.SIGTERM, "--qemu-dir", str(QEMU_10))
        written.wait_for_more()
        assert storage_process(service.data, vdisk) == before
        with Client.from_status(service.status) as client:
            client.vdisks.restart(vdisk)
        resumed = goes_on(written)
        after = storage_process(service.data, vdisk)
        assert after != before
        assert Path(f"/proc/{after}/exe").readlink().is_relative_to(QEMU_10.resolve())
        assert bool(resumed) is not nova_driver._host.has_min_version(lv_ver=(9, 2, 0))
        assert state(guest, nova_driver) == power_state.RUNNING
        written.assert_nothing_went_wrong()
        guest.poweroff()


@pytest.mark.parametrize("world", ["tls", "tls on system"], indirect=True, scope="session")
def test_guest_goes_on_when_the_certificate_of_its_storage_nears_its_end(
    world, nova_driver, make_guest, make_volume, goes_on
) -> None:
    """The service has it issued again, and a storage process with the new one follows the old one."""
    grant, info = make_volume(writer())
    guest, _ = make_guest(info)
    written = Written(world, grant)
    written.wait_for_more()
    process, first = storage_process(world.service.data, grant.vdisk_guid), shown_certificate(world, grant)
    world.service.let_certificate_near_its_end()
    ends_soon = (world.service.data / "tls" / "server-cert.pem").read_text()
    eventually(lambda: storage_process(world.service.data, grant.vdisk_guid) not in (None, process))
    resumed = goes_on(written)
    renewed = shown_certificate(world, grant)
    assert renewed not in (first, ends_soon)
    assert renewed == (world.service.data / "tls" / "server-cert.pem").read_text()
    assert bool(resumed) is not nova_driver._host.has_min_version(lv_ver=(9, 2, 0))
    assert state(guest, nova_driver) == power_state.RUNNING
    written.assert_nothing_went_wrong()


def shown_certificate(world: World, grant: Grant) -> str:
    """Give the certificate that a client of a volume is shown, in PEM."""
    with world.open(grant) as nbd:
        assert isinstance(nbd._socket, ssl.SSLSocket)
        return ssl.DER_cert_to_PEM_cert(nbd._socket.getpeercert(binary_form=True) or b"")


def test_volume_is_detached_while_its_storage_is_gone(world, nova_driver, make_guest, make_volume, monkeypatch) -> None:
    """QEMU wants to flush it, and so waits for the rest of the delay; it does not hang."""
    monkeypatch.setattr(our_driver, "_RECONNECT_SECONDS", 5)
    guest, instance = make_guest()
    _, info = make_volume()
    attach(nova_driver, info, instance)
    with world.outage():
        detach(nova_driver, info, instance)
        assert state(guest, nova_driver) == power_state.RUNNING
    assert "<disk" not in guest.get_xml_desc()


@pytest.mark.parametrize("boot_sector", [b"", writer()], ids=["idle", "writing"])
def test_guest_ends_while_its_storage_is_gone_and_starts_again_only_when_it_is_back(
    world, nova_driver, make_guest, make_volume, monkeypatch, boot_sector
) -> None:
    """As a delete ends it; and a hard reboot, which then asks for the volume again."""
    monkeypatch.setattr(our_driver, "_RESOLVE_SECONDS", 1.0)
    grant, info = make_volume(boot_sector)
    guest, instance = make_guest(info)
    if boot_sector:
        Written(world, grant).wait_for_more()
    with world.outage():
        guest.poweroff()
        with pytest.raises(exception.VolumeAttachFailed, match="can be reached; try again later"):
            make_guest(info, instance=instance)
    guest, _ = make_guest(info, instance=instance)
    assert guest.is_active()


def attach(nova_driver: Any, info: dict[str, Any], instance: Any) -> None:
    with unrecorded(nova_driver, instance):
        # SCSI, because a guest without an operating system does not let go of PCI devices.
        nova_driver.attach_volume(
            context.get_admin_context(), info, instance, "/dev/sda", disk_bus="scsi", device_type="disk"
        )


def detach(nova_driver: Any, info: dict[str, Any], instance: Any) -> None:
    with unrecorded(nova_driver, instance):
        nova_driver.detach_volume(context.get_admin_context(), info, instance, "/dev/sda")
