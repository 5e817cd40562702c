"""Snapshots of several vDisks at one instant, taken from under a client that writes to all of them."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from tests.support.engine import Engine, connect, engine
from tests.support.nbd import NbdClient

BLOCK = 4096


class DependentWriter:
    """Writes ever higher numbers: twice to A, then to B, each when the one before was acknowledged."""

    def __init__(self, first: NbdClient, second: NbdClient) -> None:
        self._clients = (first, first, second)
        self.count = 0

    async def run(self) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                for client in self._clients:
                    await client.write(0, self.count.to_bytes(8, "big") * (BLOCK // 8))
                    self.count += 1

    async def advance(self, by: int) -> None:
        goal = self.count + by
        while self.count < goal:
            await asyncio.sleep(0.005)


async def number_in(vpool: Engine, vdisk: str, snapshot: str) -> int:
    grant = await vpool.grant(vdisk, consumer="look", mode="ro", snapshot_guid=snapshot)
    with connect(grant) as nbd:
        return int.from_bytes(nbd.read(0, 8), "big")


async def test_a_group_snapshot_is_a_moment_in_the_history_of_dependent_writes(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        vdisks = [await vpool.create(name) for name in ("a", "b")]
        grants = [await vpool.grant(vdisk) for vdisk in vdisks]
        clients = [await NbdClient.connect(grant["port"], grant["export_name"]) for grant in grants]
        writer = DependentWriter(*clients)
        writing = asyncio.create_task(writer.run())
        groups = []
        for turn in range(12):
            await writer.advance(20)
            # whichever is cut first, the other goes on being written meanwhile
            order = vdisks if turn % 2 else vdisks[::-1]
            result = await vpool.do("snapshot.create_atomic_group", vdisk_guids=order, label=str(turn))
            groups.append([result[vdisk][1] for vdisk in vdisks])
        for client in clients:
            await client.close()
        await writing
        for turn, snapshots in enumerate(groups):
            a, b = [await number_in(vpool, *pair) for pair in zip(vdisks, snapshots, strict=True)]
            # the numbers of A are 0, 1, 3, 4, 6, 7 and so on, those of B 2, 5, 8
            assert b in ((a - 1,) if a % 3 == 0 else (a - 2, a + 1)), f"group {turn}: A has {a}, B has {b}"
