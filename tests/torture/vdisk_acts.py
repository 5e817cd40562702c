"""What an administrator does with vDisks at random, and what they have to hold afterwards."""

from __future__ import annotations

import random
import time
from typing import Any

from tests.torture.content import BLOCK
from tests.torture.image import Image
from tests.torture.steward import Steward
from tests.torture.world import Disk

from openvstorage.client import Qos

__all__ = ["clone", "create", "delete", "extend", "qos", "restart", "revoke", "rollback"]

MIB = (1 << 20) // BLOCK


def create(steward: Steward, chance: random.Random) -> None:
    """A new, empty vDisk with a writer, if there is room for one."""
    if not steward.world.promise():
        return
    try:
        number, largest = steward.world.next_number(), steward.settings.mib * MIB
        blocks = chance.randrange(largest // 3, largest)
        blocks = blocks if chance.random() < 0.3 else blocks // MIB * MIB
        name, options = f"disk-{number}", _durability(steward, chance)
        guid = steward.calls.attempt(
            "create", lambda client: client.vdisks.create(name, blocks * BLOCK, steward.pool.vpool_guid, **options)
        )
        if guid is None:
            steward.must_not_exist(name)
        else:
            steward.add(number, name, guid, Image.empty(blocks))
    finally:
        steward.world.redeem()


def _durability(steward: Steward, chance: random.Random) -> dict[str, Any]:
    asked = steward.settings.durability
    if asked == "default":
        return {}
    return {"durability": chance.choice(["acknowledged", "flushed"]) if asked == "mixed" else asked}


def clone(steward: Steward, chance: random.Random, disk: Disk) -> None:
    """A clone of a snapshot or of the present state, larger or not, if there is room for one."""
    if not steward.world.promise():
        return
    try:
        _clone(steward, chance, disk)
    finally:
        steward.world.redeem()


def _clone(steward: Steward, chance: random.Random, disk: Disk) -> None:
    snap = chance.choice(disk.snaps) if disk.snaps and chance.random() < 0.6 else None
    if snap is not None and chance.random() < 0.5:
        steward.verifier.snapshot(disk, snap)
    number = steward.world.next_number()
    name, size = f"disk-{number}", None
    blocks = snap.image.blocks if snap else disk.model.blocks
    if chance.random() < 0.3:
        blocks += chance.randrange(1, 16 * MIB)
        size = blocks * BLOCK
    options = _durability(steward, chance)
    window = disk.model.open_window()
    guid = steward.calls.attempt(
        "clone a snapshot" if snap else "clone",
        lambda client: client.vdisks.clone(disk.guid, name, snap.guid if snap else None, size, **options),
    )
    present = disk.model.close_window(window)
    if guid is None:
        steward.must_not_exist(name)
    else:
        steward.add(number, name, guid, (snap.image if snap else present).grown(blocks))


def extend(steward: Steward, chance: random.Random, disk: Disk) -> None:
    """Larger, while in use."""
    blocks = disk.model.blocks + chance.choice([1, 8 * MIB, chance.randrange(1, 4 * MIB)])
    if blocks <= 2 * steward.settings.mib * MIB:
        steward.calls.insist("extend", lambda client: client.vdisks.extend(disk.guid, blocks * BLOCK))
        disk.model.grow(blocks)


def delete(steward: Steward, chance: random.Random, disk: Disk) -> None:
    """A vDisk with its snapshots, in use or not, unless few are left."""
    if len(steward.world.disks()) <= steward.settings.vdisks // 2:
        return
    force = chance.random() < 0.5
    if force:
        disk.writer.abandon()
    else:
        steward.detach(disk)
    what = "delete, in use" if force else "delete"
    steward.calls.insist(what, lambda client: client.vdisks.delete(disk.guid, force=force), gone_is_done=True)
    steward.must_be_cut_off(disk, "its deletion")
    steward.world.remove(disk)


def rollback(steward: Steward, chance: random.Random, disk: Disk) -> None:
    """Back to a snapshot, while nobody writes."""
    if not disk.snaps:
        return
    index = chance.randrange(len(disk.snaps))
    snap, keep_newer = disk.snaps[index], chance.random() < 0.5
    if chance.random() < 0.5:
        steward.verifier.snapshot(disk, snap)
    steward.detach(disk)
    steward.calls.insist("rollback", lambda client: client.vdisks.rollback(disk.guid, snap.guid, keep_newer))
    disk.model.become(snap.image.grown(max(disk.model.blocks, snap.image.blocks)))
    if not keep_newer:
        del disk.snaps[index + 1 :]
    steward.attach(disk)


def revoke(steward: Steward, chance: random.Random, disk: Disk) -> None:
    """The grant revoked under the writer, who must be out when that returns; then another."""
    if disk.grant is None:
        return
    grant, disk.grant = disk.grant, None
    where = steward.pool.locate(grant)(False)
    disk.writer.abandon()
    steward.revoke("revoke, in use", grant)
    steward.must_be_cut_off(disk, "its grant was revoked")
    steward.must_be_out(disk, where)
    steward.attach(disk)


def restart(steward: Steward, chance: random.Random, disk: Disk) -> None:
    """A new daemon, in order: nothing may be lost by it."""
    steward.calls.insist("restart", lambda client: client.vdisks.restart(disk.guid))


def qos(steward: Steward, chance: random.Random, disk: Disk) -> None:
    """Slow for a while."""
    limits = Qos(iops_total=chance.randint(100, 1000)) if chance.random() < 0.5 else Qos(bps_write=8 << 20)
    steward.calls.insist("qos", lambda client: client.vdisks.set_qos(disk.guid, limits))
    time.sleep(chance.uniform(0.2, 2))
    steward.calls.insist("qos", lambda client: client.vdisks.set_qos(disk.guid, Qos()))
