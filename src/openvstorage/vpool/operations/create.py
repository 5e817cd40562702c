"""Create a vDisk; clone one from a snapshot, from another vDisk or from a vTemplate."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.vdisk import Snapshot, State, VDisk
from openvstorage.vpool.operations import lookups
from openvstorage.vpool.operations.context import Context
from openvstorage.vpool.operations.errors import NoSuchNode, NotATemplate, ShrinkRefused
from openvstorage.vpool.operations.names import devicename
from openvstorage.vpool.operations.operation import Operation, Step
from openvstorage.vpool.operations.snapshot import CreateSnapshot

DEFAULT_METADATA = {"lba_size": 512, "cluster_multiplier": 8}


class _NewVDisk(Operation):
    """What creating and cloning share: a vDisk in state CREATING, its bytes, and READY.

    Until it is ready nobody can write to it, so whatever a crash left is unlinked and made again.
    """

    steps = (Step("make"),)

    def locks(self) -> tuple[str, ...]:
        return ()

    async def prepare(self) -> None:
        node = self.args.get("storagerouter_guid")
        if node is not None and node != self.context.node.guid:
            raise NoSuchNode(storagerouter=node)
        await self.context.backend.require_room()

    async def _insert(self, session: AsyncSession, *, size: int, parent_ref: str | None, **values: Any) -> None:
        name = str(self.args["name"])
        device = devicename(name)
        await lookups.require_free_name(session, self.context.node.vpool_guid, device)
        ref = await self.context.backend.plan(session, size=size, parent_ref=parent_ref)
        vdisk = VDisk(
            guid=new_guid(),
            vpool_guid=self.context.node.vpool_guid,
            name=name,
            description=name,
            devicename=device,
            size=size,
            backend_ref=ref,
            owner_guid=self.context.node.guid,
            metadata_=dict(DEFAULT_METADATA),
            durability=self._durability(),
            created_at=time.time(),
            **values,
        )
        session.add(vdisk)
        await session.flush()
        self.args |= {"new_guid": vdisk.guid, "new_ref": ref, "devicename": device}

    def _durability(self) -> str | None:
        asked = self.args.get("durability")
        return None if asked is None else lookups.require_durability(asked)

    async def make(self) -> None:
        """Make the image file."""
        await self.context.backend.make(self.args["new_ref"])

    async def finish(self, session: AsyncSession) -> Any:
        await self.context.backend.activate(session, self.args["new_ref"])
        vdisk = await session.get_one(VDisk, self.args["new_guid"])
        vdisk.state = State.READY
        return self._result()

    def _result(self) -> Any:
        return self.args["new_guid"]

    async def abort(self, session: AsyncSession) -> None:
        await session.execute(delete(VDisk).where(VDisk.guid == self.args["new_guid"]))
        await self.context.backend.release(session, self.args["new_ref"])


class CreateVDisk(_NewVDisk):
    """Args: name, size (bytes), durability (None: the pool's default), pagecache_ratio, cache_quota. Result: the
    guid."""

    type = "create"

    async def begin(self, session: AsyncSession) -> None:
        lookups.require_size(int(self.args["size"]))
        await self._insert(
            session,
            size=int(self.args["size"]),
            parent_ref=None,
            pagecache_ratio=self.args.get("pagecache_ratio") or 1.0,
            cache_quota=self.args.get("cache_quota"),
        )


class _Derived(_NewVDisk):
    """A new vDisk over the bytes of another."""

    async def _derive(self, session: AsyncSession, source: VDisk, size: int, ref: str | None, **values: Any) -> None:
        asked = size if self.args.get("size") is None else int(self.args["size"])
        lookups.require_size(asked)
        if asked < size:
            raise ShrinkRefused(size=size, asked=asked)
        await self._insert(
            session,
            size=asked,
            parent_ref=ref,
            parent_vdisk_guid=source.guid,
            pagecache_ratio=self.args.get("pagecache_ratio") or source.pagecache_ratio,
            cache_quota=self.args.get("cache_quota") or source.cache_quota,
            **values,
        )

    def _result(self) -> Any:
        return {
            "vdisk_guid": self.args["new_guid"],
            "name": self.args["name"],
            "backingdevice": self.args["devicename"],
        }


class CloneVDisk(_Derived):
    """Args: vdisk_guid, name, snapshot_guid (None: its present state), size (None: the parent's), durability (None:
    the pool's default).

    Without a snapshot one is taken first, as Open vStorage does; it is removed with the last clone made from it.
    """

    type = "clone"

    def locks(self) -> tuple[str, ...]:
        return () if self.args.get("snapshot_guid") else (self.vdisk,)

    async def prepare(self) -> None:
        await super().prepare()
        async with self.context.db.read() as session:
            await lookups.require_free_name(session, self.context.node.vpool_guid, devicename(str(self.args["name"])))
        if not self.args.get("snapshot_guid"):
            taken = CreateSnapshot(
                self.context, {"vdisk_guid": self.vdisk, "label": "", "automatic": True, "for_clone": True}
            )
            self.args["snapshot_guid"] = await self.context.journal.run_locked(taken)
            self.args["taken"] = True

    async def begin(self, session: AsyncSession) -> None:
        source = await lookups.ready_vdisk(session, self.vdisk)
        snapshot = await lookups.ready_snapshot(session, self.vdisk, self.args["snapshot_guid"])
        await self._derive(session, source, snapshot.size, snapshot.backend_ref, parent_snapshot_guid=snapshot.guid)

    async def after_failure(self) -> None:
        """Remove the snapshot that was taken for this clone, if it came to that."""
        if not self.args.get("taken"):
            return
        async with self.context.db.write() as session:
            await drop_unused_clone_snapshot(self.context, session, self.args["snapshot_guid"])


class CreateFromTemplate(_Derived):
    """Args: vdisk_guid (the vTemplate), name, durability (None: the pool's default). The new vDisk has the template as
    parent and no parent snapshot."""

    type = "create_from_template"

    async def begin(self, session: AsyncSession) -> None:
        source = await lookups.ready_vdisk(session, self.vdisk)
        if not source.is_vtemplate:
            raise NotATemplate()
        await self._derive(session, source, source.size, source.backend_ref)


async def drop_unused_clone_snapshot(context: Context, session: AsyncSession, snapshot_guid: str | None) -> None:
    """Remove a snapshot that was taken for a clone once no clone refers to it any more, and nobody has it open."""
    snapshot = await session.get(Snapshot, snapshot_guid) if snapshot_guid else None
    if snapshot is None or not snapshot.for_clone or await lookups.clones_of_snapshot(session, snapshot.guid):
        return
    if await lookups.snapshot_is_open(session, snapshot.guid):
        return
    ref = snapshot.backend_ref
    await session.delete(snapshot)
    await session.flush()
    if ref is not None:
        await context.backend.release(session, ref)
