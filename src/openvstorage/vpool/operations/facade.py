"""The one door of this room."""

from __future__ import annotations

import logging
from typing import Any

from sqlalchemy.exc import SQLAlchemyError

from openvstorage.vpool.backends.base import PoolStats
from openvstorage.vpool.model.task import Task
from openvstorage.vpool.model.vdisk import VDisk
from openvstorage.vpool.operations import serving
from openvstorage.vpool.operations.context import Context
from openvstorage.vpool.operations.grants import Respawn
from openvstorage.vpool.operations.housekeeping import Housekeeping
from openvstorage.vpool.operations.journal import Journal
from openvstorage.vpool.operations.recovery import recover
from openvstorage.vpool.operations.registry import KINDS, TYPES
from openvstorage.vpool.operations.tasks import Idempotency, Tasks

log = logging.getLogger(__name__)


class Operations:
    """Tasks in, results out.

    :param context: the parts; its journal and callbacks are set here.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        journal = Journal(context, TYPES)
        context.journal = journal
        self._tasks = Tasks(context, journal, KINDS)
        self._housekeeping = Housekeeping(context, self._tasks)

    @property
    def discards_in_place(self) -> bool:
        """:returns: whether layers with sub-clusters give discarded space back."""
        return self._context.backend.discards_in_place

    async def start(self) -> None:
        """Recover what an earlier process left, then begin background work. Call before anything is submitted."""
        await recover(self._context, self._tasks, self._housekeeping)
        self._housekeeping.start()

    async def stop(self) -> None:
        """End tasks and background work; storage daemons live on."""
        await self._tasks.close()
        await self._housekeeping.stop()
        try:
            await self._context.heartbeat()
        except SQLAlchemyError as error:
            log.warning("the end of service is not in the database: %s", error)  # such as on a full disk
        await self._context.fleet.detach()

    async def submit(
        self,
        kind: str,
        args: dict[str, Any],
        *,
        vdisk_guid: str | None = None,
        idempotency: Idempotency | None = None,
        username: str | None = None,
    ) -> str:
        """Take a task in. :returns: its guid; the earlier task's for a repeated request.

        :param kind: one of ``registry.KINDS``. :param username: who asks; only they are told secrets in the result.
        :raises IdempotencyConflict: the key stands for another request.
        """
        if KINDS[kind].frees:
            self._context.backend.ease()
        return await self._tasks.submit(kind, args, vdisk_guid=vdisk_guid, idempotency=idempotency, username=username)

    async def wait(self, task_guid: str, seconds: float) -> Task | None:
        """:returns: the task once it is ready or after ``seconds``; None if it is unknown.

        :raises ServiceStops: :meth:`stop_waiting` was called before it was ready.
        """
        return await self._tasks.wait(task_guid, seconds)

    def stop_waiting(self) -> None:
        """Let go whoever waits for a task: the service is about to stop. Does not block."""
        self._tasks.stop_waiting()

    async def ensure_served(self, vdisk_guid: str) -> None:
        """Return when every client with a grant of the vDisk can connect; what runs already is left as it is.

        Waits for whatever changes the vDisk at this moment, since that may have its exports closed.

        :raises ExportsError: no daemon can be started. :raises OperationError: the vDisk is gone.
        """
        async with self._context.locks.hold((vdisk_guid,)):
            if not await serving.is_served(self._context, vdisk_guid):
                await self._context.journal.run_locked(Respawn(self._context, {"vdisk_guid": vdisk_guid}))

    async def edge_clients(self, export_guid: str) -> list[tuple[str, int]]:
        """:returns: address and port of every client connected to an export; those of a head's readers are not."""
        daemon = self._context.fleet.get(export_guid)
        if daemon is None:
            return []
        return await daemon.clients()

    async def pool_stats(self) -> PoolStats:
        """:returns: how full the pool is, at most a few seconds old."""
        return await self._context.backend.pool_stats()

    async def stored(self, vdisk: VDisk) -> int:
        """:returns: bytes that the vDisk itself takes, without what it shares with others."""
        return await self._context.backend.usage(vdisk.backend_ref) if vdisk.backend_ref is not None else 0
