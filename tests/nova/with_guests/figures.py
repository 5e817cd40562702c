"""Figures of guests under faults and changes, for docs/performance.md. Not part of the tests: name this file to run it.

python tests/support/nova_env.py 34 -s tests/nova/with_guests/figures.py

A stall is the longest time between two writes that the guest completed, seen by libvirt's counters from outside.
"""

from __future__ import annotations

import itertools
import os
import signal
import statistics
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from nova import conf
from tests.nova.with_guests.world import GIB, Written, eventually, grow, storage_process
from tests.support.libvirtd import writer

from openvstorage.nova.resume import Resumer


class Stalls:
    """Watches how a guest's writes get on, in a thread. Use it by ``with``; ``longest`` is in seconds."""

    def __init__(self, guest: Any) -> None:
        self._guest = guest
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.longest = 0.0

    def __enter__(self) -> Stalls:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        count, since = -1, time.monotonic()
        while not self._ended.wait(0.002):
            now, seen = self._guest._domain.blockStats("vda")[2], time.monotonic()
            if now != count:
                if count >= 0:
                    self.longest = max(self.longest, seen - since)
                count, since = now, seen


def say(request: pytest.FixtureRequest, what: str, seconds: list[float]) -> None:
    world = request.node.callspec.params["world"]
    figures = [1000 * value for value in (min(seconds), statistics.median(seconds), max(seconds))]
    print(f"\n{world}: {what}: {len(seconds)} times, min/median/max {'/'.join(f'{value:.0f}' for value in figures)} ms")


def under(guest: Any, action: Callable[[], None], written: Written) -> float:
    """Give the stall that an action causes."""
    with Stalls(guest) as stalls:
        time.sleep(0.5)
        action()
        written.wait_for_more()
    return stalls.longest


def test_nothing_at_all(request, world, nova_driver, make_guest, make_volume) -> None:
    """What this machine makes of a guest that nothing happens to."""
    grant, info = make_volume(writer())
    guest, _ = make_guest(info)
    written = Written(world, grant)
    written.wait_for_more()
    say(request, "stall without any cause", [under(guest, lambda: None, written) for _ in range(10)])


def test_killed_storage_process(request, world, nova_driver, make_guest, make_volume) -> None:
    grant, info = make_volume(writer())
    guest, _ = make_guest(info)
    written, stalls = Written(world, grant), []
    written.wait_for_more()
    Resumer(conf.CONF.libvirt.connection_uri).start()

    def kill() -> None:
        os.kill(before := storage_process(world.service.data, grant.vdisk_guid), signal.SIGKILL)
        eventually(lambda: storage_process(world.service.data, grant.vdisk_guid) not in (None, before))

    for _ in range(10):
        stalls.append(under(guest, kill, written))
    say(request, "stall when the storage process is killed", stalls)
    print(f"writes acknowledged: {written.look()[0]}, errors and losses: {written.look()[1:]}")
    written.assert_nothing_went_wrong()


def test_planned_replacement(request, world, nova_driver, make_guest, make_volume, client) -> None:
    """As after an upgrade of QEMU."""
    grant, info = make_volume(writer())
    guest, _ = make_guest(info)
    written = Written(world, grant)
    written.wait_for_more()
    Resumer(conf.CONF.libvirt.connection_uri).start()
    stalls = [under(guest, lambda: client.vdisks.restart(grant.vdisk_guid), written) for _ in range(10)]
    say(request, "stall when the storage process is replaced as planned", stalls)
    written.assert_nothing_went_wrong()


@pytest.mark.parametrize("world", ["tls", "tls on system"], indirect=True, scope="session")
def test_renewed_certificate(request, world, nova_driver, make_guest, make_volume) -> None:
    grant, info = make_volume(writer())
    guest, _ = make_guest(info)
    written, stalls = Written(world, grant), []
    written.wait_for_more()
    Resumer(conf.CONF.libvirt.connection_uri).start()

    def renew() -> None:
        before = storage_process(world.service.data, grant.vdisk_guid)
        world.service.let_certificate_near_its_end()
        eventually(lambda: storage_process(world.service.data, grant.vdisk_guid) not in (None, before))

    for _ in range(10):
        stalls.append(under(guest, renew, written))
    say(request, "stall when the certificate is renewed", stalls)
    written.assert_nothing_went_wrong()


@pytest.mark.parametrize("busy", [True, False], ids=["busy", "idle"])
def test_extend(request, world, nova_driver, make_guest, make_volume, client, busy) -> None:
    grant, info = make_volume(writer() if busy else b"")
    guest, instance = make_guest(info)
    written, stalls, took = Written(world, grant), [], []
    for size in itertools.islice(itertools.count(2), 10):

        def extend(size: int = size) -> None:
            begun = time.monotonic()
            grow(client, nova_driver, grant, info, instance, size * GIB)
            took.append(time.monotonic() - begun)

        if busy:
            stalls.append(under(guest, extend, written))
        else:
            extend()
    say(request, f"extend of {'a writing' if busy else 'an idle'} guest, Cinder's and Nova's part", took)
    if busy:
        say(request, "stall by it", stalls)
        written.assert_nothing_went_wrong()


def test_host_that_is_cut_off(request, world, nova_driver, make_guest, make_volume, client) -> None:
    grant, info = make_volume(writer())
    guest, _ = make_guest(info)
    written, stalls = Written(world, grant), []
    written.wait_for_more()
    for _ in range(10):
        other = client.grants.create(grant.vdisk_guid, "another-host", grant.consumer)
        stalls.append(under(guest, lambda other=other: client.grants.revoke(other.guid), written))
    say(request, "stall when another host's grant ends", stalls)
    written.assert_nothing_went_wrong()
