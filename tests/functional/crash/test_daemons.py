"""SIGKILL of storage daemons under a guest that writes and flushes, while snapshots, merges and growth go on.

Requires QEMU's storage daemon; runs on every QEMU at hand. ``CRASH_ALL=1`` in the environment makes it longer.
"""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from tests.support.audit import audit, calm
from tests.support.crash import kill
from tests.support.crash_writer import SLOT, Ledger, Writer, numbers
from tests.support.engine import Engine, TaskFailed, engine
from tests.support.qemus import bin_dirs

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1200)]

ROUNDS = 300 if os.environ.get("CRASH_ALL") else 40
SLOTS = 256
SIZE = SLOTS * SLOT


@dataclass(frozen=True)
class Taken:
    """A snapshot, with what was certain when it was asked for and how far the writer was when it was there."""

    disk: int
    guid: str
    ledger: Ledger
    asked_at: int
    there_at: int

    def allows(self, slot: int, number: int) -> bool:
        """:returns: whether the snapshot may have this number in a slot."""
        return self.ledger.allows(slot, number) or self.asked_at <= number <= self.there_at


@dataclass
class Trial:
    """The vPool, its guest and its snapshots."""

    vpool: Engine
    disks: list[str]
    writer: Writer
    chance: random.Random
    snapshots: list[Taken] = field(default_factory=list)
    groups: list[tuple[Taken, Taken]] = field(default_factory=list)
    kills: int = 0
    refused: int = 0
    size: int = SIZE

    async def round(self, number: int) -> None:
        """One operation; a daemon is killed somewhere around it."""
        action = self.chance.choice([self.snapshot, self.group, self.drop, self.settle, self.extend])
        killer = asyncio.create_task(self.kill())
        try:
            await action(number)
        except TaskFailed as error:
            if "daemon" not in str(error):
                raise  # for another reason than a dead daemon
            self.refused += 1
        await killer
        await asyncio.to_thread(self.writer.wait_for, 3)

    async def kill(self) -> None:
        """Kill one of the daemons at an unforeseen moment."""
        await asyncio.sleep(self.chance.random() * 0.15)
        daemon = self.vpool.context.fleet.get(self.chance.choice(self.disks))
        if daemon is not None:
            await asyncio.to_thread(kill, daemon.identity.pid)
            self.kills += 1

    async def snapshot(self, number: int) -> None:
        disk = self.chance.randrange(len(self.disks))
        asked_at, ledgers = self.writer.ledgers()
        guid = await self.vpool.snapshot(self.disks[disk], f"s{number}")
        self.snapshots.append(Taken(disk, guid, ledgers[disk], asked_at, self.writer.ledgers()[0]))

    async def group(self, number: int) -> None:
        asked_at, ledgers = self.writer.ledgers()
        result = await self.vpool.do("snapshot.create_atomic_group", vdisk_guids=self.disks, label=f"g{number}")
        there_at = self.writer.ledgers()[0]
        pair = [Taken(disk, result[guid][1], ledgers[disk], asked_at, there_at) for disk, guid in enumerate(self.disks)]
        self.snapshots += pair
        self.groups.append((pair[0], pair[1]))

    async def drop(self, _number: int) -> None:
        if not self.snapshots:
            return
        taken = self.snapshots.pop(self.chance.randrange(len(self.snapshots)))
        self.groups = [pair for pair in self.groups if taken not in pair]
        await self.vpool.do("snapshot.delete", self.disks[taken.disk], snapshot_guid=taken.guid)

    async def settle(self, _number: int) -> None:
        await self.vpool.settle()

    async def extend(self, _number: int) -> None:
        self.size += 16 * SLOT
        for guid in self.disks:
            await self.vpool.do("vdisk.extend", guid, size=self.size)

    async def verify(self) -> None:
        """Everything that was flushed is there; a group is of one instant."""
        _, ledgers = self.writer.ledgers()
        for disk, guid in enumerate(self.disks):
            for slot, number in enumerate(await self._read(guid, None)):
                assert ledgers[disk].allows(slot, number), f"vDisk {disk}, slot {slot}: {number}, {ledgers[disk]}"
        highest = {}
        for taken in self.snapshots:
            found = await self._read(self.disks[taken.disk], taken.guid)
            for slot, number in enumerate(found):
                assert taken.allows(slot, number), f"snapshot of {taken.disk}, slot {slot}: {number}, {taken}"
            highest[taken.guid] = max(found)
        for first, second in self.groups:
            assert highest[second.guid] <= highest[first.guid], "the group has what depends on something it lacks"

    async def _read(self, guid: str, snapshot: str | None) -> list[int]:
        grant = await self.vpool.grant(guid, "verify", "ro", snapshot_guid=snapshot)
        data = await asyncio.to_thread(_read_all, grant)
        await self.vpool.revoke(grant)
        return numbers(data[:SIZE])


def _read_all(grant: dict[str, object]) -> bytes:
    from tests.support.engine import connect

    with connect(grant) as nbd:
        assert nbd.size == grant["size"]
        return nbd.read(0, nbd.size)


@pytest.mark.parametrize("qemu", bin_dirs().values(), ids=bin_dirs().keys())
async def test_no_flushed_block_is_lost_when_daemons_are_killed_again_and_again(data: Path, qemu: Path) -> None:
    async with engine(data, qemu_dir=str(qemu)) as vpool:
        disks = [await vpool.create(name, SIZE) for name in ("a", "b")]
        grants = [await vpool.grant(guid, "guest") for guid in disks]
        writer = Writer(grants, SLOTS, seed=11)
        trial = Trial(vpool, disks, writer, random.Random(12))
        writer.start()
        for number in range(ROUNDS):
            await trial.round(number)
        await asyncio.to_thread(writer.finish)
        await calm(vpool)
        await audit(vpool)
        await trial.verify()
        for grant in grants:
            await vpool.revoke(grant)
        await calm(vpool)
        await audit(vpool)  # now that nobody has the heads open they are checked too
        await trial.verify()
        assert trial.kills >= ROUNDS // 2
        assert writer.connections > trial.kills // 2
        print(
            f"{trial.kills} kills, {writer.connections} connections, {trial.refused} refused, {writer.number} numbers"
        )
