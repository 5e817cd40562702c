"""Where exports are: the address and port at which each thing that is served can be reached.

A head is served at one place, what is read only at others, see :class:`model.export.ExportKind`.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Sequence

from sqlalchemy import case, select
from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.config import is_loopback
from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.export import Export, ExportKind
from openvstorage.vpool.model.vdisk import VDisk
from openvstorage.vpool.operations.context import Context
from openvstorage.vpool.operations.errors import NoPort

log = logging.getLogger(__name__)

#: A reader opens the head, so the head is served first.
_ORDER = case({ExportKind.HEAD: 0, ExportKind.READER: 1}, value=Export.kind, else_=2)


async def exports_of(session: AsyncSession, vdisk_guid: str) -> list[Export]:
    """:returns: all exports of a vDisk, in the order in which they can be served."""
    return list(await session.scalars(select(Export).where(Export.vdisk_guid == vdisk_guid).order_by(_ORDER)))


async def reserve(
    context: Context, session: AsyncSession, vdisk: VDisk, *, writable: bool, snapshot_guid: str | None
) -> Export:
    """Find or make the export by which a client is served; its port stays the same for as long as grants exist.

    :raises NoPort: the range is exhausted.
    """
    if snapshot_guid is not None:
        return await _find_or_make(context, session, vdisk.guid, ExportKind.SNAPSHOT, snapshot_guid)
    if writable:
        return await _find_or_make(context, session, vdisk.guid, ExportKind.HEAD, vdisk.guid)
    if not vdisk.is_vtemplate:
        await _find_or_make(context, session, vdisk.guid, ExportKind.HEAD, vdisk.guid)
    return await _find_or_make(context, session, vdisk.guid, ExportKind.READER, new_guid())


async def _find_or_make(
    context: Context, session: AsyncSession, vdisk_guid: str, kind: ExportKind, guid: str
) -> Export:
    same = Export.guid == guid if kind is not ExportKind.READER else Export.vdisk_guid == vdisk_guid
    export = await session.scalar(select(Export).where(same, Export.kind == kind))
    if export is None:
        port = await _free_port(context, session, guid)
        export = Export(
            guid=guid,
            vdisk_guid=vdisk_guid,
            kind=kind,
            source_name=new_name(vdisk_guid) if kind is ExportKind.READER else None,
            node_guid=context.node.guid,
            address=context.node.address,
            port=port,
        )
        session.add(export)
        await session.flush()
    return export


def new_name(vdisk_guid: str) -> str:
    """:returns: a name for an NBD export that no other has or had."""
    return f"{vdisk_guid[:8]}-{new_guid()}"


async def _free_port(context: Context, session: AsyncSession, guid: str) -> int:
    """Find a port that neither another export nor another process has, and listen there.

    Where the search begins depends on what is served, so that several pools on one machine rarely meet.
    """
    node = context.node
    taken = set((await session.scalars(select(Export.port).where(Export.address == node.address))).all())
    ports: Sequence[int] = range(node.first_port, node.last_port + 1)
    start: int = zlib.crc32(guid.encode()) % len(ports)
    for port in (*ports[start:], *ports[:start]):
        if port not in taken and context.fleet.listen(guid, node.address, port):
            return port
    raise NoPort(first=node.first_port, last=node.last_port)


async def listen(context: Context, export: Export) -> Export:
    """Listen where something was served before; elsewhere if that can not be.

    It can not be without TLS where others reach it, or when another process has taken the port while nothing of ours
    listened: clients ask again where it is.

    :returns: the export as it is now. :raises NoPort: the range is exhausted.
    """
    plain = context.fleet.tls is None and not is_loopback(export.address)
    if not plain and context.fleet.listen(export.guid, export.address, export.port):
        return export
    async with context.db.write() as session:
        moved = await session.get_one(Export, export.guid)
        before = f"{moved.address} port {moved.port}"
        moved.port = await _free_port(context, session, moved.guid)
        moved.address = context.node.address
    place = f"{moved.address} port {moved.port}"
    log.warning("vDisk %s: its %s is served at %s instead of %s", moved.vdisk_guid, moved.kind, place, before)
    return moved
