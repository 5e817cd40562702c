"""Reading at random: vDisks and snapshots whole, and parts of vDisks beside their writers."""

from __future__ import annotations

import random
import time

from tests.torture.connection import Connection, Ended, Hung, NotLetIn
from tests.torture.content import recognise
from tests.torture.judge import tell
from tests.torture.pool import HOST
from tests.torture.steward import Steward
from tests.torture.world import Disk

__all__ = ["read_only", "verify", "verify_snapshot"]


def verify_snapshot(steward: Steward, chance: random.Random, disk: Disk) -> None:
    """One snapshot, whole."""
    if disk.snaps:
        steward.verifier.snapshot(disk, chance.choice(disk.snaps))


def verify(steward: Steward, chance: random.Random, disk: Disk) -> None:
    """The vDisk, whole."""
    if disk.grant is not None:
        steward.verifier.head(disk)


def read_only(steward: Steward, chance: random.Random, disk: Disk) -> None:
    """A second, read-only grant of a vDisk in use, and reads through it beside the writes."""
    consumer = steward.label("reader")
    grant = steward.calls.insist(
        "grant read-only", lambda client: client.grants.create(disk.guid, HOST, consumer, "ro")
    )
    if grant is None:
        return
    where = steward.pool.locate(grant)
    for _ in range(chance.randint(1, 30)):
        try:
            connection = Connection(where(True), 30)
        except (NotLetIn, Hung):
            time.sleep(0.2)
            continue
        try:
            _read_beside(steward, chance, disk, connection)
            break
        except (Ended, Hung):
            time.sleep(0.2)
        finally:
            connection.close()
    steward.revoke("revoke read-only", grant)
    steward.must_be_out(disk, where(False))


def _read_beside(steward: Steward, chance: random.Random, disk: Disk, connection: Connection) -> None:
    if connection.refuses_writes() is False:
        text = f"{disk.name}: a write through a read-only grant was accepted"
        steward.report.violated("read-only", text, vdisk=disk.name)
    for _ in range(chance.randint(10, 60)):
        first = chance.randrange(min(connection.blocks, disk.model.blocks))
        count = min(chance.choice([1, 8, 128, 1024]), connection.blocks - first, disk.model.blocks - first)
        _read_part(steward, disk, connection, first, count)


def _read_part(steward: Steward, disk: Disk, connection: Connection, first: int, count: int) -> None:
    got: list[tuple[int | None, bytearray]] = []
    window = disk.model.open_window(first, count)
    try:
        connection.read(first, count, lambda code, data: got.append((code, data)))
        connection.finish()
    finally:
        image = disk.model.close_window(window)
    code, data = got[0]
    if code is None:
        raise Ended("in the middle of a read")
    if code:
        steward.report.violated("request failed", f"{disk.name}: a read-only read: errno {code}")
        return
    wrong = image.compare(recognise(data, first), first)
    # QEMU empties a cluster before it writes to it, under the eyes of whoever reads just then.
    wrong = [one for one in wrong if one.found or not window.is_under_a_write(one.block)]
    tell(steward.report, f"{disk.name} (read-only)", wrong, disk.model.history_of)
    steward.report.count("blocks compared", "read-only beside writes", count)
