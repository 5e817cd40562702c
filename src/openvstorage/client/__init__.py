"""The automation library: a typed, thread-safe client of the Open vStorage management API.

It speaks to the vPool service of this project and to Open vStorage clusters from 2.8 on, and finds out by itself what
they can do (:meth:`Client.features`). It needs nothing but ``requests``, and knows nothing of OpenStack. Where a
vDisk's bytes are read and written is the business of :mod:`openvstorage.edge`.

    >>> from openvstorage.client import Client
    >>> client = Client(["10.0.0.1", "10.0.0.2"], username="admin", password=secret, ca_file="/etc/ovs/ca.pem")
    >>> vpool = client.vpools.find("myvpool01")
    >>> vdisk = client.vdisks.create("disk1", 10 * 1024**3, vpool.guid)
    >>> snapshot = client.snapshots.create(vdisk, "before the upgrade")
    >>> copy = client.vdisks.clone(vdisk, "disk2", snapshot, size=20 * 1024**3)

Errors are a small tree, explained in :mod:`openvstorage.client.errors`; its leaves are in
:mod:`openvstorage.client.refusals`.
"""

from openvstorage.client.client import Client
from openvstorage.client.credentials import ClientCredentials, Credentials, PasswordCredentials
from openvstorage.client.errors import (
    AccessDenied,
    AlreadyExists,
    AnswerLost,
    AuthenticationError,
    CertificateError,
    ConfigurationError,
    HasClones,
    IdempotencyConflict,
    InUse,
    InvalidRequest,
    NotFound,
    NotSupported,
    NotYet,
    OpenvStorageError,
    RateLimited,
    Refused,
    ServerError,
    TaskError,
    TaskFailed,
    TaskLost,
    TaskRevoked,
    TaskTimeout,
    TransportError,
    Unavailable,
    UnexpectedAnswer,
    Unreachable,
    VersionNotSupported,
)
from openvstorage.client.grant import Grant, Grants, Mode
from openvstorage.client.names import devicename, edge_name
from openvstorage.client.qos import Qos
from openvstorage.client.refusals import (
    BackendFailed,
    DaemonFailed,
    GrantEnding,
    GrantRefused,
    GroupVoid,
    InternalError,
    Interrupted,
    InvalidSize,
    IsATemplate,
    NameTaken,
    NodeUnsuitable,
    NoPortLeft,
    NotATemplate,
    NotFenced,
    NotPossible,
    PoolFull,
    ShrinkRefused,
    SnapshotHasClones,
    SnapshotInUse,
    SnapshotNotFound,
    TimestampNotFound,
    TooLarge,
    Unfinished,
    VDiskHasClones,
    VDiskInUse,
    VDiskNotFound,
    VDiskRunning,
)
from openvstorage.client.snapshot import Snapshot, Snapshots
from openvstorage.client.storagerouter import EdgeAddress
from openvstorage.client.task import Tasks
from openvstorage.client.vdisk import VDisk, VDisks
from openvstorage.client.vpool import Capacity, VPool, VPools
from openvstorage.contract.durability import Durability

__all__ = [
    "AccessDenied",
    "AlreadyExists",
    "AnswerLost",
    "AuthenticationError",
    "BackendFailed",
    "Capacity",
    "CertificateError",
    "Client",
    "ClientCredentials",
    "ConfigurationError",
    "Credentials",
    "DaemonFailed",
    "Durability",
    "EdgeAddress",
    "Grant",
    "GrantEnding",
    "GrantRefused",
    "Grants",
    "GroupVoid",
    "HasClones",
    "IdempotencyConflict",
    "InUse",
    "InternalError",
    "Interrupted",
    "InvalidRequest",
    "InvalidSize",
    "IsATemplate",
    "Mode",
    "NameTaken",
    "NoPortLeft",
    "NodeUnsuitable",
    "NotATemplate",
    "NotFenced",
    "NotFound",
    "NotPossible",
    "NotSupported",
    "NotYet",
    "OpenvStorageError",
    "PasswordCredentials",
    "PoolFull",
    "Qos",
    "RateLimited",
    "Refused",
    "ServerError",
    "ShrinkRefused",
    "Snapshot",
    "SnapshotHasClones",
    "SnapshotInUse",
    "SnapshotNotFound",
    "Snapshots",
    "TaskError",
    "TaskFailed",
    "TaskLost",
    "TaskRevoked",
    "TaskTimeout",
    "Tasks",
    "TimestampNotFound",
    "TooLarge",
    "TransportError",
    "Unavailable",
    "UnexpectedAnswer",
    "Unfinished",
    "Unreachable",
    "VDisk",
    "VDiskHasClones",
    "VDiskInUse",
    "VDiskNotFound",
    "VDiskRunning",
    "VDisks",
    "VPool",
    "VPools",
    "VersionNotSupported",
    "devicename",
    "edge_name",
]
