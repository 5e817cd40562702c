"""Serving a vDisk: from the model's exports and grants to running daemons with the right names, and back.

Used by every operation that needs a daemon. The caller holds the vDisk's lock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.contract.durability import Durability
from openvstorage.vpool.exports.daemon import StorageDaemon
from openvstorage.vpool.exports.errors import DaemonError, DaemonGone, ExportsError
from openvstorage.vpool.exports.identity import Identity
from openvstorage.vpool.exports.source import SOURCE
from openvstorage.vpool.model.export import Export, ExportKind, Grant, GrantMode
from openvstorage.vpool.model.vdisk import VDisk
from openvstorage.vpool.operations import admission, opening, placement
from openvstorage.vpool.operations.context import Context
from openvstorage.vpool.operations.errors import OperationError, UnknownVDisk

log = logging.getLogger(__name__)

DROP_TIMEOUT_SECONDS = 10.0
SERVED = opening.SERVED


async def grants_of(session: AsyncSession, vdisk: str) -> list[Grant]:
    """:returns: every grant of a vDisk, in whatever state, oldest first."""
    return list(await session.scalars(select(Grant).where(Grant.vdisk_guid == vdisk).order_by(Grant.created_at)))


async def _exports_of(context: Context, vdisk_guid: str) -> list[Export]:
    async with context.db.read() as session:
        return await placement.exports_of(session, vdisk_guid)


async def _sorted_by_need(context: Context, vdisk_guid: str) -> tuple[list[Export], list[Export]]:
    """:returns: the exports that a grant needs, in the order in which they can be served, and the others."""
    async with context.db.read() as session:
        exports = await placement.exports_of(session, vdisk_guid)
        of_grants = select(Grant.export_guid).where(Grant.vdisk_guid == vdisk_guid, Grant.state.in_(SERVED))
        needed = set(await session.scalars(of_grants))
    if any(export.kind == ExportKind.READER and export.guid in needed for export in exports):
        needed.add(vdisk_guid)  # a reader needs the head
    return [each for each in exports if each.guid in needed], [each for each in exports if each.guid not in needed]


# -- starting ------------------------------------------------------------------------------------------------------


async def ensure_daemon(context: Context, vdisk_guid: str) -> StorageDaemon:
    """:returns: the daemon that has the vDisk's head open, started with the names of all grants if there is none.

    :raises UnknownVDisk: it has been deleted.
    :raises ExportsError: the daemon does not start.
    """
    daemon = context.fleet.get(vdisk_guid)
    if daemon is not None:
        return daemon
    async with context.db.read() as session:
        export = await session.get(Export, vdisk_guid)
    return await _launch(context, vdisk_guid, export)


async def _ensure(context: Context, export: Export) -> StorageDaemon:
    daemon = context.fleet.get(export.guid)
    if daemon is not None and not await _reads_elsewhere(context, export, daemon):
        return daemon
    if daemon is not None:
        await end_daemon(context, export.guid)
    return await _launch(context, export.vdisk_guid, export)


async def _reads_elsewhere(context: Context, export: Export, daemon: StorageDaemon) -> bool:
    """Whether a reader's daemon opened the head at a place, or by a name, where it is not served any more."""
    node = daemon.options_of(SOURCE)
    if export.kind != ExportKind.READER or node is None:
        return False
    async with context.db.read() as session:
        head = await session.get(Export, export.vdisk_guid)
    place = (node["export"], node["server"]["host"], node["server"]["port"])
    return head is None or place != (export.source_name, head.address, str(head.port))


async def _launch(context: Context, vdisk_guid: str, export: Export | None) -> StorageDaemon:
    """Start a daemon. The new epoch is committed before the process is started, and the process carries it: whatever is
    found later with another epoch is of another time."""
    guid = vdisk_guid if export is None else export.guid
    vdisk, export = await _next_epoch(context, vdisk_guid, export)
    if export is not None:
        export = await placement.listen(context, export)
    async with opening.opening(context, vdisk, export) as opened:
        served = [] if export is None else await opening.served(context, export.guid)
        daemon = await context.fleet.launch(
            guid,
            vdisk=vdisk_guid,
            epoch=vdisk.owner_epoch,
            blockdevs=opened.blockdevs,
            top=opened.top,
            limits=opened.limits,
            listens=export is not None,
            exports=[each.export for each in served],
            admitted=[] if export is None else await admission.admitted(context, export.guid),
            objects=opened.objects,
        )
    if export is not None:
        await record_identity(context, guid, daemon.identity)
    return daemon


