"""``/api/grants/``: who may open which vDisk. An extension of the contract, announced as ``grants``."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from openvstorage.vpool.api.caller import READS, VIEWS, WRITES
from openvstorage.vpool.api.context import context_of
from openvstorage.vpool.api.documented import lists, shows, tasks
from openvstorage.vpool.api.envelopes import impossible, not_found
from openvstorage.vpool.api.kinds.grant import GRANT, grants_for
from openvstorage.vpool.api.kinds.vdisk import VDISK
from openvstorage.vpool.api.lists import ListParameters, list_of
from openvstorage.vpool.api.lookup import ShowParameters, any_row, find, show
from openvstorage.vpool.api.parameters import Parameters, parsed
from openvstorage.vpool.api.shapes import GrantShape
from openvstorage.vpool.api.submission import Submission, Work
from openvstorage.vpool.api.values import Text
from openvstorage.vpool.model.export import Grant
from openvstorage.vpool.model.vdisk import Snapshot, State

router = APIRouter(prefix="/grants", tags=["grants"])

#: A grant with a deadline lives at most this long, a year, before it has to be asked for again.
LONGEST_DEADLINE = 366 * 86400


class CreateGrant(Parameters):
    """Who wants to open what."""

    vdisk_guid: str
    client: Text = Field(description="Host that will connect")
    consumer: Text = Field(description="What it is for, such as an instance or a transfer; opaque")
    mode: Literal["rw", "ro"]
    snapshot_guid: str | None = Field(None, description="Open this snapshot, read-only, instead of the vDisk")
    shared: bool = Field(
        False, description="Write beside other consumers, each of which has to say so (needs an application that can)"
    )
    deadline_seconds: int | None = Field(
        None, ge=1, le=LONGEST_DEADLINE, description="Revoke it after so long; null: never"
    )


class ListGrants(ListParameters):
    """Which grants."""

    vdisk_guid: str | None = Field(None, description="Only those of this vDisk")


@router.get("/", dependencies=[VIEWS], **lists(ListGrants))
async def list_grants(request: Request, asked: Annotated[ListGrants, Depends(parsed(ListGrants))]) -> Response:
    """List grants. The name of an export is shown to whoever could make a grant: the role write."""
    context, grants = context_of(request), grants_for(request.state.principal)
    if asked.vdisk_guid is None:
        return await list_of(context, grants, asked)
    await find(context, VDISK, asked.vdisk_guid)
    return await list_of(context, grants, asked, Grant.vdisk_guid == asked.vdisk_guid)


@router.post("/", dependencies=[WRITES], **tasks(CreateGrant, "the grant, with where to connect"))
async def create_grant(
    request: Request, work: Work, asked: Annotated[CreateGrant, Depends(parsed(CreateGrant))]
) -> str:
    """Let a client open a vDisk. Asking again for the same gives the same grant, with its deadline renewed."""
    context = context_of(request)
    vdisk = await find(context, VDISK, asked.vdisk_guid)
    if asked.snapshot_guid is not None:
        ready = (Snapshot.vdisk_guid == vdisk.guid, Snapshot.state == State.READY)
        if not await any_row(context, Snapshot.guid == asked.snapshot_guid, *ready):
            raise not_found("snapshot")
        if asked.mode != "ro":
            raise impossible("A snapshot can only be opened read-only: clone it to write")
    return await work.submit("grant.create", asked.model_dump(), vdisk.guid)


@router.get("/{grant_guid}/", dependencies=[READS], **shows(GrantShape, ShowParameters))
async def show_grant(
    request: Request, grant_guid: str, asked: Annotated[ShowParameters, Depends(parsed(ShowParameters))]
) -> Response:
    """Show a grant, with where its vDisk is served now; the export's name only to the role write."""
    grants = grants_for(request.state.principal)
    return JSONResponse(await show(context_of(request), grants, grant_guid, asked.contents))


@router.delete("/{grant_guid}/", dependencies=[WRITES], **tasks())
async def delete_grant(request: Request, grant_guid: str, work: Work) -> str:
    """Revoke a grant: when the task has succeeded, its client can not write any more."""
    return await _revoke(request, grant_guid, work)


@router.post("/{grant_guid}/revoke/", dependencies=[WRITES], **tasks())
async def revoke_grant(request: Request, grant_guid: str, work: Work) -> str:
    """Revoke a grant: when the task has succeeded, its client can not write any more."""
    return await _revoke(request, grant_guid, work)


async def _revoke(request: Request, grant_guid: str, work: Submission) -> str:
    grant: Grant = await find(context_of(request), GRANT, grant_guid)
    return await work.submit("grant.revoke", {"grant_guid": grant.guid}, grant.vdisk_guid)
