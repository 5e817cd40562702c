"""``/api/vdisks/<guid>/<action>/``: what can be done with one vDisk."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import Field, model_validator

from openvstorage.contract.codes import ErrorCode
from openvstorage.contract.durability import Durability
from openvstorage.vpool.api.caller import MANAGES, READS, VIEWS, WRITES
from openvstorage.vpool.api.context import ApiContext, context_of
from openvstorage.vpool.api.documented import answers, lists, tasks
from openvstorage.vpool.api.envelopes import impossible
from openvstorage.vpool.api.kinds.cluster import STORAGEROUTER
from openvstorage.vpool.api.kinds.vdisk import VDISK
from openvstorage.vpool.api.lists import ListParameters, list_of
from openvstorage.vpool.api.lookup import any_row, find
from openvstorage.vpool.api.negotiation import require_version
from openvstorage.vpool.api.parameters import Parameters, parsed
from openvstorage.vpool.api.submission import Work
from openvstorage.vpool.api.values import Label, QosLimits
from openvstorage.vpool.api.vdisks import require_node
from openvstorage.vpool.model.cluster import StorageDriver, StorageRouter
from openvstorage.vpool.model.vdisk import State, VDisk

router = APIRouter(prefix="/vdisks/{vdisk_guid}", tags=["vdisks"])


class CreateSnapshot(Parameters):
    """A new snapshot."""

    name: Label = Field(description="Label; may be empty")
    timestamp: Any = Field(None, description="Ignored: the service's clock counts")
    consistent: bool = False
    automatic: bool = False
    sticky: bool = False


class OneSnapshot(Parameters):
    """Which snapshot."""

    snapshot_id: str


class Rollback(Parameters):
    """Where to roll back to."""

    timestamp: int | str | None = Field(None, description="Unix time of the snapshot, as in its `timestamp`")
    snapshot_id: str | None = Field(None, description="The snapshot itself, instead of its time")
    keep_newer: bool = Field(False, description="Keep the snapshots taken after it")

    @model_validator(mode="after")
    def _one(self) -> Rollback:
        if self.timestamp is None and self.snapshot_id is None:
            raise ValueError("timestamp is missing: it or snapshot_id says where to roll back to")
        return self


class Extend(Parameters):
    """How large."""

    new_size: int = Field(description="Bytes", ge=0)


class Move(Parameters):
    """Where to."""

    target_storagerouter_guid: str
    force: bool = False


class Restart(Parameters):
    """How."""

    force: bool = Field(False, description="Also while clients are connected; they reconnect")


class SetConfig(Parameters):
    """Configuration parameters, any subset."""

    new_config_params: dict[str, Any]


class SetQos(Parameters):
    """Limits, all at once: what is absent becomes unlimited."""

    qos: QosLimits


class SetDurability(Parameters):
    """What is to be kept when what serves the vDisk dies."""

    durability: Durability | None = Field(description="null for the pool's default")


class Scrub(Parameters):
    """Where to scrub."""

    storagerouter_guid: str | None = None


class TLog(Parameters):
    """Which TLog."""

    tlog_name: str


async def the_vdisk(request: Request, vdisk_guid: str) -> VDisk:
    """Dependency: the vDisk that the path names.

    :raises ApiError: 404.
    """
    vdisk: VDisk = await find(context_of(request), VDISK, vdisk_guid)
    return vdisk


# Resolved after Work: a request that was sent before has its answer even if the vDisk is gone.
TheVDisk = Annotated[VDisk, Depends(the_vdisk)]


@router.post("/create_snapshot/", dependencies=[WRITES], **tasks(CreateSnapshot, "guid of the snapshot"))
async def create_snapshot(
    work: Work, vdisk: TheVDisk, asked: Annotated[CreateSnapshot, Depends(parsed(CreateSnapshot))]
) -> str:
    """Take a snapshot."""
    flags = asked.model_dump(include={"consistent", "automatic", "sticky"})
    return await work.submit("snapshot.create", {"vdisk_guid": vdisk.guid, "label": asked.name, **flags}, vdisk.guid)


@router.post("/remove_snapshot/", dependencies=[WRITES], **tasks(OneSnapshot))
async def remove_snapshot(
    request: Request,
    work: Work,
    vdisk: TheVDisk,
    asked: Annotated[OneSnapshot, Depends(parsed(OneSnapshot))],
) -> str:
    """Remove a snapshot, any of them."""
    context = context_of(request)
    cloned = VDisk.parent_snapshot_guid == asked.snapshot_id
    if context.settings.strict_compat and await any_row(context, cloned, VDisk.state == State.READY):
        text = f"Snapshot {asked.snapshot_id[:64]} has volumes cloned from it, cannot remove"
        raise impossible(text, ErrorCode.SNAPSHOT_HAS_CLONES)
    args = {"vdisk_guid": vdisk.guid, "snapshot_guid": asked.snapshot_id}
    return await work.submit("snapshot.delete", args, vdisk.guid)


@router.post("/rollback/", dependencies=[WRITES], **tasks(Rollback, "true"))
async def rollback(work: Work, vdisk: TheVDisk, asked: Annotated[Rollback, Depends(parsed(Rollback))]) -> str:
    """Go back to a snapshot. Newer snapshots are removed unless ``keep_newer``."""
    args = {
        "vdisk_guid": vdisk.guid,
        "snapshot_guid": asked.snapshot_id,
        "timestamp": None if asked.timestamp is None else str(asked.timestamp),
        "keep_newer": asked.keep_newer,
    }
    return await work.submit("vdisk.rollback", args, vdisk.guid)


@router.post("/set_as_template/", dependencies=[WRITES], **tasks())
async def set_as_template(request: Request, work: Work, vdisk: TheVDisk) -> str:
    """Make a vTemplate of a vDisk; there is no way back."""
    cloned = VDisk.parent_vdisk_guid == vdisk.guid
    if await any_row(context_of(request), cloned, VDisk.state == State.READY):
        raise impossible(f"vDisk {vdisk.name} has clones", ErrorCode.VDISK_HAS_CLONES)
    return await work.submit("vdisk.set_as_template", {"vdisk_guid": vdisk.guid}, vdisk.guid)


@router.post("/extend/", dependencies=[MANAGES], **tasks(Extend))
async def extend(work: Work, vdisk: TheVDisk, asked: Annotated[Extend, Depends(parsed(Extend))]) -> str:
    """Grow a vDisk."""
    return await work.submit("vdisk.extend", {"vdisk_guid": vdisk.guid, "size": asked.new_size}, vdisk.guid)


@router.post("/move/", dependencies=[WRITES], **tasks(Move))
async def move(request: Request, work: Work, vdisk: TheVDisk, asked: Annotated[Move, Depends(parsed(Move))]) -> str:
    """Serve a vDisk from another StorageRouter."""
    await require_node(context_of(request), asked.target_storagerouter_guid, vdisk.vpool_guid)
    args = {
        "vdisk_guid": vdisk.guid,
        "storagerouter_guid": asked.target_storagerouter_guid,
        "force": asked.force,
    }
    return await work.submit("vdisk.move", args, vdisk.guid)


@router.post("/restart/", dependencies=[MANAGES], **tasks(Restart))
async def restart(work: Work, vdisk: TheVDisk, asked: Annotated[Restart, Depends(parsed(Restart))]) -> str:
    """Start a vDisk's storage daemon again."""
    return await work.submit("vdisk.restart", {"vdisk_guid": vdisk.guid, "force": asked.force}, vdisk.guid)