async def _next_epoch(context: Context, vdisk_guid: str, export: Export | None) -> tuple[VDisk, Export | None]:
    """Begin an epoch. If the last one may have cost writes that were acknowledged, nobody comes back to it."""
    async with context.db.write() as session:
        vdisk = await session.get(VDisk, vdisk_guid)
        if vdisk is None or vdisk.backend_ref is None:
            raise UnknownVDisk(guid=vdisk_guid)
        vdisk.owner_epoch += 1
        if export is None:
            return vdisk, None
        export = await session.get_one(Export, export.guid)
        if export.kind == ExportKind.HEAD and export.unclean and export.durability != Durability.ACKNOWLEDGED:
            await _cut_off(session, export)
        export.epoch, export.pid, export.unclean = vdisk.owner_epoch, None, True
        is_written = export.kind == ExportKind.HEAD
        export.durability = opening.durability_of(context, vdisk) if is_written else Durability.ACKNOWLEDGED
    return vdisk, export


async def _cut_off(session: AsyncSession, head: Export) -> None:
    """The death of a head's daemon is a power cut for its clients too: give every export of what was written there
    another name. A client that went on would take lost writes for kept, since its next flush succeeds."""
    readers = list(
        await session.scalars(
            select(Export).where(Export.vdisk_guid == head.vdisk_guid, Export.kind == ExportKind.READER)
        )
    )
    for reader in readers:
        reader.source_name = placement.new_name(head.vdisk_guid)
    of_head = Grant.export_guid.in_([head.guid, *(reader.guid for reader in readers)])
    grants = list(await session.scalars(select(Grant).where(of_head, Grant.snapshot_guid.is_(None))))
    for grant in grants:
        grant.export_name, grant.cut_off_at = placement.new_name(head.vdisk_guid), time.time()
        log.error(
            "vDisk %s: its storage daemon died, and what %s on %s had written without a flush may be lost: it is not "
            "let in again before it starts anew (an instance: hard reboot)",
            *(head.vdisk_guid, grant.consumer, grant.client),
        )


async def record_identity(context: Context, guid: str, identity: Identity) -> None:
    """Keep which process serves an export."""
    async with context.db.write() as session:
        await session.execute(
            update(Export)
            .where(Export.guid == guid)
            .values(pid=identity.pid, start_time=identity.start_time, boot_id=identity.boot_id)
        )


async def is_outdated(context: Context, vdisk_guid: str) -> bool:
    """:returns: whether a head's daemon treats writes otherwise than the vDisk is to have it; not if there is none."""
    async with context.db.read() as session:
        export, vdisk = await session.get(Export, vdisk_guid), await session.get(VDisk, vdisk_guid)
    if export is None or vdisk is None or context.fleet.get(vdisk_guid) is None:
        return False
    return export.durability != opening.durability_of(context, vdisk)


async def outdated(context: Context, *, spare_copies: bool) -> list[str]:
    """:returns: guids of vDisks for whose heads :func:`is_outdated`.

    :param spare_copies: leave out those that a copy is read from or written to, which can not go on over a new
        connection.
    """
    async with context.db.read() as session:
        heads = await session.execute(
            select(Export, VDisk).join(VDisk, VDisk.guid == Export.guid).where(Export.kind == ExportKind.HEAD)
        )
        found = [
            export.guid
            for export, vdisk in heads
            if context.fleet.get(export.guid) is not None and export.durability != opening.durability_of(context, vdisk)
        ]
        copies = (Grant.mode == GrantMode.READ_ONLY) | Grant.deadline.is_not(None)
        spared = set(await session.scalars(select(Grant.export_guid).where(copies))) if spare_copies else set()
    return [guid for guid in found if guid not in spared]


