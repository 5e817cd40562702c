"""Change a vDisk: grow it, roll it back, delete it."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.exports.command import TOP
from openvstorage.vpool.exports.daemon import StorageDaemon
from openvstorage.vpool.exports.errors import DaemonGone, QmpError
from openvstorage.vpool.model.export import Export, Grant
from openvstorage.vpool.model.vdisk import Snapshot, VDisk
from openvstorage.vpool.operations import lookups, serving
from openvstorage.vpool.operations.create import drop_unused_clone_snapshot
from openvstorage.vpool.operations.errors import (
    HasClones,
    NotATemplate,
    ShrinkRefused,
    SnapshotHasClones,
    SnapshotInUse,
    TimestampMissing,
    Unfinished,
)
from openvstorage.vpool.operations.grants import RevokeGrant
from openvstorage.vpool.operations.operation import Operation, Step

log = logging.getLogger(__name__)


class ExtendVDisk(Operation):
    """Args: vdisk_guid, size (bytes). Growing to the present size is a success without effect.

    QEMU refuses to resize what is exported, so the clients of a vDisk in use are dropped for a moment; they reconnect
    and see the new size. A guest may have seen it, so it is never taken back.
    """

    type = "extend"
    steps = (Step("grow"),)

    async def begin(self, session: AsyncSession) -> None:
        vdisk = await lookups.ready_vdisk(session, self.vdisk, writable=True)
        size = int(self.args["size"])
        lookups.require_size(size)
        if size < vdisk.size:
            raise ShrinkRefused(size=vdisk.size, asked=size)
        self.args |= {"ref": vdisk.backend_ref, "same": size == vdisk.size}

    def skips(self, step: Step) -> bool:
        return bool(self.args["same"])

    async def grow(self) -> None:
        """Grow the head, in its daemon if it has one."""
        size = int(self.args["size"])
        if self.context.fleet.get(self.vdisk) is None:
            await self.context.backend.grow(self.args["ref"], size)
            return
        try:
            await self._grow_online(size)
        except DaemonGone:
            # the image may be larger already, and never becomes smaller again: there is only forward
            log.warning("vDisk %s: its daemon died while it grew; the next one goes on", self.vdisk)
            await self._grow_online(size)

    async def _grow_online(self, size: int) -> None:
        daemon = await serving.ensure_daemon(self.context, self.vdisk)
        if all(export.node == TOP for export in (await daemon.exports()).values()):
            await self._grow_between_daemons(size)
        else:
            await self._grow_in_daemon(daemon, size)

    async def _grow_between_daemons(self, size: int) -> None:
        """Clients that come back at once wait in the backlog for the next daemon, which has their exports from the
        start. One that lives on would greet them before the exports are there again, and QEMU's next try is a second
        later."""
        await serving.end_readers(self.context, self.vdisk)
        await serving.end_daemon(self.context, self.vdisk)
        await self.context.backend.grow(self.args["ref"], size)
        await serving.open_exports(self.context, self.vdisk)

    async def _grow_in_daemon(self, daemon: StorageDaemon, size: int) -> None:
        """Those whom an older version let read snapshots there, mostly copies that would have to begin again, are not
        disturbed."""
        await serving.end_readers(self.context, self.vdisk)
        await serving.close_head_exports(self.context, self.vdisk)
        try:
            if await self.context.backend.real_size(self.args["ref"]) < size:
                await daemon.resize(size)
        except QmpError:
            # nothing has grown: whoever was dropped comes back to what it knew
            await serving.reopen_exports(self.context, self.vdisk)
            raise
        await serving.reopen_exports(self.context, self.vdisk)

    async def give_up(self) -> None:
        """Once the image is larger a guest may have seen it, and must not find it smaller: there is only forward."""
        if await self.context.backend.real_size(self.args["ref"]) >= int(self.args["size"]):
            raise Unfinished()

    async def after_failure(self) -> None:
        if "ref" in self.args:
            self.context.respawn(self.vdisk)  # whoever was dropped comes back to what it knew

    async def finish(self, session: AsyncSession) -> Any:
        if not self.args["same"]:
            (await session.get_one(VDisk, self.vdisk)).size = int(self.args["size"])
            await self.context.backend.set_size(session, self.args["ref"], int(self.args["size"]))


class Rollback(Operation):
    """Args: vdisk_guid, snapshot_guid or timestamp, keep_newer. Result: true.

    The head is replaced by a new one over the snapshot. Newer snapshots go, as in Open vStorage, unless ``keep_newer``.
    """

    type = "rollback"
    steps = (Step("quit"), Step("make"))

    async def prepare(self) -> None:
        await self.context.backend.require_room()

    async def begin(self, session: AsyncSession) -> None:
        vdisk = await lookups.ready_vdisk(session, self.vdisk, writable=True)
        await lookups.require_unused(session, vdisk, heads_only=True)
        snapshot = await self._snapshot(session)
        if not self.args.get("keep_newer"):
            await self._require_droppable(session, snapshot)
        new = await self.context.backend.plan(session, size=vdisk.size, parent_ref=snapshot.backend_ref)
        self.args |= {"snapshot_guid": snapshot.guid, "new_ref": new, "old_ref": vdisk.backend_ref}

    async def _require_droppable(self, session: AsyncSession, kept: Snapshot) -> None:
        newer = select(Snapshot.guid).where(Snapshot.vdisk_guid == self.vdisk, Snapshot.ordinal > kept.ordinal)
        used = await session.scalar(select(Grant.snapshot_guid).where(Grant.snapshot_guid.in_(newer)).limit(1))
        if used is not None:
            raise SnapshotInUse(snapshot=used)
        if self.context.node.strict_compat:
            for guid in list(await session.scalars(newer)):
                clones = await lookups.clones_of_snapshot(session, guid)
                if clones:
                    raise SnapshotHasClones(snapshot=guid, number=clones)

    async def _snapshot(self, session: AsyncSession) -> Snapshot:
        if self.args.get("snapshot_guid"):
            return await lookups.ready_snapshot(session, self.vdisk, self.args["snapshot_guid"])
        stamp = str(self.args.get("timestamp"))
        found = None
        if stamp.isdecimal() and len(stamp) < 19:
            found = await session.scalar(
                select(Snapshot)
                .where(Snapshot.vdisk_guid == self.vdisk, Snapshot.timestamp == int(stamp))
                .order_by(Snapshot.ordinal)
                .limit(1)
            )
        if found is None:
            raise TimestampMissing(timestamp=stamp)
        return found

    async def quit(self) -> None:
        """End the daemon that has the old head open."""
        await serving.end_daemon(self.context, self.vdisk)

    async def make(self) -> None:
        """Make the new head."""
        await self.context.backend.make(self.args["new_ref"])

    async def finish(self, session: AsyncSession) -> Any:
        await self.context.backend.activate(session, self.args["new_ref"])
        vdisk = await session.get_one(VDisk, self.vdisk)
        vdisk.backend_ref, vdisk.written = self.args["new_ref"], False
        await session.flush()
        if not self.args.get("keep_newer"):
            await self._drop_newer(session)
        await self.context.backend.release(session, self.args["old_ref"])
        return True

    async def _drop_newer(self, session: AsyncSession) -> None:
        kept = await session.get_one(Snapshot, self.args["snapshot_guid"])
        newer = list(
            await session.execute(
                select(Snapshot.guid, Snapshot.backend_ref).where(
                    Snapshot.vdisk_guid == self.vdisk, Snapshot.ordinal > kept.ordinal
                )
            )
        )
        await session.execute(delete(Snapshot).where(Snapshot.guid.in_([guid for guid, _ in newer])))
        for _, ref in newer:
            if ref is not None:
                await self.context.backend.release(session, ref)

    async def abort(self, session: AsyncSession) -> None:
        await self.context.backend.release(session, self.args["new_ref"])
        self.context.respawn(self.vdisk)  # clients of snapshots may have lost their daemon

    async def after(self) -> None:
        await serving.close_if_unused(self.context, self.vdisk)
        self.context.tidy()


class DeleteVDisk(Operation):
    """Args: vdisk_guid, force. Its name is free at once; what nobody needs is unlinked in the background.

    Snapshots die with it and clones live on, their links to it become null. A vDisk in use is refused, unless
    ``force``: then its grants are revoked first.
    """

    type = "delete"
    frees = True

    async def prepare(self) -> None:
        if not self.args.get("force"):
            return
        async with self.context.db.read() as session:
            await self._require_deletable(session)  # nobody loses a grant for a deletion that is refused
            grants = await serving.grants_of(session, self.vdisk)
        for grant in grants:
            revoke = RevokeGrant(self.context, {"grant_guid": grant.guid, "vdisk_guid": self.vdisk})
            await self.context.journal.run_locked(revoke)

    async def _require_deletable(self, session: AsyncSession) -> VDisk:
        vdisk = await lookups.ready_vdisk(session, self.vdisk)
        if self.args.get("template_only") and not vdisk.is_vtemplate:
            raise NotATemplate()
        if self.context.node.strict_compat and await lookups.clones_of_vdisk(session, vdisk.guid):
            raise HasClones(vdisk=vdisk.name)
        return vdisk

    async def begin(self, session: AsyncSession) -> None:
        vdisk = await self._require_deletable(session)
        await lookups.require_unused(session, vdisk)
        refs = set(await session.scalars(select(Snapshot.backend_ref).where(Snapshot.vdisk_guid == vdisk.guid)))
        origin = vdisk.parent_snapshot_guid
        await session.execute(delete(Export).where(Export.vdisk_guid == vdisk.guid))
        await session.execute(delete(Snapshot).where(Snapshot.vdisk_guid == vdisk.guid))
        await session.execute(delete(VDisk).where(VDisk.guid == vdisk.guid))
        session.expunge(vdisk)
        for ref in [vdisk.backend_ref, *refs]:
            if ref is not None:
                await self.context.backend.release(session, ref)
        await drop_unused_clone_snapshot(self.context, session, origin)

    async def after(self) -> None:
        await self.context.fleet.stop(self.vdisk)
        self.context.fleet.drop_log(self.vdisk)
        self.context.tidy()
