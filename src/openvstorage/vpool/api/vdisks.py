"""``/api/vdisks/``: vDisks to look at, make and remove."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from openvstorage.contract.codes import ErrorCode
from openvstorage.contract.durability import Durability
from openvstorage.vpool.api.caller import VIEWS, WRITES
from openvstorage.vpool.api.context import ApiContext, context_of
from openvstorage.vpool.api.documented import lists, shows, tasks
from openvstorage.vpool.api.envelopes import impossible, in_use
from openvstorage.vpool.api.kinds.cluster import STORAGEROUTER, VPOOL
from openvstorage.vpool.api.kinds.vdisk import VDISK
from openvstorage.vpool.api.lists import ListParameters, list_of
from openvstorage.vpool.api.lookup import ShowParameters, any_row, find, show
from openvstorage.vpool.api.parameters import Parameters, parsed
from openvstorage.vpool.api.shapes import VDiskShape
from openvstorage.vpool.api.submission import Submission, Work
from openvstorage.vpool.api.values import Name, PageCacheRatio, Quota
from openvstorage.vpool.model.cluster import StorageDriver
from openvstorage.vpool.model.export import Grant
from openvstorage.vpool.model.vdisk import State, VDisk

router = APIRouter(prefix="/vdisks", tags=["vdisks"])


DURABILITY = Field(None, description="What is kept when what serves it dies; null for the pool's default")


class ListVDisks(ListParameters):
    """Which vDisks; ``vpoolguid`` wins if both are given."""

    vpoolguid: str | None = Field(None, description="Only those of this vPool")
    storagerouterguid: str | None = Field(None, description="Only those that this StorageRouter serves")


class CreateVDisk(Parameters):
    """A new, empty vDisk."""

    name: Name
    size: int = Field(description="Bytes", ge=0)
    vpool_guid: str
    storagerouter_guid: str | None = Field(None, description="Node to serve it; null lets the vPool choose")
    durability: Durability | None = DURABILITY
    pagecache_ratio: PageCacheRatio | None = None
    cache_quota: Quota | None = None


class CloneVDisk(Parameters):
    """A clone."""

    name: Name
    storagerouter_guid: str | None = Field(None, description="Node to serve it; null for the source's")
    snapshot_id: str | None = Field(None, description="Snapshot to clone; null for the present state")
    size: int | None = Field(None, description="Bytes, at least the source's; null for the same", ge=0)
    durability: Durability | None = DURABILITY
    pagecache_ratio: PageCacheRatio | None = Field(None, description="null inherits")
    cache_quota: Quota | None = Field(None, description="null inherits")


class FromTemplate(Parameters):
    """A vDisk made from a vTemplate."""

    name: Name
    storagerouter_guid: str | None = None
    durability: Durability | None = DURABILITY
    pagecache_ratio: PageCacheRatio | None = None
    cache_quota: Quota | None = None


class DeleteVDisk(Parameters):
    """How to delete."""

    force: bool = Field(False, description="Revoke the grants of a vDisk in use first")


@router.get("/", summary="List vDisks, vTemplates included", dependencies=[VIEWS], **lists(ListVDisks))
async def list_vdisks(request: Request, asked: Annotated[ListVDisks, Depends(parsed(ListVDisks))]) -> Response:
    context = context_of(request)
    if asked.vpoolguid is not None:
        await find(context, VPOOL, asked.vpoolguid)
        return await list_of(context, VDISK, asked, VDisk.vpool_guid == asked.vpoolguid)
    if asked.storagerouterguid is not None:
        await find(context, STORAGEROUTER, asked.storagerouterguid)
        return await list_of(context, VDISK, asked, VDisk.owner_guid == asked.storagerouterguid)
    return await list_of(context, VDISK, asked)


@router.get("/{vdisk_guid}/", summary="Show a vDisk", dependencies=[VIEWS], **shows(VDiskShape, ShowParameters))
async def show_vdisk(
    request: Request, vdisk_guid: str, asked: Annotated[ShowParameters, Depends(parsed(ShowParameters))]
) -> Response:
    return JSONResponse(await show(context_of(request), VDISK, vdisk_guid, asked.contents))


@router.post("/", summary="Create a vDisk", dependencies=[WRITES], **tasks(CreateVDisk, "guid of the new vDisk"))
async def create_vdisk(
    request: Request, work: Work, asked: Annotated[CreateVDisk, Depends(parsed(CreateVDisk))]
) -> str:
    context = context_of(request)
    await find(context, VPOOL, asked.vpool_guid)
    await require_node(context, asked.storagerouter_guid, asked.vpool_guid)
    args = asked.model_dump() | {"pagecache_ratio": asked.pagecache_ratio or 1.0}
    return await work.submit("vdisk.create", args)


@router.delete("/{vdisk_guid}/", summary="Delete a vDisk", dependencies=[WRITES], **tasks(DeleteVDisk))
async def delete_vdisk(
    request: Request, vdisk_guid: str, work: Work, asked: Annotated[DeleteVDisk, Depends(parsed(DeleteVDisk))]
) -> str:
    return await _delete(context_of(request), vdisk_guid, work, asked.force)


@router.post("/{vdisk_guid}/delete/", summary="Delete a vDisk", dependencies=[WRITES], **tasks(DeleteVDisk))
async def post_delete_vdisk(
    request: Request, vdisk_guid: str, work: Work, asked: Annotated[DeleteVDisk, Depends(parsed(DeleteVDisk))]
) -> str:
    return await _delete(context_of(request), vdisk_guid, work, asked.force)


@router.post("/{vdisk_guid}/delete_vtemplate/", summary="Delete a vTemplate", dependencies=[WRITES], **tasks())
async def delete_vtemplate(request: Request, vdisk_guid: str, work: Work) -> str:
    context = context_of(request)
    vdisk: VDisk = await find(context, VDISK, vdisk_guid)
    if not vdisk.is_vtemplate:
        raise impossible(f"vDisk {vdisk.name} is not a vTemplate", ErrorCode.NOT_A_TEMPLATE)
    await _refuse_parents(context, vdisk)
    return await work.submit("vdisk.delete_template", {"vdisk_guid": vdisk.guid}, vdisk.guid)


_COPY = "{vdisk_guid, name, backingdevice} of the new vDisk"


@router.post("/{vdisk_guid}/clone/", summary="Clone a vDisk", dependencies=[WRITES], **tasks(CloneVDisk, _COPY))
async def clone_vdisk(
    request: Request, vdisk_guid: str, work: Work, asked: Annotated[CloneVDisk, Depends(parsed(CloneVDisk))]
) -> str:
    vdisk = await _source(request, vdisk_guid, asked.storagerouter_guid)
    args: dict[str, Any] = asked.model_dump(exclude={"snapshot_id"})
    args |= {"vdisk_guid": vdisk.guid, "snapshot_guid": asked.snapshot_id or None}
    return await work.submit("vdisk.clone", args, vdisk.guid)


@router.post(
    "/{vdisk_guid}/create_from_template/",
    summary="Make a vDisk from a vTemplate",
    dependencies=[WRITES],
    **tasks(FromTemplate, _COPY),
)
async def create_from_template(
    request: Request, vdisk_guid: str, work: Work, asked: Annotated[FromTemplate, Depends(parsed(FromTemplate))]
) -> str:
    vdisk = await _source(request, vdisk_guid, asked.storagerouter_guid)
    args = {**asked.model_dump(), "vdisk_guid": vdisk.guid}
    return await work.submit("vdisk.create_from_template", args, vdisk.guid)


async def require_node(context: ApiContext, storagerouter_guid: str | None, vpool_guid: str) -> None:
    """Check a StorageRouter that a request names; None leaves the choice to the vPool.

    :raises ApiError: 404, there is none; 406, it does not serve the vPool.
    """
    if storagerouter_guid is None:
        return
    node = await find(context, STORAGEROUTER, storagerouter_guid)
    served = StorageDriver.storagerouter_guid == node.guid
    if not await any_row(context, served, StorageDriver.vpool_guid == vpool_guid):
        raise impossible(f"StorageRouter {node.name} does not serve this vPool", ErrorCode.NODE_UNSUITABLE)


async def _source(request: Request, vdisk_guid: str, storagerouter_guid: str | None) -> VDisk:
    context = context_of(request)
    vdisk: VDisk = await find(context, VDISK, vdisk_guid)
    await require_node(context, storagerouter_guid, vdisk.vpool_guid)
    return vdisk


async def _delete(context: ApiContext, vdisk_guid: str, work: Submission, force: bool) -> str:
    vdisk: VDisk = await find(context, VDISK, vdisk_guid)
    await _refuse_parents(context, vdisk)
    if not force and await any_row(context, Grant.vdisk_guid == vdisk.guid):
        raise in_use(f"vDisk {vdisk.name} is in use: revoke its grants first, or delete with force")
    return await work.submit("vdisk.delete", {"vdisk_guid": vdisk.guid, "force": force}, vdisk.guid)


async def _refuse_parents(context: ApiContext, vdisk: VDisk) -> None:
    if not context.settings.strict_compat:
        return
    if await any_row(context, VDisk.parent_vdisk_guid == vdisk.guid, VDisk.state == State.READY):
        raise impossible(f"vDisk {vdisk.name} has clones", ErrorCode.VDISK_HAS_CLONES)
