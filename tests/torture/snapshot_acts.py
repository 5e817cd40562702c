"""Snapshots at random: taken, taken together, deleted so that layers are merged."""

from __future__ import annotations

import random
from collections.abc import Sequence

from tests.torture.image import Cut
from tests.torture.steward import Steward
from tests.torture.world import Disk, Snap

__all__ = ["delete_some", "group", "snapshot"]

#: Snapshots that a vDisk has at most; then one is deleted first.
MOST_SNAPS = 5


def snapshot(steward: Steward, chance: random.Random, disk: Disk) -> None:
    """Of one vDisk."""
    _make_room(steward, chance, disk)
    label = steward.label("snap")
    window = disk.model.open_window()
    guid = steward.calls.attempt("snapshot", lambda client: client.snapshots.create(disk.guid, label))
    image = disk.model.close_window(window)
    if guid is None:
        steward.must_have_no(disk, label)
    else:
        disk.snaps.append(Snap(guid, label, image, None if window.killed else Cut()))


def group(steward: Steward, chance: random.Random, disks: Sequence[Disk]) -> None:
    """Of several vDisks, of one instant."""
    if len(disks) < 2:
        return
    for disk in disks:
        _make_room(steward, chance, disk)
    label, members = steward.label("group"), [disk.guid for disk in disks]
    windows = [disk.model.open_window() for disk in disks]
    guids = steward.calls.attempt(
        "group snapshot", lambda client: client.snapshots.create_group(steward.pool.vpool_guid, members, label)
    )
    images = [disk.model.close_window(window) for disk, window in zip(disks, windows, strict=True)]
    cut = None if any(window.killed for window in windows) else Cut()
    for disk, image in zip(disks, images, strict=True):
        if guids is None:
            steward.must_have_no(disk, label)
        else:
            disk.snaps.append(Snap(guids[disk.guid], label, image, cut))


def delete_some(steward: Steward, chance: random.Random, disk: Disk) -> None:
    """One to three."""
    for _ in range(chance.randint(1, 3)):
        if disk.snaps:
            _delete(steward, disk, chance.choice(disk.snaps))


def _make_room(steward: Steward, chance: random.Random, disk: Disk) -> None:
    while len(disk.snaps) >= MOST_SNAPS:
        _delete(steward, disk, chance.choice(disk.snaps))


def _delete(steward: Steward, disk: Disk, snap: Snap) -> None:
    steward.calls.insist(
        "delete snapshot", lambda client: client.snapshots.delete(disk.guid, snap.guid), gone_is_done=True
    )
    disk.snaps.remove(snap)
