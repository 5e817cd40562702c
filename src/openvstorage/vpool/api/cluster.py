"""``/api/storagerouters/``, ``/api/storagedrivers/`` and ``/api/domains/``: the nodes, to look at."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field

from openvstorage.vpool.api.caller import READS, VIEWS
from openvstorage.vpool.api.context import context_of
from openvstorage.vpool.api.documented import lists, shows
from openvstorage.vpool.api.envelopes import not_found
from openvstorage.vpool.api.kinds.cluster import STORAGEDRIVER, STORAGEROUTER, VPOOL
from openvstorage.vpool.api.lists import ListParameters, empty_list, list_of
from openvstorage.vpool.api.lookup import ShowParameters, find, show
from openvstorage.vpool.api.parameters import parsed
from openvstorage.vpool.api.shapes import Shape, StorageDriverShape, StorageRouterShape
from openvstorage.vpool.model.cluster import StorageDriver

router = APIRouter(tags=["cluster"])


class ListStorageDrivers(ListParameters):
    """Which StorageDrivers."""

    vpool_guid: str | None = Field(None, description="Only those of this vPool")


ListAsked = Annotated[ListParameters, Depends(parsed(ListParameters))]
ShowAsked = Annotated[ShowParameters, Depends(parsed(ShowParameters))]


@router.get("/storagerouters/", dependencies=[VIEWS], **lists())
async def list_storagerouters(request: Request, asked: ListAsked) -> Response:
    """List StorageRouters."""
    return await list_of(context_of(request), STORAGEROUTER, asked)


@router.get("/storagerouters/{storagerouter_guid}/", dependencies=[VIEWS], **shows(StorageRouterShape, ShowParameters))
async def show_storagerouter(request: Request, storagerouter_guid: str, asked: ShowAsked) -> Response:
    """Show a StorageRouter."""
    return JSONResponse(await show(context_of(request), STORAGEROUTER, storagerouter_guid, asked.contents))


@router.get("/storagedrivers/", dependencies=[READS], **lists(ListStorageDrivers))
async def list_storagedrivers(
    request: Request, asked: Annotated[ListStorageDrivers, Depends(parsed(ListStorageDrivers))]
) -> Response:
    """List StorageDrivers."""
    context = context_of(request)
    if asked.vpool_guid is None:
        return await list_of(context, STORAGEDRIVER, asked)
    await find(context, VPOOL, asked.vpool_guid)
    return await list_of(context, STORAGEDRIVER, asked, StorageDriver.vpool_guid == asked.vpool_guid)


@router.get("/storagedrivers/{storagedriver_guid}/", dependencies=[READS], **shows(StorageDriverShape, ShowParameters))
async def show_storagedriver(request: Request, storagedriver_guid: str, asked: ShowAsked) -> Response:
    """Show a StorageDriver."""
    return JSONResponse(await show(context_of(request), STORAGEDRIVER, storagedriver_guid, asked.contents))


@router.get("/domains/", dependencies=[READS], **lists())
async def list_domains(asked: ListAsked) -> Response:
    """List domains: there are none."""
    return empty_list(asked)


@router.get("/domains/{domain_guid}/", dependencies=[READS], **shows(Shape, ShowParameters))
async def show_domain(domain_guid: str) -> Response:
    """Show a domain: there are none."""
    raise not_found("domain")
