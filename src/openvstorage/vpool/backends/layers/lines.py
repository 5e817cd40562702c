"""Lines of layers in the database: what lies over what, what is still needed, what has become trash.

A layer is needed while a vDisk writes to it, a snapshot names it or another layer lies over it. All three are looked
up from the rows that say so; nothing is counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import exists, func, literal, select, update
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.layer import Layer, LayerState
from openvstorage.vpool.model.vdisk import Snapshot, VDisk


@dataclass(frozen=True, slots=True)
class Link:
    """One layer of a chain."""

    guid: str
    state: str
    size: int
    ordinal: int


async def plan(session: AsyncSession, size: int, parent: str | None) -> str:
    """Insert a layer in state CREATING. :returns: its guid."""
    ordinal = 0
    if parent is not None:
        below = await session.get_one(Layer, parent)
        ordinal = below.ordinal + 1
    layer = Layer(guid=new_guid(), parent_guid=parent, size=size, ordinal=ordinal)
    session.add(layer)
    await session.flush()
    return layer.guid


async def set_state(session: AsyncSession, guid: str, state: LayerState) -> None:
    """Change the state of a layer."""
    (await session.get_one(Layer, guid)).state = state
    await session.flush()


async def chain(session: AsyncSession, guid: str) -> list[Link]:
    """:returns: the layer and everything below it, top first; empty if there is no such layer."""
    line = (
        select(Layer.guid, Layer.parent_guid, literal(0).label("depth"))
        .where(Layer.guid == guid)
        .cte("line", recursive=True)
    )
    below = aliased(Layer)
    line = line.union_all(
        select(below.guid, below.parent_guid, line.c.depth + 1).join(line, below.guid == line.c.parent_guid)
    )
    rows = await session.execute(
        select(Layer.guid, Layer.state, Layer.size, Layer.ordinal)
        .join(line, Layer.guid == line.c.guid)
        .order_by(line.c.depth)
    )
    return [Link(*row) for row in rows]


async def release(session: AsyncSession, guid: str) -> None:
    """Turn a layer, and then what lies below it, into trash as far as nothing needs it any more."""
    current: str | None = guid
    while current is not None and not await needed(session, current):
        layer = await session.get_one(Layer, current)
        layer.state = LayerState.TRASH
        below, layer.parent_guid = layer.parent_guid, None
        await session.flush()
        current = below


async def needed(session: AsyncSession, guid: str) -> bool:
    """:returns: whether a vDisk, a snapshot or another layer needs this one."""
    return bool(
        await session.scalar(
            select(
                exists().where(VDisk.backend_ref == guid)
                | exists().where(Snapshot.backend_ref == guid)
                | exists().where(Layer.parent_guid == guid)
            )
        )
    )


async def named(session: AsyncSession, guid: str) -> bool:
    """:returns: whether a vDisk or a snapshot names this layer."""
    return bool(
        await session.scalar(
            select(exists().where(VDisk.backend_ref == guid) | exists().where(Snapshot.backend_ref == guid))
        )
    )


async def children(session: AsyncSession, guid: str) -> list[str]:
    """:returns: guids of the layers that lie directly over this one."""
    return list(await session.scalars(select(Layer.guid).where(Layer.parent_guid == guid)))


async def reparent(session: AsyncSession, guid: str, base: str | None) -> None:
    """Lay a layer on another one and release what it lay on before; nothing happens to one that is trash by now."""
    layer = await session.get(Layer, guid)
    if layer is None or layer.state == LayerState.TRASH:
        return
    before, layer.parent_guid = layer.parent_guid, base
    await session.flush()
    if before is not None and before != base:
        await release(session, before)


async def trash(session: AsyncSession, limit: int = 500) -> list[str]:
    """:returns: guids of layers whose files are to be removed."""
    return list(await session.scalars(select(Layer.guid).where(Layer.state == LayerState.TRASH).limit(limit)))


async def in_state(session: AsyncSession, state: LayerState) -> list[str]:
    """:returns: guids of all layers in this state."""
    return list(await session.scalars(select(Layer.guid).where(Layer.state == state)))


async def head_of(session: AsyncSession, guid: str) -> str | None:
    """:returns: guid of the vDisk that writes to this layer, or None; a vTemplate writes to none."""
    return await session.scalar(select(VDisk.guid).where(VDisk.backend_ref == guid, VDisk.is_vtemplate.is_(False)))


async def known(session: AsyncSession, guids: list[str]) -> set[str]:
    """:returns: those of the guids that have a row."""
    found: set[str] = set()
    for start in range(0, len(guids), 500):
        found.update(await session.scalars(select(Layer.guid).where(Layer.guid.in_(guids[start : start + 500]))))
    return found


async def unnamed_with_one_child(session: AsyncSession, after: str, limit: int) -> list[tuple[str, str | None, str]]:
    """:returns: (layer, what it lies on, its only child) for frozen layers that no snapshot and no vDisk names, in the
    order of their guids, from the first one after ``after``."""
    child = aliased(Layer)
    rows = await session.execute(
        select(Layer.guid, Layer.parent_guid, func.min(child.guid))
        .join(child, child.parent_guid == Layer.guid)
        .where(
            Layer.state == LayerState.FROZEN,
            Layer.guid > after,
            ~exists().where(Snapshot.backend_ref == Layer.guid),
            ~exists().where(VDisk.backend_ref == Layer.guid),
        )
        .group_by(Layer.guid, Layer.parent_guid)
        .having(func.count(child.guid) == 1)
        .order_by(Layer.guid)
        .limit(limit)
    )
    return [(layer, base, over) for layer, base, over in rows]


async def due_to_skip(session: AsyncSession, stride: int, limit: int = 50) -> list[str]:
    """:returns: active layers at a stride that still lie on the layer just below instead of one a stride away."""
    below = aliased(Layer)
    return list(
        await session.scalars(
            select(Layer.guid)
            .join(below, below.guid == Layer.parent_guid)
            .where(
                Layer.state == LayerState.ACTIVE,
                Layer.ordinal > 0,
                Layer.ordinal % stride == 0,
                below.ordinal > Layer.ordinal - stride,
            )
            .limit(limit)
        )
    )


async def resize(session: AsyncSession, guid: str, size: int) -> None:
    """Record that a layer has grown to ``size`` bytes."""
    await session.execute(update(Layer).where(Layer.guid == guid).values(size=size))
