"""``/api/vpools/``."""

from __future__ import annotations

import time
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from openvstorage.vpool.api.caller import MANAGES, READS, VIEWS, WRITES
from openvstorage.vpool.api.context import context_of
from openvstorage.vpool.api.documented import answers, lists, shows, tasks
from openvstorage.vpool.api.envelopes import impossible
from openvstorage.vpool.api.kinds.cluster import VPOOL
from openvstorage.vpool.api.lists import ListParameters, list_of
from openvstorage.vpool.api.lookup import ShowParameters, any_row, find, show
from openvstorage.vpool.api.parameters import Parameters, parsed, query_schema
from openvstorage.vpool.api.shapes import CapacityShape, VPoolShape
from openvstorage.vpool.api.submission import Work
from openvstorage.vpool.api.values import Label
from openvstorage.vpool.api.vdisk_actions import serving_nodes
from openvstorage.vpool.model.cluster import VPool
from openvstorage.vpool.model.vdisk import State, VDisk
from openvstorage.vpool.operations.errors import Refused
from openvstorage.vpool.operations.names import devicename

router = APIRouter(prefix="/vpools", tags=["vpools"])

MOST_AT_ONCE = 1000


class DeviceNames(Parameters):
    """``name`` or ``names``, not both."""

    name: str | None = Field(None, description="A vDisk's name")
    names: list[str] | None = Field(None, description="Several; in a JSON body")


class CreateSnapshots(Parameters):
    """Snapshots of several vDisks."""

    vdisk_guids: list[str] = Field(max_length=MOST_AT_ONCE)
    name: Label = Field(description="Label of all of them")
    timestamp: Any = Field(None, description="Ignored: the service's clock counts")
    consistent: bool = False
    automatic: bool = False
    sticky: bool = False
    atomic: bool = Field(False, description="All of one instant, or none at all")


class RemoveSnapshots(Parameters):
    """Which snapshots."""

    snapshot_mapping: dict[str, str | list[str]] = Field(
        description="vDisk guid: snapshot guid, or a list of them", max_length=MOST_AT_ONCE
    )


async def the_vpool(request: Request, vpool_guid: str) -> VPool:
    """Dependency: the vPool that the path names.

    :raises ApiError: 404.
    """
    vpool: VPool = await find(context_of(request), VPOOL, vpool_guid)
    return vpool


TheVPool = Annotated[VPool, Depends(the_vpool)]
ListAsked = Annotated[ListParameters, Depends(parsed(ListParameters))]


@router.get("/", dependencies=[VIEWS], **lists())
async def list_vpools(request: Request, asked: ListAsked) -> Response:
    """List vPools."""
    return await list_of(context_of(request), VPOOL, asked)


@router.get("/{vpool_guid}/", dependencies=[VIEWS], **shows(VPoolShape, ShowParameters))
async def show_vpool(
    request: Request, vpool_guid: str, asked: Annotated[ShowParameters, Depends(parsed(ShowParameters))]
) -> Response:
    """Show a vPool."""
    return JSONResponse(await show(context_of(request), VPOOL, vpool_guid, asked.contents))


@router.get("/{vpool_guid}/capacity/", dependencies=[READS], **answers(CapacityShape, "Bytes"))
async def capacity(request: Request, vpool: TheVPool) -> Response:
    """Tell how full a vPool is."""
    stats = await context_of(request).operations.pool_stats()
    return JSONResponse(
        {
            "total_bytes": stats.total_bytes,
            "free_bytes": stats.free_bytes,
            "used_bytes": stats.used_bytes,
            "provisioned_bytes": stats.provisioned_bytes,
            "vdisk_count": stats.vdisk_count,
            "age_seconds": max(0.0, time.time() - stats.measured_at),
        }
    )


@router.get("/{vpool_guid}/storagerouters/", dependencies=[READS], **lists())
async def list_serving_storagerouters(request: Request, vpool: TheVPool, asked: ListAsked) -> Response:
    """List the StorageRouters that serve a vPool."""
    return await serving_nodes(context_of(request), vpool.guid, asked)


