"""The library and our own service through lost answers and restarts: every change is done once, none fails."""

import os
import signal
import threading
import uuid

import pytest
from tests.support.patience import PATIENCE
from tests.support.standin29_proxy import LossyProxy
from tests.support.vpool_service import VpoolService

from openvstorage.client import Client

GIB = 1024**3


@pytest.fixture
def proxy(vpool_service):
    with LossyProxy(vpool_service.status["port"]) as proxy:
        yield proxy


@pytest.fixture
def client(vpool_service, proxy):
    with Client.from_status({**vpool_service.status, "port": proxy.port}) as client:
        yield client


@pytest.fixture
def disk(client, vpool_service):
    return client.vdisks.create(f"volume-{uuid.uuid4()}", GIB, vpool_service.status["vpool_guid"])


def test_a_change_whose_answer_was_lost_is_done_once(client, proxy, disk, vpool_service):
    client.vdisks.get(disk)
    proxy.lose(1)
    snapshot = client.snapshots.create(disk, "once")
    assert proxy.lost == 1
    assert [entry.guid for entry in client.snapshots.list(disk)] == [snapshot]
    proxy.lose(1)
    name = f"volume-{uuid.uuid4()}"
    clone = client.vdisks.clone(disk, name, snapshot, size=2 * GIB)
    assert proxy.lost == 2
    found = client.vdisks.find(name, vpool_service.status["vpool_guid"])
    assert (found.guid, found.size) == (clone, 2 * GIB)
    proxy.lose(1)
    client.vdisks.delete(clone)
    assert proxy.lost == 3


def test_two_changes_that_look_alike_are_two(client, disk):
    first = client.snapshots.create(disk, "same")
    assert client.snapshots.create(disk, "same") != first
    assert len(client.snapshots.list(disk)) == 2


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_calls_that_run_while_the_service_restarts_do_not_fail(tmp_path, how):
    with VpoolService(tmp_path / "data") as service:
        vpool = service.status["vpool_guid"]
        client = Client.from_status(service.status, patience=PATIENCE)
        made: list[str] = []
        restarted = threading.Event()
        faults: list[BaseException] = []

        def work(number: int) -> None:
            try:
                # Goes on until some calls have surely been made before, during and after the restart.
                rounds = 0
                while rounds < 3 or not restarted.is_set():
                    made.append(client.vdisks.create(f"volume-{number}-{rounds}", GIB, vpool))
                    assert client.snapshots.list(made[-1]) == []
                    rounds += 1
            except BaseException as fault:
                faults.append(fault)
                raise

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        old = service.status["pid"]
        os.kill(old, how)
        service.stop()
        service.status = {}
        service.start()
        assert service.status["pid"] != old
        restarted.set()
        for thread in threads:
            thread.join()
        assert faults == []
        assert sorted(vdisk.guid for vdisk in client.vdisks.list(vpool)) == sorted(made)
        client.close()
