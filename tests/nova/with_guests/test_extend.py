"""Volumes grow under guests that run, without an error that a guest could see."""

from __future__ import annotations

import copy
import os
import subprocess
from pathlib import Path

import pytest
from nova.compute import power_state
from tests.nova.with_guests.world import GIB, MIB, World, Written, capacity, eventually, grow, state
from tests.support.libvirtd import writer

from openvstorage.client import Grant
from openvstorage.edge import qemu_img
from openvstorage.nova.resume import Resumer

PASSPHRASE = "a passphrase"


def test_idle_guest_is_extended(world, nova_driver, make_guest, make_volume, client) -> None:
    grant, info = make_volume()
    guest, instance = make_guest(info)
    for size in (2, 3, 4):
        grow(client, nova_driver, grant, info, instance, size * GIB)
        assert capacity(guest, "vda") == size * GIB
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


@pytest.mark.parametrize("boot_sector", [b"", writer()], ids=["idle", "writing"])
def test_encrypted_volume_of_a_guest_is_extended(
    world, nova_driver, make_guest, make_volume, client, tmp_path, boot_sector
) -> None:
    grant, info = make_volume()
    info["data"]["encrypted"] = True
    header = encrypt(world, grant, tmp_path, boot_sector)
    nova_driver._host.create_secret("volume", info["data"]["volume_id"], password=PASSPHRASE)
    guest, instance = make_guest(info)
    assert capacity(guest, "vda") == GIB - header
    writes = guest._domain.blockStats("vda")[2]
    for size in (2, 3):
        # Nova reads what it hands over from its database each time.
        grow(client, nova_driver, grant, copy.deepcopy(info), instance, size * GIB)
        assert capacity(guest, "vda") == size * GIB - header
    if boot_sector:
        eventually(lambda: guest._domain.blockStats("vda")[2] > writes + 50)
    assert state(guest, nova_driver) == power_state.RUNNING


def encrypt(world: World, grant: Grant, directory: Path, boot_sector: bytes) -> int:
    """Make a volume a LUKS disk with a boot sector; gives the size of its header."""
    (directory / "passphrase").write_text(PASSPHRASE)
    header = directory / "disk"
    qemu_img.create_luks_header(
        header, cipher=qemu_img.LuksCipher("aes-256", "xts", "plain64"), passphrase_file=directory / "passphrase"
    )
    size = header.stat().st_size
    os.truncate(header, size + MIB)
    secret = ["--object", f"secret,id=luks,file={directory / 'passphrase'}"]
    disk = f"driver=luks,key-secret=luks,file.filename={header}"
    (directory / "boot").write_bytes(boot_sector.ljust(512, b"\0"))
    command = ["qemu-io", *secret, "--image-opts", disk, "-c", f"write -s {directory / 'boot'} 0 512"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with world.open(grant) as nbd:
        nbd.write(0, header.read_bytes())
        nbd.flush()
    return size
