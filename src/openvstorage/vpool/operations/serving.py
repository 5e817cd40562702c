"""Serving a vDisk: from the model's export and grants to a running daemon with the right exports, and back.

Used by every operation that needs a daemon. The caller holds the vDisk's lock.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence
from contextlib import AsyncExitStack

from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.config import is_loopback
from openvstorage.vpool.exports.command import TOP
from openvstorage.vpool.exports.command import Export as NbdExport
from openvstorage.vpool.exports.daemon import StorageDaemon
from openvstorage.vpool.exports.errors import DaemonError, DaemonGone, ExportsError
from openvstorage.vpool.exports.identity import Identity
from openvstorage.vpool.exports.limits import Limits
from openvstorage.vpool.model.export import Export, Grant, GrantMode
from openvstorage.vpool.model.vdisk import Snapshot, VDisk
from openvstorage.vpool.operations import admission
from openvstorage.vpool.operations.context import Context
from openvstorage.vpool.operations.errors import NoPort, UnknownVDisk

log = logging.getLogger(__name__)

DROP_TIMEOUT_SECONDS = 10.0
SERVED = admission.ADMITTED


async def grants_of(session: AsyncSession, vdisk: str) -> list[Grant]:
    """:returns: every grant of a vDisk, in whatever state, oldest first."""
    return list(await session.scalars(select(Grant).where(Grant.vdisk_guid == vdisk).order_by(Grant.created_at)))


async def reserve_export(context: Context, session: AsyncSession, vdisk: VDisk) -> Export:
    """Find or make the export row of a vDisk; its port stays the same for as long as grants exist.

    :raises NoPort: the range is exhausted.
    """
    export = await session.get(Export, vdisk.guid)
    if export is None:
        port = await _free_port(context, session, vdisk.guid)
        export = Export(vdisk_guid=vdisk.guid, node_guid=context.node.guid, address=context.node.address, port=port)
        session.add(export)
        await session.flush()
    return export


async def _free_port(context: Context, session: AsyncSession, vdisk_guid: str) -> int:
    """Find a port that neither another vDisk nor another process has, and listen there.

    Where the search begins depends on the vDisk, so that several pools on one machine rarely meet.
    """
    node = context.node
    taken = set((await session.scalars(select(Export.port).where(Export.address == node.address))).all())
    ports: Sequence[int] = range(node.first_port, node.last_port + 1)
    start: int = zlib.crc32(vdisk_guid.encode()) % len(ports)
    for port in (*ports[start:], *ports[:start]):
        if port not in taken and context.fleet.listen(vdisk_guid, node.address, port):
            return port
    raise NoPort(first=node.first_port, last=node.last_port)


async def ensure_daemon(context: Context, vdisk_guid: str) -> StorageDaemon:
    """:returns: the vDisk's daemon, started with the exports of all its grants if there is none.

    The new epoch is committed before the process is started, and the process carries it: whatever is found later with
    another epoch is of another time.

    :raises UnknownVDisk: it has been deleted.
    :raises ExportsError: the daemon does not start.
    """
    daemon = context.fleet.get(vdisk_guid)
    if daemon is not None:
        return daemon
    vdisk, export = await _next_epoch(context, vdisk_guid)
    if export is not None and not _listen(context, export):
        export = await _move_export(context, vdisk_guid)
    grants = await _served_grants(context, vdisk_guid)
    async with AsyncExitStack() as stack:
        opening = context.backend.opening
        head = await stack.enter_async_context(opening(str(vdisk.backend_ref), read_only=vdisk.is_vtemplate))
        specs = [head]
        for _, ref in grants:
            if ref is not None:
                specs.append(await stack.enter_async_context(opening(ref, read_only=True)))
        nodes = {str(node["node-name"]): node for spec in reversed(specs) for node in spec.blockdevs}
        ordered = {str(node["node-name"]): None for spec in specs for node in spec.blockdevs}
        daemon = await context.fleet.launch(
            vdisk_guid,
            epoch=vdisk.owner_epoch,
            blockdevs=[nodes[name] for name in ordered],
            top=head.top,
            limits=Limits(**vdisk.qos),
            listens=export is not None,
            exports=[_nbd_export(context, grant, ref) for grant, ref in grants],
            admitted=admission.admitted(grant for grant, _ in grants),
        )
    if export is not None:
        await record_identity(context, vdisk_guid, daemon.identity)
    return daemon


async def _next_epoch(context: Context, vdisk_guid: str) -> tuple[VDisk, Export | None]:
    async with context.db.write() as session:
        vdisk = await session.get(VDisk, vdisk_guid)
        export = await session.get(Export, vdisk_guid)
        if vdisk is None or vdisk.backend_ref is None:
            raise UnknownVDisk(guid=vdisk_guid)
        vdisk.owner_epoch += 1
        if export is not None:
            export.epoch, export.pid = vdisk.owner_epoch, None
    return vdisk, export


def _listen(context: Context, export: Export) -> bool:
    """Listen where the vDisk was served before, unless that would now be without TLS where others can reach it."""
    if context.fleet.tls is None and not is_loopback(export.address):
        return False
    return context.fleet.listen(export.vdisk_guid, export.address, export.port)


async def _move_export(context: Context, vdisk_guid: str) -> Export:
    """The vDisk can not be served where it was, such as when another process has taken the port while nothing of ours
    listened: clients ask again where it is."""
    async with context.db.write() as session:
        export = await session.get_one(Export, vdisk_guid)
        before = f"{export.address} port {export.port}"
        export.port = await _free_port(context, session, vdisk_guid)
        export.address = context.node.address
    log.warning("vDisk %s: not %s, but %s port %d", vdisk_guid, before, export.address, export.port)
    return export


async def record_identity(context: Context, vdisk_guid: str, identity: Identity) -> None:
    """Keep which process serves a vDisk."""
    async with context.db.write() as session:
        await session.execute(
            update(Export)
            .where(Export.vdisk_guid == vdisk_guid)
            .values(pid=identity.pid, start_time=identity.start_time, boot_id=identity.boot_id)
        )


async def _served_grants(context: Context, vdisk_guid: str) -> list[tuple[Grant, str | None]]:
    """:returns: grants that are to be served, each with the reference of its snapshot if it is for one."""
    async with context.db.read() as session:
        rows = await session.execute(
            select(Grant, Snapshot.backend_ref)
            .outerjoin(Snapshot, Snapshot.guid == Grant.snapshot_guid)
            .where(Grant.vdisk_guid == vdisk_guid, Grant.state.in_(SERVED))
            .order_by(Grant.created_at)
        )
        return [(grant, ref) for grant, ref in rows]


def _nbd_export(context: Context, grant: Grant, ref: str | None) -> NbdExport:
    node = TOP if ref is None else context.backend.node_of(ref)
    writable = grant.mode == GrantMode.READ_WRITE
    return NbdExport(grant.export_name, writable, node, write_through=context.node.write_through)


async def is_served(context: Context, vdisk_guid: str) -> bool:
    """:returns: whether a daemon runs in which every client with a grant finds its export."""
    daemon = context.fleet.get(vdisk_guid)
    if daemon is None:
        return False
    wanted = {grant.export_name for grant, _ in await _served_grants(context, vdisk_guid)}
    try:
        return wanted <= set(await daemon.exports())
    except DaemonGone:
        return False


async def open_exports(context: Context, vdisk_guid: str) -> None:
    """Let every client with a grant in, and nobody else; repeating it is harmless.

    For a snapshot's grant the layers that the daemon does not have open yet are opened first.
    """
    daemon = await ensure_daemon(context, vdisk_guid)
    await admission.admit(context, daemon)
    grants = await _served_grants(context, vdisk_guid)
    for name in set(await daemon.exports()) - {grant.export_name for grant, _ in grants}:
        await daemon.drop_export(name, DROP_TIMEOUT_SECONDS)
    for grant, ref in grants:
        if ref is not None:
            await _open_snapshot(context, daemon, ref)
        await daemon.add_export(_nbd_export(context, grant, ref))


async def reopen_exports(context: Context, vdisk_guid: str) -> None:
    """:func:`open_exports` for those who were dropped for a moment; a daemon that can not is replaced."""
    try:
        await open_exports(context, vdisk_guid)
    except ExportsError as error:
        await replace_daemon(context, vdisk_guid, f"it does not let its clients in again: {error}")


async def _open_snapshot(context: Context, daemon: StorageDaemon, ref: str) -> None:
    async with context.backend.opening(ref, read_only=True) as spec:
        for blockdev in spec.blockdevs:
            if not await daemon.node_exists(str(blockdev["node-name"])):
                await daemon.execute("blockdev-add", blockdev)


async def close_head_exports(context: Context, vdisk_guid: str) -> None:
    """Drop every client of the vDisk itself, not those of its snapshots. Their grants stay; they may reconnect once
    :func:`open_exports` has run."""
    daemon = context.fleet.get(vdisk_guid)
    if daemon is None:
        return
    async with context.db.read() as session:
        grants = await grants_of(session, vdisk_guid)
    for grant in grants:
        if grant.snapshot_guid is None:
            await drop(context, vdisk_guid, grant.export_name)


async def replace_daemon(context: Context, vdisk_guid: str, reason: str) -> None:
    """End a daemon that does not do what it is told, and ask for the next one. Nothing is written when this returns."""
    log.warning("vDisk %s: its storage daemon is replaced: %s", vdisk_guid, reason)
    await context.fleet.stop_daemon(vdisk_guid)
    context.respawn(vdisk_guid)


async def drop(context: Context, vdisk_guid: str, export_name: str, certificate_name: str | None = None) -> None:
    """Drop a client for good: when this returns it can not write any more, if need be because the daemon was killed.

    :param certificate_name: given when a grant ends: whose. A storage daemon checks hosts, not what they open, so
        that host may be connected to exports of the others, too. If it has no other grant, everybody is disconnected,
        and those who are still let in connect again.
    :raises NotFenced: the daemon can not be killed either.
    """
    daemon = context.fleet.get(vdisk_guid)
    if daemon is None:
        return
    try:
        await admission.admit(context, daemon)
        await daemon.drop_export(export_name, DROP_TIMEOUT_SECONDS)
        if certificate_name is not None and await admission.is_last_of_host(context, vdisk_guid, certificate_name):
            await daemon.cut_clients(DROP_TIMEOUT_SECONDS)
        return
    except DaemonGone:
        log.info("vDisk %s: its daemon died before the client was dropped", vdisk_guid)
        return
    except DaemonError as error:
        log.warning("vDisk %s: a client can not be dropped, the daemon is killed: %s", vdisk_guid, error)
    await context.fleet.stop_daemon(vdisk_guid, kill=True)


async def close_if_unused(context: Context, vdisk_guid: str) -> None:
    """Stop the daemon and free the port when no grant is left; else ask for a daemon if there is none."""
    async with context.db.read() as session:
        left = [grant for grant in await grants_of(session, vdisk_guid) if grant.state in SERVED]
        exported = await session.get(Export, vdisk_guid) is not None
    if left:
        if context.fleet.get(vdisk_guid) is None:
            context.respawn(vdisk_guid)
        return
    await context.fleet.stop(vdisk_guid)
    if exported:
        async with context.db.write() as session:
            await session.execute(delete(Export).where(Export.vdisk_guid == vdisk_guid))


async def close_unread(context: Context, vdisk_guid: str) -> None:
    """Let the daemon close layers that were open only for a snapshot whose last grant is gone."""
    daemon = context.fleet.get(vdisk_guid)
    if daemon is None:
        return
    async with context.db.read() as session:
        vdisk = await session.get(VDisk, vdisk_guid)
    if vdisk is not None and vdisk.backend_ref is not None:
        await context.backend.prune(daemon, vdisk.backend_ref)