async def is_running(context: Context, session: AsyncSession, vdisk_guid: str) -> bool:
    """:returns: whether any daemon of a vDisk lives."""
    guids = {vdisk_guid, *(export.guid for export in await placement.exports_of(session, vdisk_guid))}
    return any(context.fleet.get(guid) is not None for guid in guids)


# -- opening -------------------------------------------------------------------------------------------------------


async def is_served(context: Context, vdisk_guid: str) -> bool:
    """:returns: whether daemons run in which every client with a grant finds its export."""
    needed, _ = await _sorted_by_need(context, vdisk_guid)
    for export in needed:
        daemon = context.fleet.get(export.guid)
        if daemon is None or await _reads_elsewhere(context, export, daemon):
            return False
        wanted = {each.export.name for each in await opening.served(context, export.guid)}
        try:
            if not wanted <= set(await daemon.exports()):
                return False
        except DaemonGone:
            return False
    return True


async def open_exports(context: Context, vdisk_guid: str) -> None:
    """Let every client with a grant of a vDisk in, and nobody else; repeating it is harmless.

    What can not be served keeps nothing else from being served, except what reads it.

    :raises ExportsError, OperationError: the first failure.
    """
    failures: dict[str, Exception] = {}
    needed, _ = await _sorted_by_need(context, vdisk_guid)
    for export in needed:
        if export.kind == ExportKind.READER and vdisk_guid in failures:
            continue
        try:
            await _open(context, export)
        except (ExportsError, OperationError) as error:
            log.error("vDisk %s: its %s can not be served: %s", vdisk_guid, export.kind, error)
            failures[export.guid] = error
    for failure in failures.values():
        raise failure


async def open_for(context: Context, export_guid: str) -> None:
    """:func:`open_exports` for one export, and for the head too if that is what it reads."""
    async with context.db.read() as session:
        export = await session.get(Export, export_guid)
        head = await session.get(Export, export.vdisk_guid) if export is not None else None
    if export is None:
        return
    if export.kind == ExportKind.READER and head is not None:
        await _open(context, head)
    await _open(context, export)


async def _open(context: Context, export: Export) -> None:
    """Serve an export. A head's daemon may have to open layers that an older version gave somebody to read there."""
    daemon = await _ensure(context, export)
    await admission.admit(context, daemon)
    served = await opening.served(context, export.guid)
    for name in set(await daemon.exports()) - {each.export.name for each in served}:
        await daemon.drop_export(name, DROP_TIMEOUT_SECONDS)
    for each in served:
        if each.ref is not None:
            await _open_beside(context, daemon, each.ref)
        await daemon.add_export(each.export)


async def _open_beside(context: Context, daemon: StorageDaemon, ref: str) -> None:
    async with context.backend.opening(ref, read_only=True) as spec:
        for blockdev in spec.blockdevs:
            if not await daemon.node_exists(str(blockdev["node-name"])):
                await daemon.execute("blockdev-add", blockdev)


async def reopen_exports(context: Context, vdisk_guid: str) -> None:
    """:func:`open_exports` for those who were dropped for a moment; a daemon that can not is replaced."""
    try:
        await open_exports(context, vdisk_guid)
    except ExportsError as error:
        await replace_daemon(context, vdisk_guid, f"it does not let its clients in again: {error}")


# -- closing -------------------------------------------------------------------------------------------------------


async def end_daemon(context: Context, guid: str, *, kill: bool = False) -> None:
    """End the daemon of an export; its listening socket stays open for the next one. Nothing to end is fine.

    :raises NotFenced: it does not die.
    """
    if not await context.fleet.stop_daemon(guid, kill=kill):
        return
    async with context.db.write() as session:
        await session.execute(update(Export).where(Export.guid == guid).values(unclean=False, pid=None))


async def end_daemons(context: Context, vdisk_guid: str, exports: Sequence[str] | None = None) -> None:
    """:func:`end_daemon` for these exports of a vDisk; for all of them, and for a head that nobody is served, with
    None."""
    if exports is None:
        exports = [*reversed([export.guid for export in await _exports_of(context, vdisk_guid)]), vdisk_guid]
    for guid in exports:
        await end_daemon(context, guid)


