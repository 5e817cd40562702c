"""What the scheduler is told about a backend."""

from __future__ import annotations

from typing import Any

from cinder.volume import volume_utils
from oslo_log import log as logging

from openvstorage.cinder.connection import DRIVER_VOLUME_TYPE
from openvstorage.cinder.pool import GIB, Pool
from openvstorage.client import Capacity, OpenvStorageError

__all__ = ["collect", "location_info"]

LOG = logging.getLogger(__name__)


def collect(pool: Pool, backend: Any, version: str) -> dict[str, Any]:
    """Give the statistics of a backend; blocks for two calls to the cluster and never raises for its faults.

    A vPool that does not answer is reported down and without room, so that nothing is scheduled to it.

    :param backend: the backend's ``Configuration``.
    """
    stats: dict[str, Any] = {
        "volume_backend_name": backend.safe_get("volume_backend_name") or "openvstorage",
        "vendor_name": "Open vStorage",
        "driver_version": version,
        "storage_protocol": DRIVER_VOLUME_TYPE,
        "location_info": location_info(pool),
        "reserved_percentage": backend.safe_get("reserved_percentage"),
        "max_over_subscription_ratio": volume_utils.get_max_over_subscription_ratio(
            backend.safe_get("max_over_subscription_ratio"), supports_auto=True
        ),
        "thin_provisioning_support": True,
        "thick_provisioning_support": False,
        "online_extend_support": True,
        "clone_across_pools": False,
        "QoS_support": False,
        "multiattach": False,
        "consistent_group_snapshot_enabled": False,
        "shared_targets": False,
        "total_capacity_gb": 0,
        "free_capacity_gb": 0,
        "backend_state": "down",
    }
    try:
        # Asked first because a cluster without capacity figures is not asked for them.
        pool.client.vpools.get(pool.vpool_guid)
        capacity = pool.client.vpools.capacity(pool.vpool_guid)
        stats.update(_figures(capacity), **_abilities(pool), backend_state="up")
    except OpenvStorageError as error:
        LOG.error("No statistics of vPool %s, it is reported down: %s", pool.vpool_guid, error)
    return stats


def location_info(pool: Pool) -> str:
    """Name the place of the volumes: backends that say the same share one vPool."""
    return f"openvstorage:{pool.vpool_guid}"


def _abilities(pool: Pool) -> dict[str, bool]:
    return {
        # Without grants nobody keeps the writers of a shared volume apart.
        "multiattach": pool.has("shared_grants"),
        "QoS_support": pool.has("qos"),
        "consistent_group_snapshot_enabled": pool.has("atomic_group_snapshots"),
    }


def _figures(capacity: Capacity | None) -> dict[str, Any]:
    if capacity is None:
        # An Open vStorage cluster cannot say; Cinder then counts what it has allocated itself.
        return {"total_capacity_gb": "unknown", "free_capacity_gb": "unknown"}
    return {
        "total_capacity_gb": _gib(capacity.total_bytes),
        "free_capacity_gb": _gib(capacity.free_bytes),
        "provisioned_capacity_gb": _gib(capacity.provisioned_bytes),
        "total_volumes": capacity.vdisk_count,
    }


def _gib(size: int) -> float:
    return round(size / GIB, 2)
