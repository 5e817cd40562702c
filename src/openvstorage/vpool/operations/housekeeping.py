"""What is done without being asked: trash, merges, deadlines of grants, new daemons for those that died.

Each round is safe to cut off anywhere. Nothing here is needed for a right answer, only for space, depth and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from sqlalchemy import func, select
from sqlalchemy.exc import SQLAlchemyError

from openvstorage.vpool.backends.base import BackendError, Merge
from openvstorage.vpool.exports.errors import ExportsError
from openvstorage.vpool.model.export import Export, Grant, GrantState
from openvstorage.vpool.operations import serving
from openvstorage.vpool.operations.context import Context, Upkeep
from openvstorage.vpool.operations.errors import OperationError
from openvstorage.vpool.operations.grants import Respawn, RevokeGrant
from openvstorage.vpool.operations.merge import FoldFrozen, GaveWay, MergeIntoHead, is_parked
from openvstorage.vpool.operations.settings import RestartVDisk
from openvstorage.vpool.operations.tasks import Tasks

log = logging.getLogger(__name__)

ROUND_SECONDS = 15.0
RESPAWN_PAUSE_SECONDS = 1.0
RESPAWN_ATTEMPTS = 30
#: So long after the start a daemon that copies are read from is not replaced for being outdated.
RENEWAL_PATIENCE_SECONDS = 300.0
#: Work is handed out after changes have settled for a moment, so that a burst of them causes one round.
SETTLE_SECONDS = 0.2


class Housekeeping:
    """Two background tasks per node, so that a long merge keeps nothing else waiting; :meth:`start` and :meth:`stop`
    frame their lives."""

    def __init__(self, context: Context, tasks: Tasks) -> None:
        self._context = context
        self._tasks = tasks
        self._began = time.monotonic()
        self._stopping = False
        self._stopped = asyncio.Event()
        self._chores = _Repeated(self._do_chores)
        self._merges = _Repeated(self._do_merges)
        self._merge: MergeIntoHead | FoldFrozen | None = None
        self._respawns: dict[str, asyncio.Task[None]] = {}
        self._respawn_again: set[str] = set()
        self._respawns_allowed = asyncio.Event()
        context.tidy = self.tidy
        context.respawn = self.respawn
        context.fleet.on_death = self.respawn

    def start(self) -> None:
        """Begin."""
        self._chores.start()
        self._merges.start()

    async def stop(self) -> None:
        """End; a merge under way is given up cleanly and done again another time."""
        self._stopping = True
        if self._merge is not None:
            self._merge.give_way.set()
        # Not cancelled: a transaction cut off in the middle would keep the database locked for all that follows.
        self._stopped.set()
        self._respawns_allowed.set()
        if self._respawns:
            await asyncio.wait(set(self._respawns.values()))
        await self._chores.stop()
        await self._merges.stop()

    def tidy(self) -> None:
        """Look soon for what there is to do."""
        self._chores.wake()
        self._merges.wake()

    async def round(self) -> None:
        """Do what is due now; waits for what is under way."""
        await self._chores.once()
        await self._merges.once()

    def allow_respawns(self) -> None:
        """From now on: every daemon that lives has been adopted, and no operation is half done."""
        self._respawns_allowed.set()

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
        self._respawns.pop(vdisk, None)
        if vdisk in self._respawn_again:
            self._respawn_again.remove(vdisk)
            self.respawn(vdisk)

    async def _respawn(self, vdisk: str) -> None:
        await self._respawns_allowed.wait()
        for attempt in range(RESPAWN_ATTEMPTS):
            if self._stopping:
                return
            try:
                await self._context.journal.run(Respawn(self._context, {"vdisk_guid": vdisk}))
                return
            except (ExportsError, OperationError, BackendError, OSError, SQLAlchemyError) as error:
                log.error("vDisk %s can not be served (attempt %d): %s", vdisk, attempt + 1, error)
            except Exception:
                # clients wait: what nobody has foreseen is no reason to leave them without a daemon
                log.exception("vDisk %s can not be served (attempt %d)", vdisk, attempt + 1)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), RESPAWN_PAUSE_SECONDS)

    async def _do_chores(self) -> None:
        """Each for itself: one that fails, such as on a full disk, must not keep the others from being done."""
        for chore in (
            self._context.heartbeat,
            self._renew_certificate,
            self._renew_outdated,
            self._context.backend.sweep,
            self._reap,
            self._tasks.purge,
            self._context.journal.retry_parked,
            self._respawn_missing,
            self._report,
        ):
            try:
                await chore()
            except Exception:
                log.exception("housekeeping: %s failed", chore.__name__)

    async def _renew_certificate(self) -> None:
        """Have the certificate issued again in time, and replace the daemons that still serve with an older one."""
        if await self._context.renew_certificate():
            log.info("the server's certificate was issued again")
        for guid in self._context.fleet.with_old_certificate():
            await self._restart(guid, "serves with an older certificate")

    async def _renew_outdated(self) -> None:
        """Replace the daemons that treat writes otherwise than their vDisks are to have it, such as those that an older
        version started. Copies under way there, which would have to begin again, may come to their end for a while."""
        patient = time.monotonic() - self._began < RENEWAL_PATIENCE_SECONDS
        for guid in await serving.outdated(self._context, spare_copies=patient):
            if not self._stopping:
                await self._restart(guid, "treats writes as its vDisk is not to have it any more")

    async def _restart(self, guid: str, reason: str) -> None:
        """Replace the daemon of an export; its clients reconnect, and nothing that was acknowledged is lost."""
        async with self._context.db.read() as session:
            export = await session.get(Export, guid)
        if export is None:
            return
        log.info("vDisk %s: the daemon of its %s %s and is replaced", export.vdisk_guid, export.kind, reason)
        args = {"vdisk_guid": export.vdisk_guid, "force": True, "exports": [guid]}
        try:
            await self._context.journal.run(RestartVDisk(self._context, args))
        except (ExportsError, OperationError) as error:
            log.error("vDisk %s: %s", export.vdisk_guid, error)

    async def _reap(self) -> None:
        async with self._context.db.read() as session:
            due = list(
                await session.scalars(
                    select(Grant).where(Grant.deadline < time.time(), Grant.state != GrantState.REVOKING)
                )
            )
        for grant in due:
            log.info("the grant of %s on %s has run out", grant.consumer, grant.vdisk_guid)
            revoke = {"grant_guid": grant.guid, "vdisk_guid": grant.vdisk_guid, "expired": True}
            try:
                await self._context.journal.run(RevokeGrant(self._context, revoke))
            except (ExportsError, OperationError) as error:
                log.error("the grant of %s on %s: %s", grant.consumer, grant.vdisk_guid, error)

    async def _report(self) -> None:
        outdated = await serving.outdated(self._context, spare_copies=False)
        async with self._context.db.read() as session:
            cut_off = await session.scalar(select(func.count()).where(Grant.cut_off_at.is_not(None)))
        await self._context.report(Upkeep(len(outdated), cut_off or 0))

    async def _respawn_missing(self) -> None:
        """Try again where starting a daemon was given up."""
        async with self._context.db.read() as session:
            exports = list(await session.scalars(select(Export)))
        for export in exports:
            if self._context.fleet.get(export.guid) is None:
                self.respawn(export.vdisk_guid)

    async def _do_merges(self) -> None:
        for merge in await self._context.backend.merges():
            if self._stopping:
                return
            if await self._try_merge(merge):
                self._merges.wake()  # it may have made others worth doing

    async def _try_merge(self, merge: Merge) -> bool:
        """:returns: whether it was done."""
        async with self._context.db.read() as session:
            if await is_parked(session, merge.into):
                return False
        if merge.vdisk is None and await serving.is_read(self._context, {merge.into, merge.below}):
            return False  # its room would only be free once those who read it are done
        try:
            if merge.vdisk is None:
                await self._fold(merge)
                return True
            return await self._merge_into_head(merge, merge.vdisk)
        except (GaveWay, OperationError, BackendError) as error:
            log.debug("merge into %s: %s", merge.into, error)
        except (ExportsError, OSError) as error:
            log.warning("merge into %s: %s", merge.into, error)
        finally:
            self._merge = None
        return False

    async def _merge_into_head(self, merge: Merge, vdisk: str) -> bool:
        async with self._context.locks.hold_in_background(vdisk) as give_way:
            if give_way is None:
                return False
            operation = MergeIntoHead(self._context, {"vdisk_guid": vdisk, "into": merge.into, "base": merge.base})
            operation.give_way = give_way
            self._merge = operation
            try:
                await self._context.journal.run_locked(operation)
            finally:
                await serving.close_if_unused(self._context, vdisk)
            return True

    async def _fold(self, merge: Merge) -> None:
        operation = FoldFrozen(self._context, {"into": merge.into, "below": merge.below})
        self._merge = operation
        await self._context.journal.run(operation)


class _Repeated:
    """Work that is done every few seconds, and soon after somebody asks for it; never twice at a time."""

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._wake = asyncio.Event()
        self._busy = asyncio.Lock()
        self._stopping = False
        self._loop: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._loop = asyncio.create_task(self._run(), name="housekeeping")

    async def stop(self) -> None:
        """End after the work under way."""
        self._stopping = True
        self._wake.set()
        if self._loop is not None:
            await self._loop

    def wake(self) -> None:
        self._wake.set()

    async def once(self) -> None:
        """Do the work now; waits for the same work under way."""
        async with self._busy:
            await self._work()

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self.once()
            except Exception:
                log.exception("housekeeping failed")
            try:
                await asyncio.wait_for(self._wake.wait(), ROUND_SECONDS)
            except TimeoutError:
                continue
            self._wake.clear()
            if not self._stopping:
                await asyncio.sleep(SETTLE_SECONDS)