@router.get("/{vpool_guid}/available_storagerouters/", dependencies=[READS], **lists())
async def list_available_storagerouters(request: Request, vpool: TheVPool, asked: ListAsked) -> Response:
    """List the StorageRouters whose StorageDriver runs."""
    return await serving_nodes(context_of(request), vpool.guid, asked)


@router.get(
    "/{vpool_guid}/devicename_exists/",
    dependencies=[READS],
    **answers(bool, "Whether any exists") | {"openapi_extra": query_schema(DeviceNames)},
)
async def devicename_exists(
    request: Request, vpool: TheVPool, asked: Annotated[DeviceNames, Depends(parsed(DeviceNames))]
) -> Response:
    """Tell whether a vDisk of that name, or of any of these, exists."""
    if (asked.name is None) == (asked.names is None):
        raise impossible("Either name or names has to be given")
    names = asked.names if asked.names is not None else [str(asked.name)]
    if len(names) > MOST_AT_ONCE:
        raise impossible(f"At most {MOST_AT_ONCE} names at once")
    try:
        devices = [devicename(name) for name in names]
    except Refused as refusal:
        raise impossible(str(refusal)) from None
    same = VDisk.devicename.in_(devices)
    ready = VDisk.state == State.READY
    return JSONResponse(await any_row(context_of(request), VDisk.vpool_guid == vpool.guid, ready, same))


@router.post(
    "/{vpool_guid}/create_snapshots/",
    dependencies=[WRITES],
    **tasks(CreateSnapshots, "{vdisk_guid: [true, snapshot guid] or [false, why]}"),
)
async def create_snapshots(
    work: Work, vpool: TheVPool, asked: Annotated[CreateSnapshots, Depends(parsed(CreateSnapshots))]
) -> str:
    """Take snapshots of several vDisks. Without ``atomic`` each for itself, and the task succeeds even if some fail."""
    args = asked.model_dump(exclude={"name", "timestamp", "atomic"}) | {"label": asked.name}
    args["vdisk_guids"] = list(dict.fromkeys(asked.vdisk_guids))
    return await work.submit("snapshot.create_atomic_group" if asked.atomic else "snapshot.create_group", args)


@router.post(
    "/{vpool_guid}/remove_snapshots/",
    dependencies=[WRITES],
    **tasks(RemoveSnapshots, "by vDisk, in the form of the mapping, whether it worked"),
)
async def remove_snapshots(
    work: Work, vpool: TheVPool, asked: Annotated[RemoveSnapshots, Depends(parsed(RemoveSnapshots))]
) -> str:
    """Remove snapshots of several vDisks."""
    return await work.submit("snapshot.delete_many", {"mapping": asked.snapshot_mapping})


@router.post("/{vpool_guid}/sync_with_reality/", dependencies=[MANAGES], **tasks())
async def sync_with_reality(work: Work, vpool: TheVPool) -> str:
    """Bring the model in line with the backend."""
    return await work.submit("vpool.sync", {"vpool_guid": vpool.guid})


@router.post("/{vpool_guid}/scrub_all_vdisks/", dependencies=[MANAGES], **tasks(result="never: this call is refused"))
async def scrub_all_vdisks(vpool: TheVPool) -> str:
    """Refused: the service tidies up by itself."""
    raise impossible("There is nothing to scrub: layers that nobody needs are merged in the background")


@router.post(
    "/{vpool_guid}/scrub_multiple_vdisks/", dependencies=[MANAGES], **tasks(result="never: this call is refused")
)
async def scrub_multiple_vdisks(vpool: TheVPool) -> str:
    """Refused: the service tidies up by itself."""
    raise impossible("There is nothing to scrub: layers that nobody needs are merged in the background")


@router.post("/{vpool_guid}/shrink_vpool/", dependencies=[MANAGES], **tasks(result="never: this call is refused"))
async def shrink_vpool(vpool: TheVPool) -> str:
    """Refused: a vPool has one StorageRouter."""
    raise impossible(f"vPool {vpool.name} is served by one StorageRouter and can not shrink")
