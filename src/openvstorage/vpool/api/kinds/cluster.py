"""vPools, StorageRouters and StorageDrivers as the API shows them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import InstrumentedAttribute

from openvstorage.vpool.api.context import ApiContext
from openvstorage.vpool.api.objects import Column, Kind, Relation, each
from openvstorage.vpool.model.cluster import StorageDriver, StorageRouter, VPool
from openvstorage.vpool.model.vdisk import State, VDisk

__all__ = ["NO_GUIDS", "STORAGEDRIVER", "STORAGEROUTER", "VPOOL", "guids_by"]

#: Open vStorage's distance between nodes that do not replace each other.
FAR = 10000

#: A relation to things that this service does not have.
NO_GUIDS: Column = each(lambda row: [])


def guids_by(
    refers: InstrumentedAttribute[Any], guid: InstrumentedAttribute[Any], *conditions: ColumnElement[bool]
) -> Column:
    """Make a to-many column: the guids of the rows that refer to each row."""

    async def column(context: ApiContext, rows: Sequence[Any]) -> list[Any]:
        found: dict[str, list[str]] = {row.guid: [] for row in rows}
        async with context.db.read() as session:
            # One answer for all rows: these lists are of pools and nodes, of which there are few.
            for referred, other in await session.execute(select(refers, guid).where(*conditions).order_by(guid)):
                if referred in found:
                    found[referred].append(other)
        return [found[row.guid] for row in rows]

    return column


async def _pool_statistics(context: ApiContext, rows: Sequence[Any]) -> list[Any]:
    used = (await context.operations.pool_stats()).used_bytes
    return [{"stored": used, "timestamp": time.time()} for _ in rows]


def _configuration(_row: VPool) -> dict[str, Any]:
    return {
        "sco_size": 4,
        "dtl_mode": "no_sync",
        "mds_config": {},
        "dtl_enabled": False,
        "cluster_size": 64,
        "write_buffer": 128,
        "dtl_transport": "tcp",
        "dtl_config_mode": "Manual",
        "tlog_multiplier": 16,
    }


async def _potentials(context: ApiContext, rows: Sequence[Any]) -> list[Any]:
    nodes = await guids_by(StorageDriver.vpool_guid, StorageDriver.storagerouter_guid)(context, rows)
    return [dict.fromkeys(guids, -1) for guids in nodes]  # unknown: nothing but space limits them


async def _routers_vpools(context: ApiContext, rows: Sequence[Any]) -> list[Any]:
    return await guids_by(StorageDriver.storagerouter_guid, StorageDriver.vpool_guid)(context, rows)


async def _node_config(context: ApiContext, rows: Sequence[Any]) -> list[Any]:
    async with context.db.read() as session:
        ids = list((await session.execute(select(StorageDriver.vpool_guid, StorageDriver.storagedriver_id))).all())
    return [
        {
            "vrouter_id": row.storagedriver_id,
            "host": row.cluster_ip,
            "message_port": row.ports.get("management"),
            "xmlrpc_host": row.cluster_ip,
            "xmlrpc_port": row.ports.get("xmlrpc"),
            "failovercache_host": row.cluster_ip,
            "failovercache_port": row.ports.get("dtl"),
            "network_server_uri": f"tcp://{row.storage_ip}:{row.ports.get('edge')}",
            "node_distance_map": {
                other: FAR for pool, other in ids if pool == row.vpool_guid and other != row.storagedriver_id
            },
        }
        for row in rows
    ]


VPOOL = Kind(
    name="vPool",
    model=VPool,
    order=(VPool.name,),
    default_sort="name",
    columns={"name": VPool.name, "guid": VPool.guid},
    properties={
        "name": lambda row: row.name,
        "description": lambda row: row.description,
        "login": lambda row: None,
        "connection": lambda row: None,
        "metadata": lambda row: {},  # Open vStorage shows the backend's secrets here
        "rdma_enabled": lambda row: False,
        "status": lambda row: row.status,
        "metadata_store_bits": lambda row: None,
    },
    dynamics={
        "configuration": each(_configuration),
        "statistics": _pool_statistics,
        "identifier": each(lambda row: row.guid),
        "extensible": each(lambda row: [False, ["a local pool has one StorageRouter"]]),
        "volume_potentials": _potentials,
    },
    relations={
        "storagedrivers": Relation("storagedrivers_guids", guids_by(StorageDriver.vpool_guid, StorageDriver.guid)),
        "vdisks": Relation("vdisks_guids", guids_by(VDisk.vpool_guid, VDisk.guid, VDisk.state == State.READY)),
        "mds_services": Relation("mds_services_guids", NO_GUIDS),
    },
)

STORAGEROUTER = Kind(
    name="StorageRouter",
    model=StorageRouter,
    order=(StorageRouter.name,),
    default_sort="name",
    columns={"name": StorageRouter.name, "guid": StorageRouter.guid, "ip": StorageRouter.ip},
    properties={
        "name": lambda row: row.name,
        "description": lambda row: row.description,
        "machine_id": lambda row: row.machine_id,
        "ip": lambda row: row.ip,
        "heartbeats": lambda row: {} if row.last_heartbeat is None else {"process": row.last_heartbeat},
        "node_type": lambda row: row.node_type,
        "rdma_capable": lambda row: False,
        "last_heartbeat": lambda row: row.last_heartbeat,
        "package_information": lambda row: {},
    },
    dynamics={
        "statistics": each(lambda row: {}),
        "vpools_guids": _routers_vpools,
        "vdisks_guids": guids_by(VDisk.owner_guid, VDisk.guid, VDisk.state == State.READY),
        "status": each(lambda row: "OK"),
        "partition_config": each(lambda row: {}),
        "regular_domains": each(lambda row: []),
        "recovery_domains": each(lambda row: []),
        "features": each(lambda row: {}),
    },
    relations={
        "storagedrivers": Relation(
            "storagedrivers_guids", guids_by(StorageDriver.storagerouter_guid, StorageDriver.guid)
        ),
        "disks": Relation("disks_guids", NO_GUIDS),
        "services": Relation("services_guids", NO_GUIDS),
        "domains": Relation("domains_guids", NO_GUIDS),
    },
)

STORAGEDRIVER = Kind(
    name="StorageDriver",
    model=StorageDriver,
    order=(StorageDriver.name, StorageDriver.guid),
    columns={"guid": StorageDriver.guid, "storagedriver_id": StorageDriver.storagedriver_id},
    properties={
        "name": lambda row: row.name,
        "description": lambda row: row.description,
        "ports": lambda row: row.ports,
        "cluster_ip": lambda row: row.cluster_ip,
        "storage_ip": lambda row: row.storage_ip,
        "storagedriver_id": lambda row: row.storagedriver_id,
        "mountpoint": lambda row: row.mountpoint,
        "startup_counter": lambda row: row.startup_counter,
    },
    dynamics={
        "status": each(lambda row: "RUNNING"),
        "statistics": each(lambda row: {}),
        "edge_clients": each(lambda row: []),
        "vdisks_guids": each(lambda row: []),
        "vpool_backend_info": each(lambda row: {}),
        "cluster_node_config": _node_config,
    },
    relations={
        "vpool": Relation("vpool_guid", each(lambda row: row.vpool_guid), lambda: VPOOL),
        "storagerouter": Relation(
            "storagerouter_guid", each(lambda row: row.storagerouter_guid), lambda: STORAGEROUTER
        ),
        "partitions": Relation("partitions_guids", NO_GUIDS),
        "alba_proxies": Relation("alba_proxies_guids", NO_GUIDS),
    },
)
