"""From the version before, with guests running, a copy under way and a journal of operations begun; and not back again.

The version before is taken from this repository's history; it runs in today's environment.
"""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.support.patience import PATIENCE
from tests.support.qemu_io import QemuIo
from tests.support.vpool_service import ROOT, VpoolService, environment

from openvstorage.client import Client, Grant
from openvstorage.client.errors import OpenvStorageError
from openvstorage.edge.nbd import NbdClient

BEFORE = "c3cdcbda129e"
MIB = 1024**2


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources of the version before."""
    command = ["git", "-C", str(ROOT), "archive", BEFORE, "src"]
    result = subprocess.run(command, capture_output=True, check=False)
    if result.returncode:
        pytest.skip(f"commit {BEFORE} is needed, which a shallow clone does not have: {result.stderr.decode().strip()}")
    directory = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(result.stdout)) as archive:
        archive.extractall(directory, filter="data")
    return directory / "src"


@pytest.fixture
def service(tmp_path: Path, before: Path) -> Iterator[VpoolService]:
    """The version before, serving plainly on loopback as it did."""
    with VpoolService(tmp_path / "data", edge_tls=None, source=before) as running:
        yield running


def client_of(service: VpoolService) -> Client:
    return Client.from_status(service.status, patience=PATIENCE)


def upgrade(service: VpoolService, how: signal.Signals) -> None:
    service.source = None
    service.restart(how)


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.2)


def outdated(service: VpoolService) -> int | None:
    service._healthy()
    return service.status.get("outdated_daemons")


def none_outdated(service: VpoolService) -> bool:
    return outdated(service) == 0


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_guests_go_on_and_are_served_in_todays_way(service: VpoolService, how: signal.Signals) -> None:
    with client_of(service) as client:
        pool = client.vpools.list()[0].guid
        disk = client.vdisks.create("a", 64 * MIB, pool)
        grant = client.grants.create(disk, "host", "guest")
        with QemuIo(grant) as guest:
            guest.write(0, 1)
            upgrade(service, how)
            guest.write(MIB, 2)
            wait_for("the last of the new daemons", lambda: none_outdated(service))
            assert guest.reads(0, 1)
            assert guest.reads(MIB, 2)
            guest.write(2 * MIB, 3)
            anew = client.grants.create(disk, "host", "guest")
            assert (anew.guid, anew.port, anew.export_name) == (grant.guid, grant.port, grant.export_name)
            client.vdisks.restart(disk)
            assert guest.reads(2 * MIB, 3)
        assert client.vdisks.get(disk).durability == "acknowledged"


def test_a_copy_under_way_ends_where_it_began(service: VpoolService) -> None:
    with client_of(service) as client:
        pool = client.vpools.list()[0].guid
        disk = client.vdisks.create("a", 64 * MIB, pool)
        with QemuIo(client.grants.create(disk, "host", "guest")) as guest:
            guest.write(0, 1)
            snapshot = client.snapshots.create(disk, "s")
            guest.write(0, 2)
            copied = client.grants.create(disk, "host", "copy", "ro", snapshot, deadline_seconds=3600)
            with NbdClient.connect(copied.host, copied.port, copied.export_name) as copy:
                upgrade(service, signal.SIGTERM)
                assert bytes(copy.read(0, 4096)) == b"\1" * 4096
                # told at the end of a round of the housekeeping, which would have replaced the daemon
                wait_for("a round of the housekeeping", lambda: outdated(service) == 1)
                assert bytes(copy.read(MIB, 4096)) == bytes(4096)
            client.grants.revoke(copied.guid)
            wait_for("the last of the new daemons", lambda: none_outdated(service))
            anew = client.grants.create(disk, "host", "copy", "ro", snapshot)
            assert anew.port != copied.port
            assert guest.reads(0, 2)


def test_what_was_begun_is_ended(service: VpoolService) -> None:
    """Many operations are under way when the version before is killed; each is whole or not there afterwards."""
    with client_of(service) as client:
        pool = client.vpools.list()[0].guid
        disks = [client.vdisks.create(f"d{number}", 16 * MIB, pool) for number in range(4)]
        grants = [client.grants.create(disk, "host", "guest") for disk in disks]
        done: list[str] = []

        def change(number: int) -> None:
            for turn in range(20):
                try:
                    snapshot = client.snapshots.create(disks[number], f"s{turn}")
                    done.append(snapshot)
                    client.vdisks.clone(disks[number], f"c{number}-{turn}", snapshot)
                except OpenvStorageError:
                    return

        threads = [threading.Thread(target=change, args=(number,)) for number in range(len(disks))]
        for thread in threads:
            thread.start()
        wait_for("the first snapshots", lambda: len(done) >= 8)
        upgrade(service, signal.SIGKILL)
        for thread in threads:
            thread.join(PATIENCE)
            assert not thread.is_alive()
        known = {snapshot.guid for disk in disks for snapshot in client.snapshots.list(disk)}
        assert set(done) <= known
        for grant in grants:
            assert client.vdisks.get(grant.vdisk_guid).size == 16 * MIB
            _opens(grant)


def _opens(grant: Grant) -> None:
    with QemuIo(grant) as guest:
        guest.write(0, 7)
        assert guest.reads(0, 7)


_OLD_CLIENT = """
import json, sys
from openvstorage.client import Client
client = Client.from_status(json.load(sys.stdin))
disk = client.vdisks.create("by-the-version-before", 1048576, client.vpools.list()[0].guid)
grant = client.grants.create(disk, "host", "guest")
client.vdisks.extend(disk, 2097152)
client.vdisks.clone(disk, "clone", client.snapshots.create(disk, "s"))
client.grants.revoke(grant.guid)
client.vdisks.delete(disk)
print("done")
"""


def test_library_of_the_version_before_works_with_todays_service(tmp_path: Path, before: Path) -> None:
    """It is what an older cinder-volume has. The reverse is what the other tests here do before they upgrade."""
    with VpoolService(tmp_path / "data") as service:
        status = (service.data / "service.json").read_text()
        command = [sys.executable, "-c", _OLD_CLIENT]
        result = subprocess.run(
            command,
            input=status,
            capture_output=True,
            text=True,
            env=environment(before),
            timeout=PATIENCE,
            check=False,
        )
        assert (result.stdout, result.returncode) == ("done\n", 0), result.stderr


def test_way_back_is_refused_in_one_sentence(tmp_path: Path, before: Path) -> None:
    with VpoolService(tmp_path / "data") as service, client_of(service) as client:
        client.vdisks.create("a", MIB, client.vpools.list()[0].guid)
    config = (tmp_path / "data" / "config.json").read_text()
    command = [str(Path(sys.executable).with_name("openvstorage")), "serve", "--data", str(tmp_path / "data")]
    result = subprocess.run(
        command, capture_output=True, text=True, env=environment(before), timeout=PATIENCE, check=False
    )
    assert result.returncode == 1
    assert "unknown settings: " in result.stderr
    assert "durability" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert (tmp_path / "data" / "config.json").read_text() == config
