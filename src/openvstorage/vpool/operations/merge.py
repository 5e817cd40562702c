"""Merges: keep chains short and give space back, in the background and never in a user's way.

A merge into a head streams what the layers below hold into it. A fold makes a frozen layer anew, with what its only
parent held, and puts it in the old one's place by a rename: whoever has the old one open goes on reading it.

A finished stream is not durable by itself (QEMU keeps its metadata in memory), so it is flushed before the model
trusts it; until then the layers below stay.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.backends.base import BackendError
from openvstorage.vpool.exports.daemon import StorageDaemon
from openvstorage.vpool.exports.errors import ExportsError
from openvstorage.vpool.exports.limits import Limits
from openvstorage.vpool.model.cluster import Setting
from openvstorage.vpool.model.vdisk import VDisk
from openvstorage.vpool.operations import lookups, serving
from openvstorage.vpool.operations.context import Context
from openvstorage.vpool.operations.errors import OperationError, Refused
from openvstorage.vpool.operations.operation import Operation, Step

log = logging.getLogger(__name__)

#: After so many storage daemons that died in it a merge is not tried again.
MAX_DEATHS = 2
PARKED = "merge-parked:"


class GaveWay(OperationError):
    """Somebody wanted the vDisk; the merge is tried again later."""

    template = "the merge gave way to another operation"


class MergeIntoHead(Operation):
    """Args: vdisk_guid, into (its head), base (what it lies on afterwards, or None)."""

    type = "merge"
    steps = (Step("stream"),)

    def __init__(self, context: Context, args: dict[str, Any]) -> None:
        super().__init__(context, args)
        self.give_way = asyncio.Event()

    async def prepare(self) -> None:
        await self.context.backend.require_room()

    async def begin(self, session: AsyncSession) -> None:
        vdisk = await lookups.ready_vdisk(session, self.vdisk, writable=True)
        if vdisk.backend_ref != self.args["into"]:
            raise Refused("the vDisk has another head by now")
        await self.context.backend.require_below(session, self.args["into"], self.args["base"])

    async def stream(self) -> None:
        """Copy into the head, then make that durable."""
        daemon = await serving.ensure_daemon(self.context, self.vdisk)
        daemon.remember((await self.context.backend.export_spec(self.args["into"])).blockdevs)
        await stream_into(self.context, daemon, self.args["into"], self.args["base"], self.give_way)
        await self.context.backend.settle(self.args["into"])

    async def finish(self, session: AsyncSession) -> Any:
        await self.context.backend.lie_on(session, self.args["into"], self.args["base"])
        # the head is no longer empty, so what lies below it is not what the vDisk reads
        (await session.get_one(VDisk, self.vdisk)).written = True

    async def recover(self, phase: str) -> bool:
        await note_death(self.context, self.args["into"], "the service was stopped during it")
        return False

    async def abort(self, session: AsyncSession) -> None:
        """Nothing to take back: over its old chain the head reads the same, however much was copied."""

    async def after(self) -> None:
        await forgive(self.context, self.args["into"])
        daemon = self.context.fleet.get(self.vdisk)
        if daemon is not None:
            await self.context.backend.prune(daemon, self.args["into"])
        await self.context.backend.sweep()


class FoldFrozen(Operation):
    """Args: into (frozen), below (its parent, which nobody names).

    ``spare`` is the copy that is worked on. It has a row, so that a crash leaves nothing unknown.
    """

    type = "fold"
    steps = (Step("copy"), Step("stream"), Step("swap", commit=True))

    def __init__(self, context: Context, args: dict[str, Any]) -> None:
        super().__init__(context, args)
        self.give_way = asyncio.Event()

    def locks(self) -> tuple[str, ...]:
        return ()

    async def prepare(self) -> None:
        await self.context.backend.require_room()

    async def begin(self, session: AsyncSession) -> None:
        await self.context.backend.require_fold(session, self.args["into"], self.args["below"])
        # what lay under it when this was found worth doing may have been folded itself since
        self.args["base"] = await self.context.backend.parent_of(session, self.args["below"])
        size = await self.context.backend.size_of(session, self.args["into"])
        self.args["spare"] = await self.context.backend.plan(session, size=size, parent_ref=self.args["below"])

    async def copy(self) -> None:
        """Copy the frozen layer's file."""
        await _unless(self.give_way, self.context.backend.copy_file(self.args["into"], self.args["spare"]))

    async def stream(self) -> None:
        """Copy into the spare what the layer below holds, with a daemon that serves nobody."""
        spare = self.args["spare"]
        async with self.context.backend.opening(spare) as spec:
            daemon = await self.context.fleet.launch(
                spare, vdisk=spare, epoch=0, blockdevs=spec.blockdevs, top=spec.top, limits=Limits()
            )
        try:
            await stream_into(self.context, daemon, spare, self.args["base"], self.give_way)
        finally:
            await self.context.fleet.stop(spare)
            self.context.fleet.drop_log(spare)
        await self.context.backend.settle(spare)

    async def swap(self) -> None:
        """Put the spare in the layer's place. Over either parent it reads the same, so a crash here is harmless."""
        await self.context.backend.replace_file(self.args["spare"], self.args["into"])

    async def finish(self, session: AsyncSession) -> Any:
        await self.context.backend.forget(session, self.args["spare"])
        await self.context.backend.lie_on(session, self.args["into"], self.args["base"])
        # if the layer was deleted meanwhile, only the spare still needed what lies below
        await self.context.backend.release(session, self.args["below"])

    async def recover(self, phase: str) -> bool:
        await self.context.fleet.stop(self.args["spare"])
        if phase != "swap":
            await note_death(self.context, self.args["into"], "the service was stopped during it")
        return phase == "swap"

    async def abort(self, session: AsyncSession) -> None:
        await self.context.backend.release(session, self.args["spare"])

    async def after(self) -> None:
        await forgive(self.context, self.args["into"])
        await self.context.backend.sweep()


