"""Limits: those that the hypervisor keeps, and those that the storage keeps and a retype changes."""

from __future__ import annotations

import time

from nova.compute import power_state
from tests.nova.with_guests.world import Written, eventually, state
from tests.support.libvirtd import writer

from openvstorage.client import Qos


def test_limits_of_the_front_end_reach_libvirt_and_qemu(world, nova_driver, make_guest, make_volume) -> None:
    grant, info = make_volume(writer())
    info["data"]["qos_specs"] = {"total_iops_sec": "20", "read_bytes_sec": "1048576"}
    guest, _ = make_guest(info)
    limits = guest._domain.blockIoTune("vda")
    assert (limits["total_iops_sec"], limits["read_bytes_sec"]) == (20, 1048576)
    Written(world, grant).wait_for_more()
    assert keeps_to(20, guest, seconds=3)


def test_limits_of_the_back_end_change_under_a_running_guest(
    world, nova_driver, make_guest, make_volume, client
) -> None:
    """What our Cinder driver does when a volume in use is retyped."""
    grant, info = make_volume(writer())
    guest, _ = make_guest(info)
    written = Written(world, grant)
    written.wait_for_more()
    client.vdisks.set_qos(grant.vdisk_guid, Qos(iops_total=20))
    assert keeps_to(20, guest, seconds=3)
    client.vdisks.set_qos(grant.vdisk_guid, Qos())
    eventually(lambda: not keeps_to(20, guest, seconds=5))
    assert state(guest, nova_driver) == power_state.RUNNING
    written.assert_nothing_went_wrong()


def keeps_to(limit: int, guest, seconds: int) -> bool:
    """Tell whether the guest writes no more than so often a second, and two seconds' worth at once."""
    since, before = time.monotonic(), guest._domain.blockStats("vda")[2]
    time.sleep(seconds)
    written = guest._domain.blockStats("vda")[2] - before
    return written < (time.monotonic() - since + 2) * limit