@router.get("/get_config_params/", dependencies=[READS], **tasks(result="the parameters"))
async def get_config_params(work: Work, vdisk: TheVDisk) -> str:
    """Ask for the configuration parameters; a GET that starts a task, as the contract has it."""
    return await work.submit("vdisk.get_config", {"vdisk_guid": vdisk.guid}, vdisk.guid)


@router.post("/set_config_params/", dependencies=[MANAGES], **tasks(SetConfig))
async def set_config_params(
    work: Work, vdisk: TheVDisk, asked: Annotated[SetConfig, Depends(parsed(SetConfig))]
) -> str:
    """Change configuration parameters."""
    args = {"vdisk_guid": vdisk.guid, "params": asked.new_config_params}
    return await work.submit("vdisk.set_config", args, vdisk.guid)


@router.post("/set_qos/", dependencies=[WRITES], **tasks(SetQos))
async def set_qos(work: Work, vdisk: TheVDisk, asked: Annotated[SetQos, Depends(parsed(SetQos))]) -> str:
    """Limit a vDisk's requests and bytes per second, at once and for a running guest too."""
    args = {"vdisk_guid": vdisk.guid, "qos": asked.qos.model_dump(exclude_defaults=True)}
    return await work.submit("vdisk.set_qos", args, vdisk.guid)


