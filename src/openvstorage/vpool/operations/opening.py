"""What a storage daemon opens for each kind of export, and under which names it serves it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.contract.durability import Durability
from openvstorage.vpool.exports.command import TOP
from openvstorage.vpool.exports.command import Export as NbdExport
from openvstorage.vpool.exports.limits import Limits
from openvstorage.vpool.exports.source import source_node
from openvstorage.vpool.model.export import Export, ExportKind, Grant, GrantMode, GrantState
from openvstorage.vpool.model.vdisk import Snapshot, VDisk
from openvstorage.vpool.operations.context import Context
from openvstorage.vpool.operations.errors import SnapshotMissing, UnknownVDisk

#: States of a grant in which its client is let in.
SERVED = (GrantState.GRANTING, GrantState.GRANTED)


@dataclass(frozen=True, slots=True)
class Opened:
    """What a storage daemon is started with.

    :ivar blockdevs: arguments of ``blockdev-add``, base first. :ivar top: node name of what is served.
    :ivar objects: arguments of ``object-add`` that the nodes need.
    """

    blockdevs: Sequence[Mapping[str, Any]]
    top: str
    limits: Limits = field(default_factory=Limits)
    objects: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True, slots=True)
class Served:
    """One name under which a storage daemon serves something.

    :ivar ref: the backend's reference of a frozen layer that a head's daemon serves beside the head; None otherwise.
    """

    export: NbdExport
    ref: str | None = None


def durability_of(context: Context, vdisk: VDisk) -> Durability:
    """:returns: what a vDisk has now: its own, or the pool's."""
    return Durability(vdisk.durability or context.node.durability)


async def served(context: Context, export_guid: str) -> list[Served]:
    """:returns: what the daemon of an export has to serve, one name for each grant, oldest first; nothing if there is
    no such export.

    A head's daemon also lets the reader of the vDisk in, under a name of its own; and those who were given something to
    read there by an older version.
    """
    async with context.db.read() as session:
        export = await session.get(Export, export_guid)
        if export is None:
            return []
        rows = await session.execute(
            select(Grant, Snapshot.backend_ref)
            .outerjoin(Snapshot, Snapshot.guid == Grant.snapshot_guid)
            .where(Grant.export_guid == export.guid, Grant.state.in_(SERVED))
            .order_by(Grant.created_at)
        )
        found = [(grant, ref) for grant, ref in rows]
        source_name = await source_name_of(session, export)
    result = []
    for grant, ref in found:
        beside = ref if export.kind == ExportKind.HEAD else None
        node = TOP if beside is None else context.backend.node_of(beside)
        writable = grant.mode == GrantMode.READ_WRITE
        # as the daemon has begun: what the vDisk is to have by now comes with the next one
        write_through = export.durability == Durability.ACKNOWLEDGED
        result.append(Served(NbdExport(grant.export_name, writable, node, write_through=write_through), beside))
    if source_name is not None:
        result.append(Served(NbdExport(source_name, writable=False)))
    return result


async def source_name_of(session: AsyncSession, export: Export) -> str | None:
    """:returns: the name by which a reader opens what this export serves; None if there is none."""
    if export.kind != ExportKind.HEAD:
        return None
    is_reader = (Export.vdisk_guid == export.vdisk_guid, Export.kind == ExportKind.READER)
    return await session.scalar(select(Export.source_name).where(*is_reader))


@asynccontextmanager
async def opening(context: Context, vdisk: VDisk, export: Export | None) -> AsyncIterator[Opened]:
    """What to open, with nothing of it removed while the block runs.

    :param export: None for the head of a vDisk that nobody is served.
    :raises SnapshotMissing: the snapshot has been deleted.
    """
    if export is None or export.kind == ExportKind.HEAD:
        async with _opening_head(context, vdisk, export) as opened:
            yield opened
    elif export.kind == ExportKind.SNAPSHOT or vdisk.is_vtemplate:
        ref = str(vdisk.backend_ref) if export.kind == ExportKind.READER else await _snapshot_ref(context, export)
        async with context.backend.opening(ref, read_only=True) as spec:
            yield Opened(spec.blockdevs, spec.top)
    else:
        yield await _source(context, export)


@asynccontextmanager
async def _opening_head(context: Context, vdisk: VDisk, export: Export | None) -> AsyncIterator[Opened]:
    beside = [] if export is None else [each.ref for each in await served(context, export.guid) if each.ref]
    async with AsyncExitStack() as stack:
        enter, backend = stack.enter_async_context, context.backend
        specs = [await enter(backend.opening(str(vdisk.backend_ref), read_only=vdisk.is_vtemplate))]
        specs += [await enter(backend.opening(ref, read_only=True)) for ref in beside]
        nodes = {str(node["node-name"]): node for spec in reversed(specs) for node in spec.blockdevs}
        ordered = {str(node["node-name"]): None for spec in specs for node in spec.blockdevs}
        yield Opened([nodes[name] for name in ordered], specs[0].top, Limits(**vdisk.qos))


async def _snapshot_ref(context: Context, export: Export) -> str:
    async with context.db.read() as session:
        ref = await session.scalar(select(Snapshot.backend_ref).where(Snapshot.guid == export.guid))
    if ref is None:
        raise SnapshotMissing(snapshot=export.guid, vdisk=export.vdisk_guid)
    return str(ref)


async def _source(context: Context, export: Export) -> Opened:
    """A reader opens the head over NBD: only one process can open a layer that is written to."""
    async with context.db.read() as session:
        head = await session.get(Export, export.vdisk_guid)
    if head is None or export.source_name is None:
        raise UnknownVDisk(guid=export.vdisk_guid)
    tls = context.fleet.source_tls if context.fleet.tls is not None else None
    node = source_node(head.address, head.port, export.source_name, tls)
    return Opened([node], str(node["node-name"]), objects=tls.objects() if tls is not None else ())
