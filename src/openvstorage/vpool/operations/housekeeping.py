"""What is done without being asked: trash, merges, deadlines of grants, new daemons for those that died.

Each round is safe to cut off anywhere. Nothing here is needed for a right answer, only for space, depth and time.
"""

from __future__ import annotations

import asyncio
import logging
import time

from sqlalchemy import select

from openvstorage.vpool.backends.base import BackendError, Merge
from openvstorage.vpool.exports.errors import ExportsError
from openvstorage.vpool.model.export import Grant, GrantState
from openvstorage.vpool.operations.context import Context
from openvstorage.vpool.operations.errors import OperationError
from openvstorage.vpool.operations.grants import Respawn, RevokeGrant
from openvstorage.vpool.operations.merge import FoldFrozen, GaveWay, MergeIntoHead, is_parked
from openvstorage.vpool.operations.tasks import Tasks

log = logging.getLogger(__name__)

ROUND_SECONDS = 15.0
RESPAWN_PAUSE_SECONDS = 1.0
RESPAWN_ATTEMPTS = 30
#: Work is handed out after changes have settled for a moment, so that a burst of them causes one round.
SETTLE_SECONDS = 0.2


class Housekeeping:
    """One background task per node; :meth:`start` and :meth:`stop` frame its life."""

    def __init__(self, context: Context, tasks: Tasks) -> None:
        self._context = context
        self._tasks = tasks
        self._wake = asyncio.Event()
        self._one_round = asyncio.Lock()
        self._stopping = False
        self._merge: MergeIntoHead | FoldFrozen | None = None
        self._loop: asyncio.Task[None] | None = None
        self._respawns: dict[str, asyncio.Task[None]] = {}
        self._respawn_again: set[str] = set()
        context.tidy = self._wake.set
        context.respawn = self.respawn
        context.fleet.on_death = self.respawn

    def start(self) -> None:
        """Begin."""
        self._loop = asyncio.create_task(self._run(), name="housekeeping")

    async def stop(self) -> None:
        """End; a merge under way is given up cleanly and done again another time."""
        self._stopping = True
        self._wake.set()
        if self._merge is not None:
            self._merge.give_way.set()
        for respawn in self._respawns.values():
            respawn.cancel()
        if self._loop is not None:
            await self._loop

    def respawn(self, vdisk: str) -> None:
        """Start a new daemon for a vDisk, trying again for a while; clients wait meanwhile."""
        if self._stopping:
            return
        if vdisk in self._respawns:
            self._respawn_again.add(vdisk)  # the new daemon may have died before that task has ended
            return
        task = asyncio.create_task(self._respawn(vdisk), name=f"respawn-{vdisk}")
        self._respawns[vdisk] = task
        task.add_done_callback(lambda _: self._respawned(vdisk))

    def _respawned(self, vdisk: str) -> None:
        del self._respawns[vdisk]
        if vdisk in self._respawn_again:
            self._respawn_again.remove(vdisk)
            self.respawn(vdisk)

    async def _respawn(self, vdisk: str) -> None:
        for attempt in range(RESPAWN_ATTEMPTS):
            try:
                await self._context.journal.run(Respawn(self._context, {"vdisk_guid": vdisk}))
                return
            except (ExportsError, OperationError, BackendError) as error:
                log.error("vDisk %s can not be served (attempt %d): %s", vdisk, attempt + 1, error)
                await asyncio.sleep(RESPAWN_PAUSE_SECONDS)

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self.round()
            except (ExportsError, OperationError, BackendError, OSError) as error:
                log.warning("housekeeping: %s", error)
            except Exception:
                log.exception("housekeeping failed")
            try:
                await asyncio.wait_for(self._wake.wait(), ROUND_SECONDS)
            except TimeoutError:
                continue
            self._wake.clear()
            if not self._stopping:
                await asyncio.sleep(SETTLE_SECONDS)

    async def round(self) -> None:
        """Do what is due now; waits for a round that is under way."""
        async with self._one_round:
            await self._context.heartbeat()
            await self._context.backend.sweep()
            await self._reap()
            await self._tasks.purge()
            await self._context.journal.retry_parked()
            for merge in await self._context.backend.merges():
                if self._stopping:
                    return
                await self._try_merge(merge)

    async def _reap(self) -> None:
        async with self._context.db.read() as session:
            due = list(
                await session.scalars(
                    select(Grant).where(Grant.deadline < time.time(), Grant.state != GrantState.REVOKING)
                )
            )
        for grant in due:
            log.info("the grant of %s on %s has run out", grant.consumer, grant.vdisk_guid)
            await self._context.journal.run(
                RevokeGrant(self._context, {"grant_guid": grant.guid, "vdisk_guid": grant.vdisk_guid})
            )

    async def _try_merge(self, merge: Merge) -> None:
        async with self._context.db.read() as session:
            if await is_parked(session, merge.into):
                return
        try:
            if merge.vdisk is None:
                await self._fold(merge)
            else:
                await self._merge_into_head(merge, merge.vdisk)
        except (GaveWay, BackendError, OperationError) as error:
            log.debug("merge into %s: %s", merge.into, error)
        finally:
            self._merge = None

    async def _merge_into_head(self, merge: Merge, vdisk: str) -> None:
        async with self._context.locks.hold_in_background(vdisk) as give_way:
            if give_way is None:
                return
            served = self._context.fleet.get(vdisk) is not None
            operation = MergeIntoHead(self._context, {"vdisk_guid": vdisk, "into": merge.into, "base": merge.base})
            operation.give_way = give_way
            self._merge = operation
            try:
                await self._context.journal.run_locked(operation)
            finally:
                if not served:
                    await self._context.fleet.stop(vdisk)

    async def _fold(self, merge: Merge) -> None:
        operation = FoldFrozen(self._context, {"into": merge.into, "below": merge.below, "base": merge.base})
        self._merge = operation
        await self._context.journal.run(operation)
