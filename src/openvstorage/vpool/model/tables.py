"""All tables in one place, for migrations and for whoever needs the whole schema."""

from openvstorage.vpool.model.account import AccessToken, OAuthClient, User
from openvstorage.vpool.model.base import Base
from openvstorage.vpool.model.cluster import Setting, StorageDriver, StorageRouter, VPool
from openvstorage.vpool.model.export import Export, Grant
from openvstorage.vpool.model.layer import Layer
from openvstorage.vpool.model.task import OperationRow, Task
from openvstorage.vpool.model.vdisk import Snapshot, VDisk

__all__ = [
    "AccessToken",
    "Base",
    "Export",
    "Grant",
    "Layer",
    "OAuthClient",
    "OperationRow",
    "Setting",
    "Snapshot",
    "StorageDriver",
    "StorageRouter",
    "Task",
    "User",
    "VDisk",
    "VPool",
]
