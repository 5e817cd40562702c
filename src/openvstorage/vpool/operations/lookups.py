"""Look-ups that operations share: the vDisk or snapshot meant, or the refusal that says it is missing."""

from __future__ import annotations

from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.contract.durability import Durability
from openvstorage.vpool.model.cluster import VPool
from openvstorage.vpool.model.export import Grant, GrantMode
from openvstorage.vpool.model.vdisk import MAX_SIZE, Snapshot, State, VDisk
from openvstorage.vpool.operations.errors import (
    InvalidSize,
    IsATemplate,
    NameTaken,
    Refused,
    SnapshotMissing,
    TooLarge,
    UnknownVDisk,
    VDiskInUse,
)


async def ready_vdisk(session: AsyncSession, guid: str, *, writable: bool = False) -> VDisk:
    """:returns: the vDisk.

    :raises UnknownVDisk: there is none, or it is still being made.
    :raises IsATemplate: it is a vTemplate and ``writable`` was asked for.
    """
    vdisk = await session.get(VDisk, guid)
    if vdisk is None or vdisk.state != State.READY:
        raise UnknownVDisk(guid=guid)
    if writable and vdisk.is_vtemplate:
        raise IsATemplate(vdisk=vdisk.name)
    return vdisk


async def ready_snapshot(session: AsyncSession, vdisk_guid: str, snapshot_guid: str) -> Snapshot:
    """:returns: the snapshot of this vDisk.

    :raises SnapshotMissing: it is another's, or there is none.
    """
    snapshot = await session.get(Snapshot, snapshot_guid)
    if snapshot is None or snapshot.vdisk_guid != vdisk_guid or snapshot.state != State.READY:
        raise SnapshotMissing(snapshot=snapshot_guid, vdisk=vdisk_guid)
    return snapshot


async def require_free_name(session: AsyncSession, vpool_guid: str, devicename: str) -> None:
    """:raises NameTaken: another vDisk of the vPool has this device name."""
    if await session.scalar(select(exists().where(VDisk.vpool_guid == vpool_guid, VDisk.devicename == devicename))):
        vpool = await session.get_one(VPool, vpool_guid)
        raise NameTaken(devicename=devicename, vpool=vpool.name)


def require_size(size: int) -> None:
    """:raises InvalidSize, TooLarge: no vDisk can have this size in bytes."""
    if size > MAX_SIZE:
        raise TooLarge()
    if size <= 0 or size % 512:
        raise InvalidSize(size=size)


def require_durability(text: str) -> Durability:
    """:returns: the durability of that name. :raises Refused: there is none."""
    try:
        return Durability(text)
    except ValueError:
        raise Refused(f"{text!r} is no durability: there are {', '.join(Durability)}") from None


async def require_unused(session: AsyncSession, vdisk: VDisk, *, heads_only: bool = False) -> None:
    """:raises VDiskInUse: somebody holds a grant (of the vDisk itself, with ``heads_only``)."""
    query = select(Grant).where(Grant.vdisk_guid == vdisk.guid).limit(1)
    if heads_only:
        query = query.where(Grant.snapshot_guid.is_(None))
    grant = await session.scalar(query)
    if grant is not None:
        raise VDiskInUse(vdisk=vdisk.name, holder=f"{grant.consumer} on {grant.client}")


async def has_writer(session: AsyncSession, vdisk_guid: str) -> bool:
    """:returns: whether anybody holds a writable grant."""
    return bool(
        await session.scalar(select(exists().where(Grant.vdisk_guid == vdisk_guid, Grant.mode == GrantMode.READ_WRITE)))
    )


async def snapshot_is_open(session: AsyncSession, snapshot_guid: str) -> bool:
    """:returns: whether anybody holds a grant of the snapshot."""
    return bool(await session.scalar(select(exists().where(Grant.snapshot_guid == snapshot_guid))))


async def next_ordinal(session: AsyncSession, vdisk_guid: str) -> int:
    """:returns: the position of the next snapshot of a vDisk."""
    return 1 + (
        await session.scalar(
            select(func.coalesce(func.max(Snapshot.ordinal), 0)).where(Snapshot.vdisk_guid == vdisk_guid)
        )
        or 0
    )


async def clones_of_vdisk(session: AsyncSession, vdisk: str) -> int:
    """:returns: how many vDisks were cloned from a vDisk."""
    return await session.scalar(select(func.count()).where(VDisk.parent_vdisk_guid == vdisk)) or 0


async def clones_of_snapshot(session: AsyncSession, snapshot: str) -> int:
    """:returns: how many vDisks were cloned from a snapshot."""
    return await session.scalar(select(func.count()).where(VDisk.parent_snapshot_guid == snapshot)) or 0
