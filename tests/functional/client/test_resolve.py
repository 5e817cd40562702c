"""A host without an account finds its grant: after a storage daemon's death, over a dead address, through a restart."""

import os
import signal
import threading
import uuid
from pathlib import Path

import pytest
from tests.support.patience import PATIENCE
from tests.support.vpool_service import VpoolService

from openvstorage.client import AuthenticationError, Client, ConfigurationError, NotFound, Unreachable
from openvstorage.client.resolve import GrantReference, resolve
from openvstorage.edge.location import NbdLocation
from openvstorage.edge.nbd import NbdClient

GIB = 1024**3


def connect(location):
    place = NbdLocation.from_grant(location)
    return NbdClient.connect(place.host, place.port, place.export)


def properties_of(service, grant):
    status = service.status
    return {
        "grant": grant.guid,
        "secret": grant.secret,
        "resolvers": [f"https://{address}:{status['port']}" for address in status["management_ips"]],
        "ca": Path(status["ca_file"]).read_text(),
    }


@pytest.fixture
def client(vpool_service):
    with Client.from_status(vpool_service.status) as client:
        yield client


@pytest.fixture
def grant(client, vpool_service):
    disk = client.vdisks.create(f"volume-{uuid.uuid4()}", GIB, vpool_service.status["vpool_guid"])
    return client.grants.create(disk, "compute1", "instance-1")


@pytest.fixture
def properties(vpool_service, grant):
    return properties_of(vpool_service, grant)


def test_location_is_where_the_bytes_are(grant, properties):
    location = resolve(properties)
    assert (location.size, location.mode, location.tls) == (GIB, "rw", False)
    assert location.properties == {
        "name": grant.export_name,
        "hosts": [grant.host],
        "ports": [str(grant.port)],
        "tls": False,
    }
    with connect(location) as nbd:
        nbd.write(0, b"written by a host without an account")
    with connect(resolve(properties)) as nbd:
        assert nbd.read(0, 36) == b"written by a host without an account"


def test_dead_storage_daemon_is_up_again_when_the_answer_comes(vpool_service, grant, properties):
    for _ in range(5):
        (pid,) = [pid for pid in daemons(vpool_service.data) if grant.vdisk_guid in command(pid)]
        os.kill(pid, signal.SIGKILL)
        with connect(resolve(properties)) as nbd:
            assert nbd.size == GIB


def test_size_is_the_present_one(client, grant, properties):
    client.vdisks.extend(grant.vdisk_guid, 2 * GIB)
    assert resolve(properties).size == 2 * GIB


def test_revoked_grant_is_not_found(client, grant, properties):
    client.grants.revoke(grant.guid)
    with pytest.raises(NotFound):
        resolve(properties)


def test_wrong_secret_is_refused_and_never_shown(properties):
    wrong = {**properties, "secret": "x" * 43}
    with pytest.raises(AuthenticationError) as refused:
        resolve(wrong)
    assert "x" * 43 not in str(refused.value)
    assert "x" * 43 not in repr(GrantReference.from_properties(wrong))


def test_dead_address_is_passed_over(properties):
    assert resolve({**properties, "resolvers": ["https://127.0.0.1:1", *properties["resolvers"]]}).size == GIB


@pytest.mark.parametrize("nonsense", ["https://:443", "https://[[::1]]:443", "https://a..b:443"])
def test_address_that_an_earlier_version_wrote_down_wrongly_is_passed_over(properties, nonsense):
    assert resolve({**properties, "resolvers": [nonsense, *properties["resolvers"]]}).size == GIB


def test_server_of_another_ca_is_not_believed(properties):
    with pytest.raises(Unreachable, match="certificate"):
        resolve({key: value for key, value in properties.items() if key != "ca"}, patience=0)


def test_properties_without_a_grant_have_nothing_to_ask():
    assert resolve({"name": "volume-1", "hosts": ["10.0.0.1"], "ports": ["26203"]}) is None


@pytest.mark.parametrize("change", [{"resolvers": None}, {"resolvers": []}, {"resolvers": ["http://h"]}, {"ca": "?"}])
def test_incomplete_properties_are_refused_in_words(properties, change):
    with pytest.raises(ConfigurationError):
        resolve({**properties, **change})


def test_restart_of_the_service_is_waited_out(tmp_path):
    with VpoolService(tmp_path / "data") as service:
        with Client.from_status(service.status) as client:
            disk = client.vdisks.create("disk", GIB, service.status["vpool_guid"])
            properties = properties_of(service, client.grants.create(disk, "compute1", "instance-1"))
        os.kill(service.status["pid"], signal.SIGKILL)
        service._process.wait(timeout=PATIENCE)
        restart = threading.Thread(target=service.start)
        restart.start()
        try:
            assert resolve(properties).size == GIB
        finally:
            restart.join()


def daemons(data):
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and "qemu-storage-daemon" in command(entry.name) and str(data) in command(entry.name):
            yield int(entry.name)


def command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""
