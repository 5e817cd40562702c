"""Take and remove snapshots of one vDisk."""

from __future__ import annotations

import logging
import time
from typing import Any

from sqlalchemy import delete
from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.exports.errors import DaemonGone, ExportsError
from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.vdisk import Snapshot, State, VDisk
from openvstorage.vpool.operations import lookups, serving
from openvstorage.vpool.operations.context import Context
from openvstorage.vpool.operations.errors import SnapshotHasClones, SnapshotInUse
from openvstorage.vpool.operations.merge import shorten
from openvstorage.vpool.operations.operation import Operation, Step

log = logging.getLogger(__name__)


class CreateSnapshot(Operation):
    """Args: vdisk_guid, label, consistent, automatic, sticky. Result: the snapshot's guid.

    A new layer becomes the vDisk's head and the old head is the snapshot. When nobody could write since the head was
    made, the layer below it is the snapshot already and no byte is touched.

    From the moment the switch is committed as begun, a dead daemon means that the *new* layer is the head: it may
    hold flushed writes, and if it holds none it reads like the old one.
    """

    type = "snapshot"
    steps = (Step("make"), Step("switch", commit=True))

    async def prepare(self) -> None:
        await self.context.backend.require_room()
        await shorten(self.context, self.vdisk)

    async def begin(self, session: AsyncSession) -> None:
        vdisk = await lookups.ready_vdisk(session, self.vdisk, writable=True)
        self.args |= await plan_snapshot(self.context, session, vdisk, self.args)
        self.args["online"] = self.context.fleet.get(self.vdisk) is not None

    def skips(self, step: Step) -> bool:
        if self.args["new_ref"] is None:
            return True
        return step.name == "switch" and not self.args["online"]

    async def make(self) -> None:
        """Make the new layer; what the old one holds becomes durable."""
        await self.context.backend.make(self.args["new_ref"])
        await self.context.backend.settle(self.args["old_ref"])

    async def switch(self) -> None:
        """Let the daemon write to the new layer, and read the old one like any other."""
        await switch_head(self.context, self.vdisk, self.args["old_ref"], self.args["new_ref"])
        await hand_over(self.context, self.vdisk, self.args["old_ref"])

    async def finish(self, session: AsyncSession) -> Any:
        await finish_snapshot(self.context, session, self.vdisk, self.args)
        return self.args["snapshot_guid"]

    async def give_up(self) -> None:
        """Before the switch has begun the new layer can not be the head, however dead the daemon is."""
        moved = self.phase == "switch" and not await writes_to(self.context, self.vdisk, self.args["old_ref"])
        self.args["moved"] = moved

    async def abort(self, session: AsyncSession) -> None:
        await take_back(self.context, session, self.vdisk, self.args, moved=self.args["moved"])

    async def after(self) -> None:
        if self.args["new_ref"] is not None:
            await self.context.backend.seal(self.args["old_ref"])
        self.context.tidy()

    async def after_failure(self) -> None:
        if self.args.get("moved"):
            await self.context.backend.seal(self.args["old_ref"])


class DeleteSnapshot(Operation):
    """Args: vdisk_guid, snapshot_guid. The bytes that nobody else needs are removed later, in the background."""

    type = "delete_snapshot"
    frees = True

    async def begin(self, session: AsyncSession) -> None:
        await lookups.ready_vdisk(session, self.vdisk)
        snapshot = await lookups.ready_snapshot(session, self.vdisk, self.args["snapshot_guid"])
        if await lookups.snapshot_is_open(session, snapshot.guid):
            raise SnapshotInUse(snapshot=snapshot.guid)
        if self.context.node.strict_compat:
            clones = await lookups.clones_of_snapshot(session, snapshot.guid)
            if clones:
                raise SnapshotHasClones(snapshot=snapshot.guid, number=clones)
        ref = snapshot.backend_ref
        await session.execute(delete(Snapshot).where(Snapshot.guid == snapshot.guid))
        if ref is not None:
            await self.context.backend.release(session, ref)

    async def after(self) -> None:
        self.context.tidy()


class IsSynced(Operation):
    """Args: vdisk_guid, snapshot_guid. Result: true, for a snapshot is durable before it is shown."""

    type = "is_synced"

    async def begin(self, session: AsyncSession) -> None:
        await lookups.ready_vdisk(session, self.vdisk)
        await lookups.ready_snapshot(session, self.vdisk, self.args["snapshot_guid"])

    async def finish(self, session: AsyncSession) -> Any:
        return True