async def shorten(context: Context, vdisk_guid: str) -> None:
    """Before a snapshot: merge now what many snapshots within seconds have left no time for. Normally does nothing.

    The caller holds the vDisk's lock. A merge that fails is no reason to refuse the snapshot.
    """
    async with context.db.read() as session:
        ref = await session.scalar(select(VDisk.backend_ref).where(VDisk.guid == vdisk_guid))
        merge = await context.backend.overdue(session, ref) if ref is not None else None
        if merge is None or await is_parked(session, merge.into):
            return
    args = {"vdisk_guid": vdisk_guid, "into": merge.into, "base": merge.base}
    try:
        await context.journal.run_locked(MergeIntoHead(context, args))
    except (OperationError, BackendError, ExportsError, OSError) as error:
        log.warning("merge into %s before a snapshot: %s", merge.into, error)
    finally:
        await serving.close_if_unused(context, vdisk_guid)


async def stream_into(
    context: Context, daemon: StorageDaemon, into: str, base: str | None, give_way: asyncio.Event
) -> None:
    """Stream and flush, unless somebody wants the vDisk first.

    :raises GaveWay: the stream was cancelled.
    """
    node = context.backend.node_of
    stream = daemon.run_stream(
        job=f"merge-{into[:8]}",
        head=node(into),
        base=node(base) if base else None,
        header=context.backend.header_name(base) if base else None,
    )
    try:
        await _unless(give_way, stream)
        await daemon.flush()
    except ExportsError as error:
        if not daemon.alive():
            await note_death(context, into, str(error))
        raise


async def _unless(give_way: asyncio.Event, work: Coroutine[Any, Any, None]) -> None:
    """Do something that takes long, unless somebody asks us to give way.

    :raises GaveWay: it was cancelled, and has ended.
    """
    task, waiter = asyncio.create_task(work), asyncio.create_task(give_way.wait())
    try:
        await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
            raise GaveWay()
        await task
    finally:
        waiter.cancel()
        task.cancel()


async def note_death(context: Context, into: str, reason: str) -> None:
    """Count a merge during which a daemon or the service died."""
    async with context.db.write() as session:
        row = await session.get(Setting, PARKED + into)
        deaths = (row.value["deaths"] if row is not None else 0) + 1
        await session.merge(Setting(name=PARKED + into, value={"deaths": deaths, "reason": reason}))
    if deaths >= MAX_DEATHS:
        log.error("merging into layer %s is given up after %d deaths: %s", into, deaths, reason)


async def forget_removed(context: Context) -> None:
    """Forget merges into layers that are gone."""
    async with context.db.write() as session:
        for mark in list(await session.scalars(select(Setting).where(Setting.name.startswith(PARKED)))):
            if not await context.backend.is_known(session, mark.name.removeprefix(PARKED)):
                await session.delete(mark)


async def is_parked(session: AsyncSession, into: str) -> bool:
    """:returns: whether a merge is not tried any more."""
    row = await session.get(Setting, PARKED + into)
    return row is not None and int(row.value["deaths"]) >= MAX_DEATHS


async def forgive(context: Context, into: str) -> None:
    """Forget earlier failures of a merge that succeeded."""
    async with context.db.write() as session:
        row = await session.get(Setting, PARKED + into)
        if row is not None:
            await session.delete(row)
