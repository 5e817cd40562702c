"""The journal: runs operations step by step and finishes after a restart what was begun before it.

Rules: intent is committed before bytes are touched; the result is committed together with the operation's end and its
task's result; nothing else decides what recovery does. What ends something, or gives room back, has to be possible on
a full disk: its transaction is repeated with room of the reserve. While an operation is in the journal and nobody runs
it, what the model says of its vDisks is not true yet: nothing else may begin with them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import delete, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.task import OperationRow, Task, TaskStatus
from openvstorage.vpool.operations.context import Context
from openvstorage.vpool.operations.errors import Interrupted, Unfinished, code_of, is_disk_full, text_of
from openvstorage.vpool.operations.operation import Operation, Step

T = TypeVar("T")
log = logging.getLogger(__name__)

FORWARD_ATTEMPTS = 3
FORWARD_PAUSE_SECONDS = 1.0
#: So often a transaction that must not fail for want of room is tried, each time with another part of the reserve.
FULL_ATTEMPTS = 4


class Journal:
    """Runs operations.

    :param types: every operation class by its type, for recovery.
    """

    def __init__(self, context: Context, types: Mapping[str, type[Operation]]) -> None:
        self._context = context
        self._types = types
        #: Operations in the journal that nobody runs, with their vDisks.
        self._unfinished: dict[str, frozenset[str]] = {}

    async def run(self, operation: Operation, task_guid: str | None = None) -> Any:
        """Run an operation from begin to finish; waits for its vDisks first.

        :returns: what its ``finish`` returns.
        :raises Unfinished: an earlier operation of one of its vDisks can still not be finished.
        :raises Exception: what made it fail; it has been taken back then (a ``forward`` one stays in the journal).
        """
        await self._resume_all(
            [guid for guid, held in self._unfinished.items() if not held.isdisjoint(operation.locks())]
        )
        async with self._context.locks.hold(operation.locks()):
            return await self.run_locked(operation, task_guid)

    async def run_locked(self, operation: Operation, task_guid: str | None = None) -> Any:
        """The same for a caller who holds the locks already."""
        guid = new_guid()
        try:
            if not self.is_settled(operation.locks()):
                raise Unfinished()
            await operation.prepare()
            steps, result = await self._commit(
                lambda session: self._begin(session, guid, operation, task_guid), insist=operation.frees
            )
        except Exception as error:
            await self._fail_task(task_guid, error)
            await _tidy_up(operation, operation.after_failure)
            raise
        await self._context.boundary(operation.type, "begin")
        if steps:
            attempts = FORWARD_ATTEMPTS if operation.forward else 1
            result = await self._advance(guid, operation, steps, task_guid, attempts=attempts)
        await _tidy_up(operation, operation.after)
        return result

    async def _begin(
        self, session: AsyncSession, guid: str, operation: Operation, task_guid: str | None
    ) -> tuple[list[Step], Any]:
        """:returns: the steps that are to follow; if there are none it has ended, and the other value is its result."""
        await operation.begin(session)
        steps = [step for step in operation.steps if not operation.skips(step)]
        if steps:
            await self._enter(session, guid, operation, task_guid)
            return steps, None
        result = await operation.finish(session)
        await _succeed(session, task_guid, result)
        return steps, result

    async def _commit(self, work: Callable[[AsyncSession], Awaitable[T]], *, insist: bool = True) -> T:
        """One transaction. :param insist: on a full disk use up the reserve rather than give up."""
        attempts = FULL_ATTEMPTS if insist else 1
        while True:
            attempts -= 1
            try:
                async with self._context.db.write() as session:
                    return await work(session)
            except OperationalError as error:
                if attempts <= 0 or not is_disk_full(error):
                    raise
            self._context.backend.ease()

    def is_settled(self, vdisks: Iterable[str]) -> bool:
        """:returns: whether what the model says of these vDisks is true: no operation waits to be finished."""
        return all(held.isdisjoint(vdisks) for held in self._unfinished.values())

    async def recover(self) -> None:
        """Finish or take back every operation found in the journal, oldest first. Call before anything is served."""
        async with self._context.db.read() as session:
            rows = list(await session.scalars(select(OperationRow).order_by(OperationRow.created_at)))
        self._unfinished = {row.guid: frozenset(self._operation_of(row).locks()) for row in rows}
        await self._resume_all([row.guid for row in rows])

    async def retry_parked(self) -> None:
        """Try again what could not be finished or taken back."""
        await self._resume_all(list(self._unfinished))

    def _operation_of(self, row: OperationRow) -> Operation:
        operation = self._types[row.type](self._context, dict(row.args))
        operation.phase = row.phase
        return operation

    async def _resume_all(self, guids: Sequence[str]) -> None:
        for guid in guids:
            async with self._context.locks.hold(self._unfinished.get(guid, ())):
                if guid in self._unfinished:  # nobody else was faster
                    await self._resume(guid)

    async def _resume(self, guid: str) -> None:
        async with self._context.db.read() as session:
            row = await session.get_one(OperationRow, guid)
        operation = self._operation_of(row)
        log.info("operation %s of %s: resuming at %s", row.type, row.vdisk_guid, row.phase or "its beginning")
        try:
            if await operation.recover(row.phase):
                await self._go_on(row, operation)
            else:
                await self._abort(guid, operation, row.task_guid, Interrupted())
        except Exception:
            log.exception("operation %s of %s failed", row.type, row.vdisk_guid)

    async def _go_on(self, row: OperationRow, operation: Operation) -> None:
        steps = [step for step in operation.steps if not operation.skips(step)]
        names = [step.name for step in steps]
        start = names.index(row.phase) if row.phase in names else 0
        await self._advance(row.guid, operation, steps[start:], row.task_guid, attempts=1)
        await _tidy_up(operation, operation.after)

    async def _enter(self, session: AsyncSession, guid: str, operation: Operation, task_guid: str | None) -> None:
        now = time.time()
        session.add(
            OperationRow(
                guid=guid,
                type=operation.type,
                args=operation.args,
                vdisk_guid=operation.args.get("vdisk_guid"),
                task_guid=task_guid,
                created_at=now,
            )
        )
        if task_guid:
            await session.execute(update(Task).where(Task.guid == task_guid).values(status=TaskStatus.STARTED))

    async def _advance(
        self, guid: str, operation: Operation, steps: list[Step], task_guid: str | None, *, attempts: int
    ) -> Any:
        try:
            for step in steps:
                await self._step(guid, operation, step, attempts)
            result = await self._commit(lambda session: self._finish(session, guid, operation, task_guid))
        except Exception as error:
            await self._fail(guid, operation, task_guid, error)
            raise
        self._unfinished.pop(guid, None)
        await self._context.boundary(operation.type, "finish")
        return result

    async def _finish(self, session: AsyncSession, guid: str, operation: Operation, task_guid: str | None) -> Any:
        result = await operation.finish(session)
        await session.execute(delete(OperationRow).where(OperationRow.guid == guid))
        await _succeed(session, task_guid, result)
        return result

    async def _step(self, guid: str, operation: Operation, step: Step, attempts: int) -> None:
        if step.commit:
            async with self._context.db.write() as session:
                await session.execute(
                    update(OperationRow).where(OperationRow.guid == guid).values(phase=step.name, args=operation.args)
                )
            operation.phase = step.name
            await self._context.boundary(operation.type, f"{step.name}:committed")
        full_attempts = FULL_ATTEMPTS if operation.frees else 1
        while True:
            try:
                await getattr(operation, step.name)()
                break
            except Exception as error:
                if is_disk_full(error) and full_attempts > 1:
                    full_attempts -= 1
                    self._context.backend.ease()
                    continue
                attempts -= 1
                if attempts <= 0:
                    raise
                log.warning("%s: step %s failed, trying again", operation.type, step.name, exc_info=True)
                await asyncio.sleep(FORWARD_PAUSE_SECONDS)
        await self._context.boundary(operation.type, step.name)

    async def _fail(self, guid: str, operation: Operation, task_guid: str | None, error: Exception) -> None:
        """Take an operation back, or keep it in the journal to be tried again."""
        stays = operation.forward
        try:
            if operation.forward:
                await self._park(guid, error, task_guid)
            else:
                await self._abort(guid, operation, task_guid, error)
        except Exception:
            # the first error is what the caller is told; the operation is tried again by the housekeeping
            log.exception("operation %s stays in the journal", operation.type)
            stays = True
        if stays:  # only now that nobody runs it any more: an operation without locks could be taken up at once
            self._unfinished[guid] = frozenset(operation.locks())

    async def _abort(self, guid: str, operation: Operation, task_guid: str | None, error: Exception) -> None:
        async def take_back(session: AsyncSession) -> None:
            await operation.abort(session)
            await session.execute(delete(OperationRow).where(OperationRow.guid == guid))
            await fail_task(session, task_guid, error)

        await operation.give_up()
        await self._commit(take_back)
        self._unfinished.pop(guid, None)
        await self._context.boundary(operation.type, "abort")
        await _tidy_up(operation, operation.after_failure)
        self._context.tidy()

    async def _park(self, guid: str, error: Exception, task_guid: str | None) -> None:
        async def note(session: AsyncSession) -> None:
            await session.execute(
                update(OperationRow)
                .where(OperationRow.guid == guid)
                .values(error=text_of(error), attempts=OperationRow.attempts + 1, task_guid=None)
            )
            await fail_task(session, task_guid, error)

        await self._commit(note)

    async def _fail_task(self, task_guid: str | None, error: Exception) -> None:
        if task_guid:
            await self._commit(lambda session: fail_task(session, task_guid, error))


async def _tidy_up(operation: Operation, work: Callable[[], Awaitable[None]]) -> None:
    """Do what is not needed for correctness; what was decided before stays decided if it fails."""
    try:
        await work()
    except Exception:
        log.exception("tidying up after %s failed", operation.type)


async def _succeed(session: AsyncSession, task_guid: str | None, result: Any) -> None:
    await _end_task(session, task_guid, status=TaskStatus.SUCCESS, result=result)


async def fail_task(session: AsyncSession, task_guid: str | None, error: Exception) -> None:
    """Record that a task has failed, with what people and what programs are told of it; None is no task."""
    await _end_task(
        session, task_guid, status=TaskStatus.FAILURE, result=text_of(error), error_code=code_of(error).value
    )


async def _end_task(session: AsyncSession, task_guid: str | None, **values: Any) -> None:
    if task_guid:
        await session.execute(update(Task).where(Task.guid == task_guid).values(finished_at=time.time(), **values))
