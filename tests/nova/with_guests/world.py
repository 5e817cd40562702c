"""Hosts with real guests, and how the tests look at what those did."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from lxml import etree
from nova import context, objects
from nova.virt.libvirt import migration
from tests.support.libvirtd import Libvirtd
from tests.support.patience import PATIENCE
from tests.support.vpool_service import VpoolService

from openvstorage.client import Client, Grant
from openvstorage.edge.nbd import NbdClient
from openvstorage.edge.tls import client_context

MIB = 1024**2
GIB = 1024**3


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

    def place(self) -> tuple[list[str], int, str]:
        """Give management addresses, port and CA file, for ``connection_info_of``."""
        return self.service.status["management_ips"], self.service.status["port"], self.service.status["ca_file"]

    @contextmanager
    def outage(self) -> Iterator[None]:
        """The service and all storage daemons are gone, until the end of the block."""
        self.service.stop()
        try:
            yield
        finally:
            self.service.start()

    def open(self, grant: Grant) -> NbdClient:
        """Open a volume past the guest, as the host that holds the grant."""
        directory = self.certificates(grant.client)
        tls = client_context(directory) if directory is not None else None
        return NbdClient.connect(grant.host, grant.port, grant.export_name, tls=tls)


class Written:
    """What a writer has written from a sector on, read past the guest by who holds a grant."""

    def __init__(self, world: World, grant: Grant, start: int = 64) -> None:
        self._world, self._grant, self._start = world, grant, start
        self._last = 0

    def numbers(self) -> dict[int, int]:
        """Give the numbers that are there, and with each how many errors the writer had seen by then."""
        with self._world.open(self._grant) as nbd:
            words = memoryview(nbd.read(self._start * 512, 65536 * 512)).cast("I")
        found = zip(words[0::128].tolist(), words[1::128].tolist(), strict=True)
        records = {place: (number, errors) for place, (number, errors) in enumerate(found) if number}
        assert all(number % 65536 == place for place, (number, _) in records.items())
        return dict(records.values())

    def look(self) -> tuple[int, int, int]:
        """Give the highest number written, the errors that the writer has seen, and acknowledged writes missing."""
        records = self.numbers()
        last = max(records, default=0)
        # The oldest ones are being overwritten while they are read.
        lost = [number for number in range(max(1, last - 60000), last) if number not in records]
        return last, max(records.values(), default=0), len(lost)

    def last(self) -> int:
        """Give the highest number written, as long as none before it is missing; reads only what is new."""
        with self._world.open(self._grant) as nbd:
            while True:
                at = (self._last + 1) % 65536
                words = memoryview(nbd.read((self._start + at) * 512, min(128, 65536 - at) * 512)).cast("I")
                numbers = words[0::128].tolist()
                new = next((place for place, number in enumerate(numbers, 1) if number != self._last + place), None)
                self._last += len(numbers) if new is None else new - 1
                if new is not None:
                    return self._last

    def wait_for_more(self, by: int = 50) -> int:
        """Return the number of the last write once there are so many more than there are now."""
        now = self.last()
        return eventually(lambda: (found := self.last()) > now + by and found)

    def assert_nothing_went_wrong(self) -> None:
        last, errors, lost = self.look()
        assert last > 0
        assert (errors, lost) == (0, 0)


def eventually(condition: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)
    return value


def capacity(guest: Any, device: str) -> int:
    return int(guest._domain.blockInfo(device)[0])


def state(guest: Any, nova_driver: Any) -> int:
    return int(guest.get_power_state(nova_driver._host))


def grow(client: Client, nova_driver: Any, grant: Grant, info: dict[str, Any], instance: Any, size: int) -> None:
    """As Cinder does it and then Nova."""
    client.vdisks.extend(grant.vdisk_guid, size)
    nova_driver.extend_volume(context.get_admin_context(), info, instance, size)


def unrecorded(nova_driver: Any, instance: Any) -> AbstractContextManager[Any]:
    """Where there is no database of Nova's nothing is written to it, until the end of the block."""
    stack = ExitStack()
    stack.enter_context(mock.patch.object(instance, "save"))
    stack.enter_context(mock.patch.object(nova_driver, "_build_device_metadata", return_value=None))
    return stack


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


def storage_process(data: Path, vdisk: str) -> int | None:
    """Give the process that serves a vDisk, None if there is none."""
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_text() if entry.name.isdigit() else ""
        except OSError:
            continue
        if "qemu-storage-daemon" in command and vdisk in command and str(data) in command:
            return int(entry.name)
    return None
