"""Handing work to the operations, once for each request.

With an ``Idempotency-Key`` a request that is sent again gets the task of the first time, whatever has happened to its
vDisk since; so the key is looked up before anything else is checked.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import JSONResponse, Response
from sqlalchemy import select

from openvstorage.vpool.access.tokens import Principal
from openvstorage.vpool.api.context import ApiContext, context_of
from openvstorage.vpool.api.envelopes import ApiError, duplicate_key, impossible, invalid
from openvstorage.vpool.api.parameters import arguments
from openvstorage.vpool.api.values import require_printable
from openvstorage.vpool.backends.base import PoolFull
from openvstorage.vpool.model.task import Task
from openvstorage.vpool.operations import Idempotency
from openvstorage.vpool.operations.errors import IdempotencyConflict

__all__ = ["AlreadySubmitted", "Work", "answer_already_submitted"]

LONGEST_KEY = 200


class AlreadySubmitted(Exception):
    """The request was sent before; ``task_guid`` is its task. Not an error: it has its answer already."""

    def __init__(self, task_guid: str) -> None:
        super().__init__(task_guid)
        self.task_guid = task_guid


async def answer_already_submitted(_request: Request, known: Exception) -> Response:
    """Give the task of the first time."""
    assert isinstance(known, AlreadySubmitted)
    return JSONResponse(known.task_guid)


class Submission:
    """Submits the work of one request of a user."""

    def __init__(self, context: ApiContext, username: str, idempotency: Idempotency | None) -> None:
        self._context = context
        self._username = username
        self._idempotency = idempotency

    async def submit(self, kind: str, args: dict[str, Any], vdisk_guid: str | None = None) -> str:
        """Begin an operation.

        :returns: its task's guid.
        :raises ApiError: 409, the key was used for another request meanwhile; 406, there is no room to begin it, or an
            argument holds what is not kept.
        """
        try:
            require_printable(args)
        except ValueError as refusal:
            raise invalid(str(refusal)) from None
        operations, key = self._context.operations, self._idempotency
        try:
            return await operations.submit(kind, args, vdisk_guid=vdisk_guid, idempotency=key, username=self._username)
        except IdempotencyConflict:
            raise duplicate_key() from None
        except PoolFull as error:
            raise impossible(str(error), error.code) from None


async def _submission(request: Request) -> Submission:
    context = context_of(request)
    principal: Principal = request.state.principal
    key = request.headers.get("idempotency-key")
    if key is None:
        return Submission(context, principal.username, None)
    if not (1 <= len(key) <= LONGEST_KEY and key.isprintable()):
        raise ApiError(400, "invalid_data", f"An Idempotency-Key has 1 to {LONGEST_KEY} printable characters")
    idempotency = Idempotency(principal.username, key, await _digest(request))
    async with context.db.read() as session:
        same = (Task.username == idempotency.username) & (Task.idempotency_key == key)
        earlier = (await session.execute(select(Task.guid, Task.request_digest).where(same))).one_or_none()
    if earlier is None:
        return Submission(context, principal.username, idempotency)
    if earlier.request_digest != idempotency.request_digest:
        raise duplicate_key()
    raise AlreadySubmitted(earlier.guid)


async def _digest(request: Request) -> str:
    """What makes two requests the same: method, path, and all parameters however they were passed."""
    said = [request.method, request.url.path, await arguments(request)]
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


#: Dependency of every call that answers a task. It comes after the one for the caller, whose name it needs.
Work = Annotated[Submission, Depends(_submission)]
