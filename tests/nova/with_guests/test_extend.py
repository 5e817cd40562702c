"""Volumes grow under guests that run, without an error that a guest could see."""

from __future__ import annotations

import pytest
from nova import exception
from nova.compute import power_state
from tests.nova.with_guests.world import GIB, Written, capacity, grow, state
from tests.support.libvirtd import writer

from openvstorage.nova.resume import Resumer


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
    grant, info = make_volume(writer())
    guest, instance = make_guest(info)
    written = Written(world, grant)
    written.wait_for_more()
    for size in (2, 3, 4):
        grow(client, nova_driver, grant, info, instance, size * GIB)
        assert capacity(guest, "vda") == size * GIB
        written.wait_for_more()
    assert state(guest, nova_driver) == power_state.RUNNING
    written.assert_nothing_went_wrong()


def test_guest_paused_by_its_user_is_extended(world, nova_driver, make_guest, make_volume, client) -> None:
    grant, info = make_volume(writer())
    guest, instance = make_guest(info)
    written = Written(world, grant)
    written.wait_for_more()
    guest.pause()
    grow(client, nova_driver, grant, info, instance, 2 * GIB)
    assert capacity(guest, "vda") == 2 * GIB
    assert state(guest, nova_driver) == power_state.PAUSED
    assert Resumer(nova_driver._host._uri).look() == []
    guest.resume()
    written.wait_for_more()
    written.assert_nothing_went_wrong()
