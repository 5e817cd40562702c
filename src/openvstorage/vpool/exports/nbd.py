"""The NBD exports of a daemon: added, and dropped so that it is known when the last write has landed."""

from __future__ import annotations

import asyncio
import contextlib

from openvstorage.vpool.exports import command, hold, sockets
from openvstorage.vpool.exports.command import Export
from openvstorage.vpool.exports.errors import ExportConflict, NotCut, NotFenced, QmpError
from openvstorage.vpool.exports.session import DaemonSession

__all__ = ["add_export", "cut_clients", "drop_export", "exports"]

#: Seconds that a dropped export may wait for its requests before those that the limits delay are let through.
_LOOK = 0.5
#: Seconds between two looks whether connections that were cut are closed.
_CLOSED_POLL = 0.002


async def exports(daemon: DaemonSession) -> dict[str, Export]:
    """See :meth:`StorageDaemon.exports`."""
    found = (Export.from_qmp(info) for info in await daemon.execute("query-block-exports"))
    return {export.name: export for export in found if export}


async def add_export(daemon: DaemonSession, export: Export) -> None:
    """See :meth:`StorageDaemon.add_export`."""
    for info in await daemon.execute("query-block-exports"):
        present = Export.from_qmp(info)
        if present is None or present.name != export.name:
            continue
        if info["shutting-down"]:
            raise ExportConflict(name=export.name, reason="it is being deleted")
        if present != export:
            raise ExportConflict(name=export.name, reason=f"it is there as {present.id} of node {present.node}")
        return
    await daemon.execute("block-export-add", command.export_options(export))


async def drop_export(daemon: DaemonSession, name: str, timeout: float) -> None:
    """See :meth:`StorageDaemon.drop_export`."""
    try:
        # Around everything: a disk that hangs may hang the daemon's answers too.
        async with asyncio.timeout(timeout):
            await _drop(daemon, name)
    except TimeoutError:
        raise NotFenced(vdisk=daemon.vdisk, name=name, timeout=timeout) from None


async def _drop(daemon: DaemonSession, name: str) -> None:
    export = (await exports(daemon)).get(name)
    if export is None:
        return
    with daemon.monitor.events("BLOCK_EXPORT_DELETED") as events:
        # Refused only because it is being deleted already.
        with contextlib.suppress(QmpError):
            await daemon.execute("block-export-del", id=export.id, mode="hard")
        drained = False
        while name in await exports(daemon):
            async for event in events.within(_LOOK):
                if event["data"]["id"] == export.id:
                    break
            else:
                if not drained:
                    drained = True
                    await hold.drain(daemon)


async def cut_clients(daemon: DaemonSession, pidfd: int, timeout: float) -> None:
    """See :meth:`StorageDaemon.cut_clients`. QMP has no command for clients that have chosen no export yet."""
    try:
        async with asyncio.timeout(timeout):
            await _cut(daemon, pidfd)
    except TimeoutError:
        raise NotFenced(vdisk=daemon.vdisk, name="of every client", timeout=timeout) from None
    except OSError as error:
        if daemon.alive():
            raise NotCut(vdisk=daemon.vdisk, reason=error.strerror or str(error)) from None


async def _cut(daemon: DaemonSession, pidfd: int) -> None:
    pid = daemon.identity.pid
    theirs = {row.inode for row in sockets.tcp(pid) if row.state != sockets.LISTENING}
    # One that is not accepted yet has no inode, and comes to the certificates later than now.
    cut = {inode: fd for inode, fd in sockets.descriptors(pid).items() if inode in theirs}
    for inode, fd in cut.items():
        sockets.shut_down(pidfd, fd, inode)
    loop = asyncio.get_running_loop()
    begun, drained = loop.time(), False
    # QEMU closes a connection when its last request is done.
    while cut.keys() & sockets.descriptors(pid).keys():
        await asyncio.sleep(_CLOSED_POLL)
        if not drained and loop.time() - begun > _LOOK:
            drained = True
            await hold.drain(daemon)