@router.post("/set_durability/", dependencies=[WRITES], **tasks(SetDurability))
async def set_durability(
    work: Work, vdisk: TheVDisk, asked: Annotated[SetDurability, Depends(parsed(SetDurability))]
) -> str:
    """Change what is kept when what serves a vDisk dies, at once and for a running guest too; it reconnects."""
    args = {"vdisk_guid": vdisk.guid, "durability": asked.durability}
    return await work.submit("vdisk.set_durability", args, vdisk.guid)


@router.get("/get_target_storagerouters/", dependencies=[VIEWS], **lists())
async def get_target_storagerouters(
    request: Request, vdisk: TheVDisk, asked: Annotated[ListParameters, Depends(parsed(ListParameters))]
) -> Response:
    """List the StorageRouters that serve the vDisk's vPool."""
    return await serving_nodes(context_of(request), vdisk.vpool_guid, asked)


@router.get("/get_scrub_storagerouters/", dependencies=[MANAGES], **lists())
async def get_scrub_storagerouters(
    vdisk: TheVDisk, request: Request, asked: Annotated[ListParameters, Depends(parsed(ListParameters))]
) -> Response:
    """List the StorageRouters that could scrub: none, there is nothing to scrub."""
    return await list_of(context_of(request), STORAGEROUTER, asked, StorageRouter.guid.in_([]))


@router.get("/get_children/", dependencies=[READS], **answers(list[str], "guids; up to version 7"))
async def get_children(request: Request, vdisk: TheVDisk) -> Response:
    """List the clones of a vDisk."""
    require_version(request, 7)
    children = VDISK.relations["child_vdisks"].column
    return JSONResponse((await children(context_of(request), [vdisk]))[0])


@router.post("/is_volume_synced_up_to_snapshot/", dependencies=[WRITES], **tasks(OneSnapshot, "boolean"))
async def is_volume_synced_up_to_snapshot(
    work: Work, vdisk: TheVDisk, asked: Annotated[OneSnapshot, Depends(parsed(OneSnapshot))]
) -> str:
    """Ask whether a snapshot is safe on the backend: it is once it is shown."""
    args = {"vdisk_guid": vdisk.guid, "snapshot_guid": asked.snapshot_id}
    return await work.submit("snapshot.is_synced", args, vdisk.guid)


@router.post("/schedule_backend_sync/", dependencies=[WRITES], **tasks(result="never: this call is refused"))
async def schedule_backend_sync(vdisk: TheVDisk) -> str:
    """Refused: writes are not collected in TLogs here."""
    raise impossible("There are no TLogs here: what a client has flushed is on the backend")


@router.post("/is_volume_synced_up_to_tlog/", dependencies=[WRITES], **tasks(TLog, "never: this call is refused"))
async def is_volume_synced_up_to_tlog(vdisk: TheVDisk, asked: Annotated[TLog, Depends(parsed(TLog))]) -> str:
    """Refused: writes are not collected in TLogs here."""
    raise impossible("There are no TLogs here: what a client has flushed is on the backend")


@router.post("/scrub/", dependencies=[MANAGES], **tasks(Scrub, "never: this call is refused"))
async def scrub(vdisk: TheVDisk, asked: Annotated[Scrub, Depends(parsed(Scrub))]) -> str:
    """Refused: the service tidies up by itself."""
    raise impossible("There is nothing to scrub: layers that nobody needs are merged in the background")


async def serving_nodes(context: ApiContext, vpool_guid: str, asked: ListParameters) -> Response:
    """Answer the list of the StorageRouters that serve a vPool."""
    serves = StorageDriver.vpool_guid == vpool_guid
    nodes = StorageDriver.__table__.select().with_only_columns(StorageDriver.storagerouter_guid).where(serves)
    return await list_of(context, STORAGEROUTER, asked, StorageRouter.guid.in_(nodes))