async def plan_snapshot(
    context: Context, session: AsyncSession, vdisk: VDisk, request: dict[str, Any]
) -> dict[str, Any]:
    """Insert a snapshot, and the next head if one is needed: not when nothing was written since the last was made.

    :returns: snapshot_guid, old_ref and new_ref; new_ref is None when the snapshot is ready at once.
    """
    assert vdisk.backend_ref is not None
    below = await context.backend.parent_of(session, vdisk.backend_ref)
    # a head that was made larger than what it lies on reads as more than that, although nothing was written
    at_once = not vdisk.written and below is not None and await context.backend.size_of(session, below) == vdisk.size
    new_ref = None
    if not at_once:
        new_ref = await context.backend.plan(session, size=vdisk.size, parent_ref=vdisk.backend_ref)
    snapshot = Snapshot(
        guid=request.get("new_guid") or new_guid(),
        vdisk_guid=vdisk.guid,
        ordinal=await lookups.next_ordinal(session, vdisk.guid),
        label=request.get("label") or "",
        timestamp=int(time.time()),
        size=vdisk.size,
        state=State.READY if at_once else State.CREATING,
        is_consistent=bool(request.get("consistent")),
        is_automatic=bool(request.get("automatic")),
        is_sticky=bool(request.get("sticky")),
        for_clone=bool(request.get("for_clone")),
        backend_ref=below if at_once else vdisk.backend_ref,
    )
    session.add(snapshot)
    await session.flush()
    return {"snapshot_guid": snapshot.guid, "old_ref": vdisk.backend_ref, "new_ref": new_ref}


async def switch_head(context: Context, vdisk_guid: str, old_ref: str, new_ref: str) -> None:
    """Switch a living daemon to the new head; with a dead one the new head simply is the head.

    :raises ExportsError: the daemon refused and still writes to the old head.
    """
    daemon = context.fleet.get(vdisk_guid)
    if daemon is None:
        return
    try:
        await context.backend.switch(daemon, old_ref, new_ref)
    except DaemonGone:
        log.warning("vDisk %s: its daemon died during the switch; the new layer is the head", vdisk_guid)
    except ExportsError:
        if await writes_to(context, vdisk_guid, old_ref):
            raise
        log.warning("vDisk %s: the switch to the new layer ended half way", vdisk_guid, exc_info=True)


async def hand_over(context: Context, vdisk_guid: str, old_ref: str) -> None:
    """Let the daemon of a switched vDisk give up the old head's write lock; a daemon that does not is replaced."""
    daemon = context.fleet.get(vdisk_guid)
    if daemon is None:
        return
    try:
        await context.backend.hand_over(daemon, old_ref)
    except ExportsError as error:
        await serving.replace_daemon(context, vdisk_guid, f"it keeps the old layer locked: {error}")


async def writes_to(context: Context, vdisk_guid: str, ref: str) -> bool:
    """:returns: whether a living daemon of the vDisk writes to ``ref``. One that does not tell is ended, so that the
    answer is no."""
    daemon = context.fleet.get(vdisk_guid)
    if daemon is None:
        return False
    try:
        return await daemon.head() == context.backend.node_of(ref)
    except ExportsError as error:
        await serving.replace_daemon(context, vdisk_guid, f"it does not tell what it writes to: {error}")
        return False


async def finish_snapshot(context: Context, session: AsyncSession, vdisk_guid: str, plan: dict[str, Any]) -> None:
    """The new layer is the head, the old one is the snapshot."""
    if plan["new_ref"] is None:
        return
    await context.backend.freeze(session, plan["old_ref"])
    await move_head(context, session, vdisk_guid, plan["new_ref"])
    (await session.get_one(Snapshot, plan["snapshot_guid"])).state = State.READY


async def move_head(context: Context, session: AsyncSession, vdisk_guid: str, new_ref: str) -> None:
    """``new_ref`` becomes what the vDisk writes to."""
    await context.backend.activate(session, new_ref)
    vdisk = await session.get_one(VDisk, vdisk_guid)
    vdisk.backend_ref = new_ref
    vdisk.written = await lookups.has_writer(session, vdisk_guid)
    await session.flush()


async def take_back(
    context: Context, session: AsyncSession, vdisk_guid: str, plan: dict[str, Any], *, moved: bool
) -> None:
    """Remove what :func:`plan_snapshot` inserted. A new layer that is the head already stays the head: it may hold
    flushed writes."""
    await session.execute(delete(Snapshot).where(Snapshot.guid == plan["snapshot_guid"]))
    if moved:
        await context.backend.freeze(session, plan["old_ref"])
        await move_head(context, session, vdisk_guid, plan["new_ref"])
    elif plan["new_ref"] is not None:
        await context.backend.release(session, plan["new_ref"])
