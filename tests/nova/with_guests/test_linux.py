"""One guest with Linux under all faults in turn: nothing that it has synced is lost, and its kernel saw no error."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from nova import conf
from nova.compute import power_state
from tests.nova.with_guests.world import GIB, eventually, grow, state, storage_process
from tests.support import linux_guest
from tests.support.linux_guest import LinuxConsole

from openvstorage.nova import driver as our_driver
from openvstorage.nova.resume import Resumer, is_paused_by_an_error

CHUNK = 1024**2


@pytest.fixture
def console(tmp_path_factory: pytest.TempPathFactory) -> LinuxConsole:
    """An empty file that the user of the guests may write to."""
    file = tmp_path_factory.mktemp("console") / "log"
    file.touch()
    for path in (file, *list(file.parents)[:3]):
        path.chmod(0o777 if path == file else 0o755)
    return LinuxConsole(file)


def test_linux_sees_no_error_and_loses_nothing(
    world, nova_driver, make_guest, make_volume, client, console, tmp_path, monkeypatch
) -> None:
    if reason := linux_guest.missing():
        pytest.skip(reason)
    # Longer than the outage that is to be waited out, shorter than the one that is not.
    monkeypatch.setattr(our_driver, "_RECONNECT_SECONDS", 20)
    (root, root_info), (data, data_info) = make_volume(), make_volume()
    fill(world, root, linux_guest.picture(tmp_path))
    with world.open(data) as nbd:
        nbd.write(0, linux_guest.make_order())
        nbd.flush()
    guest, instance = make_guest(root_info, data_info, console=console.file)
    # An older libvirt pauses the guest at each of these.
    with resumed(conf.CONF.libvirt.connection_uri):
        console.wait_for_more()

        os.kill(before := storage_process(world.service.data, data.vdisk_guid), signal.SIGKILL)
        eventually(lambda: storage_process(world.service.data, data.vdisk_guid) not in (None, before))
        console.wait_for_more()

        world.service.restart(signal.SIGKILL)
        console.wait_for_more()

        with world.outage():
            time.sleep(10)
        console.wait_for_more()

        with world.outage():
            eventually(lambda: is_paused_by_an_error(guest._domain))
        console.wait_for_more()

        grow(client, nova_driver, data, data_info, instance, 2 * GIB)
        console.wait(rf"^{linux_guest.DISKS_LINE} .*\b(vdb:{2 * GIB // 1024})\b")
        client.snapshots.create(data.vdisk_guid, "in use")
        last = console.wait_for_more()

    assert state(guest, nova_driver) == power_state.RUNNING
    assert console.errors() == []
    assert len(console.complaints()) == 1
    with world.open(data) as nbd:
        assert linux_guest.synced(nbd, last) == last


@contextmanager
def resumed(uri: str) -> Iterator[None]:
    """Look after paused guests as nova-compute does, until the end of the block: later tests do that themselves."""
    ended, resumer = threading.Event(), Resumer(uri)

    def look() -> None:
        while not ended.wait(1):
            resumer.look()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def fill(world, grant, picture: Path) -> None:
    """Write an image to a volume."""
    with picture.open("rb") as source, world.open(grant) as nbd:
        for offset in range(0, picture.stat().st_size, CHUNK):
            if (chunk := source.read(CHUNK)).strip(b"\0"):
                nbd.write(offset, chunk)
        nbd.flush()
