"""``/api/tasks/``: what became of what was asked for."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field
from sqlalchemy import select

from openvstorage.vpool.access.roles import Role
from openvstorage.vpool.access.tokens import Principal
from openvstorage.vpool.api.caller import READS
from openvstorage.vpool.api.context import ApiContext, context_of
from openvstorage.vpool.api.documented import answers
from openvstorage.vpool.api.envelopes import impossible, not_found
from openvstorage.vpool.api.kinds.grant import without_export
from openvstorage.vpool.api.parameters import Parameters, parsed, query_schema
from openvstorage.vpool.api.shapes import TaskShape
from openvstorage.vpool.model.cluster import StorageRouter
from openvstorage.vpool.model.task import Task, TaskStatus

router = APIRouter(prefix="/tasks", tags=["tasks"])

LONGEST_WAIT = 60.0
#: ``get/`` gives up after this long, as Open vStorage's proxy does.
LONGEST_GET = 600.0
SHOWN = 1000


class TaskParameters(Parameters):
    """How long to wait."""

    wait: float = Field(
        0.0, ge=0, le=LONGEST_WAIT, description="Answer as soon as the task is ready, or after so many seconds"
    )


@router.get(
    "/{task_id}/", dependencies=[READS], **answers(TaskShape, "The task"), openapi_extra=query_schema(TaskParameters)
)
async def show_task(
    request: Request, task_id: str, asked: Annotated[TaskParameters, Depends(parsed(TaskParameters))]
) -> Response:
    """Show a task. An unknown one is PENDING for ever, never 404: that is what clients know."""
    context = context_of(request)
    task = await context.operations.wait(task_id, asked.wait) if _possible(task_id) else None
    result = await _result(context, task, request.state.principal) if task is not None else None
    return JSONResponse(shown(task_id, task) | {"result": result})


@router.get("/{task_id}/get/", dependencies=[READS], **answers(Any, "The task's result; 204 for null"))
async def get_task(request: Request, task_id: str) -> Response:
    """Wait until a task is done and give its bare result."""
    context = context_of(request)
    waited = 0.0
    while waited < LONGEST_GET:
        task = await context.operations.wait(task_id, LONGEST_WAIT) if _possible(task_id) else None
        if task is None:
            raise not_found("task")
        if task.status == TaskStatus.SUCCESS:
            result = await _result(context, task, request.state.principal)
            return Response(status_code=204) if result is None else JSONResponse(result)
        if TaskStatus(task.status).ready:
            raise impossible(str(task.result), task.error_code)
        waited += LONGEST_WAIT
        if await request.is_disconnected():
            break
    raise impossible("The task is still under way; ask again")


@router.get("/", dependencies=[READS], **answers(dict[str, Any], "Tasks by state, then by node"))
async def list_tasks(request: Request) -> Response:
    """List the tasks under way, at most a thousand."""
    unfinished = [TaskStatus.PENDING, TaskStatus.STARTED]
    wanted = select(Task).where(Task.status.in_(unfinished)).order_by(Task.created_at).limit(SHOWN)
    async with context_of(request).db.read() as session:
        tasks = list(await session.scalars(wanted))
        nodes = await session.execute(select(StorageRouter.guid, StorageRouter.name))
        names = {row.guid: row.name for row in nodes}
    found: dict[str, dict[str, list[Any]]] = {"active": {}, "scheduled": {}, "reserved": {}, "revoked": {}}
    for task in tasks:
        state = "active" if task.status == TaskStatus.STARTED else "reserved"
        node = names.get(task.node_guid or "", "")
        found[state].setdefault(node, []).append({"id": task.guid, "name": task.kind})
    return JSONResponse(found)


def shown(task_id: str, task: Task | None) -> dict[str, Any]:
    """:returns: a task as clients know it, but for its result."""
    status = TaskStatus(task.status) if task is not None else TaskStatus.PENDING
    return {
        "id": task_id,
        "status": status,
        "successful": status is TaskStatus.SUCCESS,
        "failed": status is TaskStatus.FAILURE,
        "ready": status.ready,
        # Only where there is one: Open vStorage's clients have not seen this key.
        **({"error_code": task.error_code} if task is not None and task.error_code is not None else {}),
    }


async def _result(context: ApiContext, task: Task, principal: Principal) -> Any:
    """Give a task's result once there is one, as far as it is this caller's business.

    Whoever made a grant is told its secret, which is kept nowhere, and nobody else.
    """
    status = TaskStatus(task.status)
    if status is not TaskStatus.SUCCESS or task.kind != "grant.create" or task.result is None:
        return task.result if status.ready else None
    if Role.WRITE not in principal.roles:
        return without_export(task.result)
    if task.username not in (None, principal.username):
        return task.result
    return {**task.result, "secret": await context.grant_secrets.of(task.result["guid"])}


def _possible(task_id: str) -> bool:
    # Anything else was never a task of ours, and need not reach the database.
    return len(task_id) == 36 and task_id.isascii() and task_id.isprintable()
