"""A cloud with several backends: two vPools, and a driver of Cinder that only pretends; gates before one vPool."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from tests.support.gate import Gate, Hold, Passing, When
from tests.support.patience import PATIENCE
from tests.support.standin29_tls import Authority
from tests.support.vpool_service import VpoolService

from openvstorage.aio.catalog import make_volume_type, offered_backends
from openvstorage.aio.certificates import TOUR
from openvstorage.aio.cinder import Cinder
from openvstorage.aio.cloud import Cloud
from openvstorage.aio.evidence import EdgeEvidence
from openvstorage.aio.paths import Paths
from openvstorage.client import Client, Grant

__all__ = ["FAKE", "FIRST", "SECOND", "CinderWorld", "eventually"]

FIRST, SECOND, FAKE = "myvpool01", "myvpool02", "fake"
GIB = 1024**3


class Vpool:
    """One vPool as the tests see it, past Cinder and past the gates.

    :ivar client: of its service. :ivar edge: reads and writes its vDisks.
    """

    def __init__(self, status: dict[str, Any], log: Path, certificate: Path) -> None:
        self.guid = str(status["vpool_guid"])
        self.client = Client.from_status(status)
        self.edge = EdgeEvidence(self.client, self.guid, log, certificate)

    def vdisks(self) -> dict[str, str]:
        """Give the names of all vDisks by guid."""
        return {vdisk.guid: vdisk.name for vdisk in self.client.vdisks.list(self.guid)}

    def size(self, vdisk_guid: str) -> int:
        """Give the bytes of a vDisk."""
        return self.client.vdisks.get(vdisk_guid).size

    def grants(self, vdisk_guid: str) -> list[Grant]:
        """Give the grants of a vDisk."""
        return self.client.grants.list(vdisk_guid)


class CinderWorld:
    """The cloud of a state directory that is up, with more backends than its own while the context lasts.

    :ivar storage: block storage API of openstacksdk. :ivar images: image API.
    :ivar services: what ``openvstorage status`` says of each vPool. :ivar vpools: the vPools by name.
    :ivar gates: the two management addresses of the first vPool, as Cinder knows them.
    """

    def __init__(self, state: Path, work: Path) -> None:
        self.cloud = Cloud(Paths.of(state), Console(quiet=True))
        self._additions = state / "etc" / "cinder" / "cinder.conf.d" / "tests.conf"
        self._work = work
        self.gates: list[Gate] = []
        self.vpools: dict[str, Vpool] = {}
        self.services: dict[str, dict[str, Any]] = {}

    @contextmanager
    def running(self) -> Iterator[CinderWorld]:
        """Add the backends and their types. They go at the end, for cinder-volume with its next start."""
        authority = Authority(self._work)
        certificate = authority.issue("127.0.0.1", "127.0.0.2")
        first = self.cloud.vpool.status()
        service = (int(first["port"]), str(first["ca_file"]))
        with (
            VpoolService(self._work / "vpool2") as second,
            Gate("127.0.0.1", 0, certificate, *service) as one,
            Gate("127.0.0.2", one.port, certificate, *service) as other,
        ):
            self.gates = [one, other]
            log = self._work / "edge.log"
            self.services = {FIRST: first, SECOND: second.status}
            # The first one's edge may have TLS.
            tour = self.cloud.certificates.directory(TOUR)
            self.vpools = {name: Vpool(status, log, tour) for name, status in self.services.items()}
            self._additions.write_text(_configuration(one.port, authority.ca_file, second.status))
            self._additions.chmod(0o600)
            try:
                self.cloud.up(storage_only=True)
                connection = self.cloud.connect()
                self.storage, self.images = connection.block_storage, connection.image
                # As the client's shell does; without it there is no revert and no attachment.
                self.storage.default_microversion = "3.71"
                quota = dict.fromkeys(("volumes", "snapshots", "gigabytes"), -1)
                self.request("PUT", f"/os-quota-sets/{connection.current_project_id}", quota_set=quota)
                for name in (FIRST, SECOND, FAKE):
                    eventually(partial(_offers, connection, name))
                    make_volume_type(connection, name)
                yield self
            finally:
                self._additions.unlink()
                for gate in self.gates:
                    gate.open()

    # Volumes and what they are made of, waiting for them.

    def make(self, volume_type: str = FIRST, size: int = 1, **options: Any) -> str:
        """Make a volume and give its id."""
        return self.await_volume(self.storage.create_volume(volume_type=volume_type, size=size, **options).id)

    def snapshot(self, volume_id: str) -> str:
        """Take a snapshot and give its id."""
        snapshot = self.storage.create_snapshot(volume_id=volume_id, force=True)
        eventually(lambda: self.snapshot_status(snapshot.id) == "available")
        return str(snapshot.id)

    def vdisk(self, volume_id: str) -> str:
        """Give the guid of the vDisk behind a volume; empty where Cinder knows none."""
        return str(self.storage.get_volume(volume_id).provider_id or "")

    def await_volume(self, volume_id: str, status: str = "available") -> str:
        """Wait until a volume has a status; another one that is an error ends the wait."""

        def there() -> bool:
            found = self.status(volume_id)
            assert found == status or not found.startswith("error"), f"volume {volume_id} is in status {found}"
            return found == status

        eventually(there)
        return volume_id

    def status(self, volume_id: str) -> str:
        """Give the status of a volume, ``gone`` for none."""
        found = self.storage.find_volume(volume_id)
        return str(found.status) if found else "gone"

    def snapshot_status(self, snapshot_id: str) -> str:
        """Give the status of a snapshot, ``gone`` for none."""
        found = self.storage.find_snapshot(snapshot_id)
        return str(found.status) if found else "gone"

    def delete(self, *volume_ids: str) -> None:
        """Delete volumes with their snapshots and wait until they are gone."""
        for volume_id in volume_ids:
            self.storage.delete_volume(volume_id, cascade=True)
        for volume_id in volume_ids:
            self.await_volume(volume_id, "gone")

    def request(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        """Ask what openstacksdk has no call for, and give the answer."""
        response = self.storage.request(path, method, json=body or None, microversion="3.71", raise_exc=True)
        found: dict[str, Any] = response.json() if response.content else {}
        return found

    def stop(self, match: Callable[[Passing], bool], when: When) -> Hold:
        """Have the first such call stopped, at whichever gate it comes."""
        hold = Hold(match, when)
        for gate in self.gates:
            gate.stop(hold)
        return hold

    def logs(self) -> list[Path]:
        """Give all files that anything here logs to: OpenStack, the vPool services, and their storage daemons."""
        below = (self.cloud.paths.log, self.cloud.vpool.data, self._work)
        return [path for directory in below for path in directory.rglob("*.log")]

    # Processes.

    def kill_cinder_volume(self) -> None:
        """SIGKILL cinder-volume: the parent, the process of each backend, and what they run."""
        identity = self.cloud.supervisor.identity(Cinder.volume)
        assert identity is not None
        os.killpg(identity.pid, signal.SIGKILL)
        eventually(lambda: not identity.alive())

    def start_cinder_volume(self) -> bytes:
        """Start cinder-volume again, or if its set-up has changed, and wait until each backend takes work.

        :returns: what it has logged since.
        """
        log = self.cloud.supervisor.log(Cinder.volume)
        before = log.stat().st_size
        with self.cloud.paths.locked():
            self.cloud.cinder.start()
        # By then its clean-up is done.
        ready = b"Driver initialization completed successfully"
        eventually(lambda: log.read_bytes()[before:].count(ready) == len((FIRST, SECOND, FAKE)))
        return log.read_bytes()[before:]


def eventually(true: Callable[[], bool], seconds: float = PATIENCE) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"not so within {seconds:.0f} seconds"
        time.sleep(0.1)


def _offers(connection: Any, backend: str) -> bool:
    return any(f"@{backend}#" in pool for pool in offered_backends(connection))


def _configuration(port: int, ca_file: Path, second: dict[str, Any]) -> str:
    driver = "openvstorage.cinder.driver.OpenvStorageEdgeVolumeDriver"
    password = Path(second["password_file"]).read_text().strip()
    return f"""
[DEFAULT]
enabled_backends = {FIRST},{SECOND},{FAKE}
# A killed cinder-volume answers nobody, which an API that waits for it need not find out after a minute only.
rpc_response_timeout = 20

[{FIRST}]
openvstorage_management_ips = 127.0.0.1, 127.0.0.2
openvstorage_port = {port}
openvstorage_timeout = 300
openvstorage_ca_file = {ca_file}

[{SECOND}]
volume_backend_name = {SECOND}
volume_driver = {driver}
openvstorage_management_ips = {",".join(second["management_ips"])}
openvstorage_port = {second["port"]}
openvstorage_username = {second["username"]}
openvstorage_password = {password}
openvstorage_vpool_guid = {second["vpool_guid"]}
openvstorage_ca_file = {second["ca_file"]}

[{FAKE}]
volume_backend_name = {FAKE}
volume_driver = cinder.tests.fake_driver.FakeLoggingVolumeDriver
"""
