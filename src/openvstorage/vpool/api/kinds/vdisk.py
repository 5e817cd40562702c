"""vDisks as the API shows them."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import select

from openvstorage.contract.durability import Durability
from openvstorage.vpool.api.context import ApiContext
from openvstorage.vpool.api.kinds.cluster import NO_GUIDS, VPOOL
from openvstorage.vpool.api.objects import Kind, Relation, batches, each
from openvstorage.vpool.model.cluster import StorageDriver
from openvstorage.vpool.model.export import Export
from openvstorage.vpool.model.vdisk import Snapshot, State, VDisk

__all__ = ["VDISK"]

LBA_SIZE = 512
CLUSTER_MULTIPLIER = 8

#: Counters that Open vStorage keeps and this service does not: they stay 0, and the documentation says so.
COUNTERS = (
    *("data_read", "data_written", "data_transferred", "read_operations", "write_operations", "operations"),
    *("backend_data_read", "backend_data_written", "backend_read_operations", "backend_write_operations"),
    *("4k_read_operations", "4k_write_operations", "4k_operations"),
    *("4k_unaligned_read_operations", "4k_unaligned_write_operations", "4k_unaligned_operations"),
    *("unaligned_read_operations", "unaligned_write_operations", "unaligned_operations"),
    *("cache_hits", "cache_misses", "sco_cache_hits", "sco_cache_misses"),
    *("cluster_cache_hits", "cluster_cache_misses", "metadata_store_hits", "metadata_store_misses"),
    *("partial_read_fast", "partial_read_slow"),
)
LATENCIES = ("read_latency", "write_latency", "sync_latency", "backend_read_latency", "backend_write_latency")


def _snapshot(row: Snapshot) -> dict[str, Any]:
    """A snapshot with exactly the eight keys that clients know, and one more where nobody asked for it to be taken."""
    shown = {
        "guid": row.guid,
        "timestamp": str(row.timestamp),
        "label": row.label,
        "is_consistent": row.is_consistent,
        "is_automatic": row.is_automatic,
        "is_sticky": row.is_sticky,
        "in_backend": True,
        "stored": 0,
    }
    return shown | {"for_clone": True} if row.for_clone else shown


async def _snapshots(context: ApiContext, rows: Sequence[VDisk]) -> list[Any]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for batch in batches(row.guid for row in rows):
        wanted = select(Snapshot).where(Snapshot.vdisk_guid.in_(batch), Snapshot.state == State.READY)
        async with context.db.read() as session:
            for row in await session.scalars(wanted.order_by(Snapshot.vdisk_guid, Snapshot.ordinal)):
                found[row.vdisk_guid].append(_snapshot(row))
    return [found.get(row.guid, []) for row in rows]


async def _snapshot_ids(context: ApiContext, rows: Sequence[VDisk]) -> list[Any]:
    return [[snapshot["guid"] for snapshot in snapshots] for snapshots in await _snapshots(context, rows)]


async def _drivers(context: ApiContext) -> dict[str, dict[str, StorageDriver]]:
    """StorageDrivers by vPool, then by StorageRouter."""
    found: dict[str, dict[str, StorageDriver]] = defaultdict(dict)
    async with context.db.read() as session:
        for driver in await session.scalars(select(StorageDriver).order_by(StorageDriver.guid)):
            found[driver.vpool_guid][driver.storagerouter_guid] = driver
    return found


async def _serving(context: ApiContext, rows: Sequence[VDisk]) -> list[StorageDriver | None]:
    """The StorageDriver that serves each vDisk: its owner's, else any of its vPool."""
    drivers = await _drivers(context)
    served = []
    for row in rows:
        of_pool = drivers.get(row.vpool_guid, {})
        served.append(of_pool.get(row.owner_guid or "") or next(iter(of_pool.values()), None))
    return served


async def _storagedriver_ids(context: ApiContext, rows: Sequence[VDisk]) -> list[Any]:
    return [driver and driver.storagedriver_id for driver in await _serving(context, rows)]


async def _storagerouter_guids(context: ApiContext, rows: Sequence[VDisk]) -> list[Any]:
    return [driver and driver.storagerouter_guid for driver in await _serving(context, rows)]


async def _parents_volume_ids(context: ApiContext, rows: Sequence[VDisk]) -> dict[str, str]:
    found: dict[str, str] = {}
    for batch in batches(row.parent_vdisk_guid for row in rows if row.parent_vdisk_guid):
        async with context.db.read() as session:
            pairs = await session.execute(select(VDisk.guid, VDisk.volume_id).where(VDisk.guid.in_(batch)))
            found.update((guid, volume_id) for guid, volume_id in pairs)
    return found


async def _stored(context: ApiContext, rows: Sequence[VDisk]) -> list[int]:
    return [await context.operations.stored(row) for row in rows]


def _object_type(row: VDisk) -> str:
    if row.is_vtemplate:
        return "TEMPLATE"
    return "CLONE" if row.parent_vdisk_guid else "BASE"


