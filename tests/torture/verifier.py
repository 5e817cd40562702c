"""Verifying snapshots through exports of their own, block by block, at any time: a snapshot never changes."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tests.torture.calls import Calls
from tests.torture.connection import Connection, Ended, Hung, Location, NotLetIn
from tests.torture.content import Values
from tests.torture.judge import read_blocks, tell
from tests.torture.pool import HOST
from tests.torture.world import Disk, Snap, World
from tests.torture.writer import CONNECT_SECONDS, Locate

__all__ = ["Verifier"]

_PIECE = 1 << 15


class Verifier:
    """See above. Its methods may run in many threads, but not two for one snapshot."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._pool = calls.pool
        self._report = calls.report

    def snapshot(self, disk: Disk, snap: Snap) -> None:
        """Grant, read, compare, revoke. The caller holds the vDisk."""
        consumer = f"verify-{snap.guid}"
        grant = self._calls.insist(
            "grant a snapshot",
            lambda client: client.grants.create(disk.guid, HOST, consumer, "ro", snapshot_guid=snap.guid),
        )
        if grant is None:
            return
        kept: dict[int, bytes] = {}
        locate = self._pool.locate(grant)
        values = self.read(f"{disk.name}@{snap.label}", locate, snap.image.blocks, kept)
        if values is not None:
            self.compare(disk, snap, values, kept)
        self._calls.insist(
            "revoke a snapshot's grant", lambda client: client.grants.revoke(grant.guid), gone_is_done=True
        )

    def compare(self, disk: Disk, snap: Snap, values: Values, kept: dict[int, bytes]) -> None:
        """Compare what was read, block by block, and hold the snapshot to it from now on."""
        where = f"{disk.name}@{snap.label}"
        wrong = snap.image.compare(values, 0, cut=snap.cut, disk=disk.name, keep=True)
        tell(self._report, where, wrong, disk.model.history_of, kept)
        self._report.count("blocks compared", "snapshots, whole", len(values))
        if snap.cut is not None and (text := snap.cut.contradiction()):
            self._report.violated("snapshot not of one instant", f"{where}: {text}", vdisk=where)

    def read(self, what: str, locate: Locate, blocks: int, kept: dict[int, bytes]) -> Values | None:
        """Read an export whole, over as many connections as it takes. :returns: None when it could not be read."""
        pieces: list[Values] = []
        at, anew, waited = 0, False, time.monotonic()
        while at < blocks or not blocks:
            try:
                connection = Connection(locate(anew), 30)
            except (NotLetIn, Hung, OSError) as error:
                anew = True
                if time.monotonic() - waited > CONNECT_SECONDS:
                    self._report.violated(
                        "hang", f"{what}: not served for {CONNECT_SECONDS:.0f} s: {error}", vdisk=what
                    )
                    return None
                time.sleep(0.1)
                continue
            try:
                if connection.blocks != blocks:
                    text = f"{what}: the export has {connection.blocks} blocks, not {blocks}"
                    self._report.violated("size", text, vdisk=what)
                    return None
                if not at and connection.refuses_writes() is False:
                    self._report.violated("read-only", f"{what}: a write was accepted", vdisk=what)
                while at < blocks:
                    end = min(blocks, at + _PIECE)
                    pieces.append(read_blocks(connection, at, end, kept))
                    at, waited = end, time.monotonic()
            except Ended:
                anew = True
                self._report.count("connections", "readers cut off")
            except (Hung, OSError) as error:
                self._report.violated("reading", f"{what}: {error}", vdisk=what)
                return None
            finally:
                connection.close()
        return np.concatenate(pieces)

    def everything(self, world: World) -> None:
        """All vDisks and all their snapshots, while nobody manages them. Writers are quiet afterwards."""
        disks = world.disks()
        for disk in disks:
            if disk.grant is not None:
                disk.writer.quiet(True)
        with ThreadPoolExecutor(max_workers=3) as threads:
            for done in [threads.submit(self._whole, disk) for disk in disks]:
                done.result()

    def _whole(self, disk: Disk) -> None:
        for snap in list(disk.snaps):
            self.snapshot(disk, snap)
        if disk.grant is not None:
            self.head(disk)

    def head(self, disk: Disk) -> None:
        """The vDisk itself, by its writer, who stops for it."""
        self._calls.wait(f"{disk.name} is verified", disk.writer.verify())


def refused(location: Location) -> bool:
    """:returns: whether an export that was revoked lets nobody in any more."""
    try:
        connection = Connection(location, 2)
    except (NotLetIn, Hung, OSError):
        return True
    connection.close()
    return False