async def end_readers(context: Context, vdisk_guid: str) -> None:
    """End the daemon that reads the head, such as after the head has another size."""
    for export in await _exports_of(context, vdisk_guid):
        if export.kind == ExportKind.READER:
            await end_daemon(context, export.guid)


async def close_head_exports(context: Context, vdisk_guid: str) -> None:
    """Drop every client of the vDisk itself, not those of its snapshots. Their grants stay; they may reconnect once
    :func:`open_exports` has run."""
    for each in await opening.served(context, vdisk_guid):
        if each.ref is None:
            await drop(context, vdisk_guid, each.export.name)


async def replace_daemon(context: Context, guid: str, reason: str) -> None:
    """End a daemon that does not do what it is told, and ask for the next one. Nothing is written when this returns."""
    async with context.db.read() as session:
        export = await session.get(Export, guid)
    vdisk = guid if export is None else export.vdisk_guid
    log.warning("vDisk %s: its storage daemon is replaced: %s", vdisk, reason)
    await end_daemon(context, guid)
    context.respawn(vdisk)


async def drop(context: Context, export_guid: str, name: str, certificate_name: str | None = None) -> None:
    """Drop a client for good: when this returns it can not write any more, if need be because the daemon was killed.

    :param name: of the NBD export that is its own.
    :param certificate_name: given when a grant ends: whose. A storage daemon checks hosts, not what they open, so
        that host may be connected to exports of the others, too. If it has no other grant there, everybody is
        disconnected, and those who are still let in connect again.
    :raises NotFenced: the daemon can not be killed either.
    """
    daemon = context.fleet.get(export_guid)
    if daemon is None:
        return
    try:
        await admission.admit(context, daemon)
        await daemon.drop_export(name, DROP_TIMEOUT_SECONDS)
        if certificate_name is not None and await admission.is_last_of_host(context, export_guid, certificate_name):
            await daemon.cut_clients(DROP_TIMEOUT_SECONDS)
        return
    except DaemonGone:
        log.info("%s: its daemon died before the client was dropped", export_guid)
        return
    except DaemonError as error:
        log.warning("%s: a client can not be dropped, the daemon is killed: %s", export_guid, error)
    await end_daemon(context, export_guid, kill=True)


async def close_if_unused(context: Context, vdisk_guid: str) -> None:
    """Stop the daemons and free the ports that no grant needs; ask for daemons where one is needed and missing."""
    needed, unused = await _sorted_by_need(context, vdisk_guid)
    for export in reversed(unused):
        await context.fleet.stop(export.guid)
        if export.kind != ExportKind.HEAD:
            context.fleet.drop_log(export.guid)
    serves_head = any(export.kind == ExportKind.HEAD for export in needed)
    if not serves_head:
        await context.fleet.stop(vdisk_guid)  # one that a merge has started serves nobody
    if unused:
        async with context.db.write() as session:
            await session.execute(delete(Export).where(Export.guid.in_([export.guid for export in unused])))
    if any(context.fleet.get(export.guid) is None for export in needed):
        context.respawn(vdisk_guid)
    elif serves_head and any(export.kind == ExportKind.READER for export in unused):
        await reopen_exports(context, vdisk_guid)  # the head need not let the reader in any more


async def close_unread(context: Context, vdisk_guid: str) -> None:
    """Let the head's daemon close layers that were open only for somebody whom an older version let read there."""
    daemon = context.fleet.get(vdisk_guid)
    if daemon is None:
        return
    async with context.db.read() as session:
        vdisk = await session.get(VDisk, vdisk_guid)
    if vdisk is not None and vdisk.backend_ref is not None:
        await context.backend.prune(daemon, vdisk.backend_ref)


async def is_read(context: Context, refs: set[str]) -> bool:
    """:returns: whether a daemon that serves a snapshot or a vTemplate has one of these layers open."""
    async with context.db.read() as session:
        exports = list(await session.scalars(select(Export).where(Export.kind != ExportKind.HEAD)))
    for export in exports:
        daemon = context.fleet.get(export.guid)
        if daemon is None:
            continue
        if any(daemon.options_of(context.backend.node_of(ref)) is not None for ref in refs):
            return True
    return False