async def _infos(context: ApiContext, rows: Sequence[VDisk]) -> list[Any]:
    parents = await _parents_volume_ids(context, rows)
    ids = await _storagedriver_ids(context, rows)
    return [
        {
            "volume_id": row.volume_id,
            "namespace": row.volume_id,
            "parent_namespace": parents.get(row.parent_vdisk_guid or "", ""),
            "parent_volume_id": parents.get(row.parent_vdisk_guid or "", ""),
            "parent_snapshot_id": row.parent_snapshot_guid or "",
            "volume_size": row.size,
            "lba_size": LBA_SIZE,
            "lba_count": row.size // LBA_SIZE,
            "cluster_multiplier": CLUSTER_MULTIPLIER,
            "sco_multiplier": 1024,
            "failover_mode": "",
            "failover_ip": "",
            "failover_port": 0,
            "halted": False,
            "footprint": stored,
            "stored": stored,
            "object_type": _object_type(row),
            "vrouter_id": storagedriver_id or "",
            "metadata_backend_config": {},
            "cluster_cache_handle": 0,
            "cluster_cache_limit": None,
            "owner_tag": row.owner_epoch,
            "live_status": "RUNNING",
        }
        for row, stored, storagedriver_id in zip(rows, await _stored(context, rows), ids, strict=True)
    ]


async def _statistics(context: ApiContext, rows: Sequence[VDisk]) -> list[Any]:
    now = time.time()
    silent = dict.fromkeys((*COUNTERS, *(f"{name}_ps" for name in COUNTERS), *LATENCIES), 0)
    return [{**silent, "stored": stored, "timestamp": now} for stored in await _stored(context, rows)]


async def _edge_clients(context: ApiContext, rows: Sequence[VDisk]) -> list[Any]:
    exports: dict[str, list[Export]] = defaultdict(list)
    for batch in batches(row.guid for row in rows):
        async with context.db.read() as session:
            for export in await session.scalars(select(Export).where(Export.vdisk_guid.in_(batch))):
                exports[export.vdisk_guid].append(export)
    return [
        [client for export in exports[row.guid] for client in await _clients_of(context, row, export)] for row in rows
    ]


async def _clients_of(context: ApiContext, row: VDisk, export: Export) -> list[dict[str, Any]]:
    return [
        {
            "key": f"{ip}:{port}",
            "object_id": row.volume_id,
            "ip": ip,
            "port": port,
            "server_ip": export.address,
            "server_port": export.port,
        }
        for ip, port in await context.operations.edge_clients(export.guid)
    ]


async def _described(context: ApiContext, rows: Sequence[VDisk]) -> list[Any]:
    default = context.settings.durability
    return [{"durability": Durability(row.durability or default)} for row in rows]


async def _children(context: ApiContext, rows: Sequence[VDisk]) -> list[Any]:
    found: dict[str, list[str]] = defaultdict(list)
    for batch in batches(row.guid for row in rows):
        wanted = select(VDisk.parent_vdisk_guid, VDisk.guid).where(
            VDisk.parent_vdisk_guid.in_(batch), VDisk.state == State.READY
        )
        async with context.db.read() as session:
            for parent, child in await session.execute(wanted.order_by(VDisk.created_at, VDisk.guid)):
                found[str(parent)].append(child)
    return [found.get(row.guid, []) for row in rows]


def _itself() -> Kind:
    return VDISK


VDISK: Kind = Kind(
    name="vDisk",
    model=VDisk,
    order=(VDisk.created_at, VDisk.guid),
    visible=VDisk.state == State.READY,
    columns={
        "guid": VDisk.guid,
        "name": VDisk.name,
        "devicename": VDisk.devicename,
        "volume_id": VDisk.volume_id,
        "vpool_guid": VDisk.vpool_guid,
        "parent_vdisk_guid": VDisk.parent_vdisk_guid,
        "parentsnapshot": VDisk.parent_snapshot_guid,
        "cinder_id": VDisk.cinder_id,
    },
    properties={
        "name": lambda row: row.name,
        "description": lambda row: row.description,
        "size": lambda row: row.size,
        "devicename": lambda row: row.devicename,
        "volume_id": lambda row: row.volume_id,
        "parentsnapshot": lambda row: row.parent_snapshot_guid,
        "cinder_id": lambda row: row.cinder_id,
        "has_manual_dtl": lambda row: row.has_manual_dtl,
        "pagecache_ratio": lambda row: row.pagecache_ratio,
        "metadata": lambda row: {"lba_size": LBA_SIZE, "cluster_multiplier": CLUSTER_MULTIPLIER} | row.metadata_,
        "cache_quota": lambda row: row.cache_quota,
        "scrubbing_information": lambda row: None,
        "qos": lambda row: row.qos,
    },
    described=_described,
    dynamics={
        "dtl_status": each(lambda row: "ok_standalone"),
        "snapshots": _snapshots,
        "snapshot_ids": _snapshot_ids,
        "info": _infos,
        "statistics": _statistics,
        "storagedriver_id": _storagedriver_ids,
        "storagerouter_guid": _storagerouter_guids,
        "is_vtemplate": each(lambda row: row.is_vtemplate),
        "edge_clients": _edge_clients,
        "being_scrubbed": each(lambda row: False),
    },
    relations={
        "vpool": Relation("vpool_guid", each(lambda row: row.vpool_guid), lambda: VPOOL),
        "parent_vdisk": Relation("parent_vdisk_guid", each(lambda row: row.parent_vdisk_guid), _itself),
        "child_vdisks": Relation("child_vdisks_guids", _children),
        "mds_services": Relation("mds_services_guids", NO_GUIDS),
        "domains_dtl": Relation("domains_dtl_guids", NO_GUIDS),
    },
)
