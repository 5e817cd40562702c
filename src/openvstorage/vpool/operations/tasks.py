"""Tasks: what clients asked for, as rows, so that none is lost and each can be asked for its result for a day.

One task at a time per vDisk (the operations' locks see to that), many over all vDisks.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import make_transient

from openvstorage.vpool.backends.base import PoolFull
from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.task import OperationRow, Task, TaskStatus
from openvstorage.vpool.operations.context import Context
from openvstorage.vpool.operations.errors import (
    IdempotencyConflict,
    Interrupted,
    OperationError,
    ServiceStops,
    is_disk_full,
)
from openvstorage.vpool.operations.journal import FULL_ATTEMPTS, Journal, fail_task
from openvstorage.vpool.operations.operation import Operation

log = logging.getLogger(__name__)

KEEP_SECONDS = 86_400.0
CLOSE_SECONDS = 30.0
#: How long a task that was cancelled may take to let go of what it holds.
CANCEL_SECONDS = 5.0
#: How soon a waiting client looks again at a task that nobody runs just now.
LOOK_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Idempotency:
    """A client's name for a request, so that a repeat of it is recognised.

    :ivar request_digest: SHA-256 (hex) over what was asked for; another one under the same key is a conflict.
    """

    username: str
    key: str
    request_digest: str


class Tasks:
    """Takes tasks in and sees them through.

    :param kinds: operation classes by task kind.
    """

    def __init__(self, context: Context, journal: Journal, kinds: Mapping[str, type[Operation]]) -> None:
        self._context = context
        self._journal = journal
        self._kinds = kinds
        self._running: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()

    async def submit(
        self,
        kind: str,
        args: dict[str, Any],
        *,
        vdisk_guid: str | None,
        idempotency: Idempotency | None,
        username: str | None = None,
    ) -> str:
        """Keep a task and start it. :returns: its guid, or the earlier task's for a repeated request.

        :param username: who asks.
        :raises IdempotencyConflict: the key stands for another request.
        :raises PoolFull: there is no room to keep it, for what gives room back not even in the reserve.
        """
        if vdisk_guid is not None:
            args = {"vdisk_guid": vdisk_guid, **args}
        args = self._kinds[kind].accept(args)
        task = Task(
            guid=new_guid(),
            kind=kind,
            args=args,
            vdisk_guid=vdisk_guid,
            node_guid=self._context.node.guid,
            username=username,
            created_at=time.time(),
        )
        attempts = FULL_ATTEMPTS if self._kinds[kind].frees else 1
        while True:
            attempts -= 1
            try:
                kept = await self._keep(task, idempotency)
                break
            except OperationalError as error:
                if not is_disk_full(error):
                    raise
                if attempts <= 0:
                    raise PoolFull from error
            make_transient(task)
            self._context.backend.ease()
        if kept != task.guid:
            return kept
        await self._context.boundary("task", "submitted")
        self._start(task.guid, kind, args)
        return task.guid

    async def _keep(self, task: Task, idempotency: Idempotency | None) -> str:
        """Commit a task. :returns: its guid, or the earlier one's of the same request."""
        async with self._context.db.write() as session:
            if idempotency is not None:
                earlier = await session.scalar(
                    select(Task).where(Task.username == idempotency.username, Task.idempotency_key == idempotency.key)
                )
                if earlier is not None:
                    if earlier.request_digest != idempotency.request_digest:
                        raise IdempotencyConflict()
                    return earlier.guid
                task.username, task.idempotency_key = idempotency.username, idempotency.key
                task.request_digest = idempotency.request_digest
            session.add(task)
        return task.guid

    async def wait(self, guid: str, seconds: float) -> Task | None:
        """:returns: the task once it is ready, or as it is after ``seconds``; None if there is no such task.

        :raises ServiceStops: who waits for longer than this service lives shall ask again.
        """
        running = self._running.get(guid)
        if running is not None and seconds > 0:
            await self._first(running, seconds)
        task = await self._find(guid)
        if task is None or seconds <= 0 or TaskStatus(task.status).ready:
            return task
        if running is None:
            # its operation stays in the journal and is tried again: who waits shall not ask all the time
            await self._first(None, min(seconds, LOOK_SECONDS))
            task = await self._find(guid)
        if self._stopping.is_set():
            raise ServiceStops()
        return task

    def stop_waiting(self) -> None:
        """Let go whoever waits for a task, now and from now on: they keep the service from ending."""
        self._stopping.set()

    async def _first(self, running: asyncio.Task[None] | None, seconds: float) -> None:
        """Wait for the end of a task or of the service, for ``seconds`` at most."""
        stopping = asyncio.create_task(self._stopping.wait())
        ends = {stopping} if running is None else {stopping, running}
        await asyncio.wait(ends, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()

    async def _find(self, guid: str) -> Task | None:
        async with self._context.db.read() as session:
            return await session.get(Task, guid)

    async def resume(self) -> None:
        """Start what was taken in but not begun before the service was stopped.

        A task that was begun has an operation, which recovery has finished; one without an operation that still says
        it is under way was a member of something larger that ended, and is told so.
        """
        async with self._context.db.read() as session:
            rows = list(
                await session.scalars(
                    select(Task)
                    .where(Task.status.in_([TaskStatus.PENDING, TaskStatus.STARTED]))
                    .order_by(Task.created_at)
                )
            )
            in_journal = set(await session.scalars(select(OperationRow.task_guid)))
        for task in rows:
            if task.status == TaskStatus.PENDING:
                self._start(task.guid, task.kind, dict(task.args) | {"resumed": True})
            elif task.guid not in in_journal:
                async with self._context.db.write() as session:
                    await fail_task(session, task.guid, Interrupted())

    async def purge(self) -> None:
        """Forget results older than a day. What ended before then began before then, which an index knows."""
        limit = time.time() - KEEP_SECONDS
        async with self._context.db.write() as session:
            await session.execute(delete(Task).where(Task.created_at < limit, Task.finished_at < limit))

    async def close(self) -> None:
        """Let running tasks come to an end; called when no new ones arrive any more.

        One that hangs is cut off, which is to it as a crash at that point: no transaction is half done, its
        operation stays in the journal, and the next start finishes it or takes it back.
        """
        if self._running:
            _, late = await asyncio.wait(set(self._running.values()), timeout=CLOSE_SECONDS)
            for task in late:
                log.warning("%s is cut off: it has not ended within %.0f seconds", task.get_name(), CLOSE_SECONDS)
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=CANCEL_SECONDS)

    def _start(self, guid: str, kind: str, args: dict[str, Any]) -> None:
        operation = self._kinds[kind](self._context, dict(args))
        running = asyncio.create_task(self._run(guid, operation), name=f"task-{guid}")
        self._running[guid] = running
        running.add_done_callback(lambda _: self._running.pop(guid, None))

    async def _run(self, guid: str, operation: Operation) -> None:
        try:
            await self._journal.run(operation, guid)
        except OperationError as error:
            log.info("task %s (%s) refused: %s", guid, operation.type, error)
        except Exception as error:
            if is_disk_full(error):
                log.error("task %s (%s) failed: the disk is full", guid, operation.type)
            else:
                log.exception("task %s (%s) failed", guid, operation.type)
