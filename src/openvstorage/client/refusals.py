"""Refusals: a class for each code of an error, below the branches of :mod:`openvstorage.client.errors`.

A service of this project says by a code why it refused something. Open vStorage itself has only sentences, by which no
more than the branch can be told: whoever works with both catches ``InUse``, not ``SnapshotInUse``.
"""

from openvstorage.client.errors import (
    AlreadyExists,
    HasClones,
    IdempotencyConflict,
    InUse,
    InvalidRequest,
    NotFound,
    NotYet,
    Refused,
    TaskFailed,
    Unavailable,
)
from openvstorage.contract.codes import ErrorCode

__all__ = [
    "BY_CODE",
    "BackendFailed",
    "DaemonFailed",
    "GrantEnding",
    "GrantRefused",
    "GroupVoid",
    "InternalError",
    "Interrupted",
    "InvalidSize",
    "IsATemplate",
    "NameTaken",
    "NoPortLeft",
    "NodeUnsuitable",
    "NotATemplate",
    "NotFenced",
    "NotPossible",
    "PoolFull",
    "ShrinkRefused",
    "SnapshotHasClones",
    "SnapshotInUse",
    "SnapshotNotFound",
    "TimestampNotFound",
    "TooLarge",
    "Unfinished",
    "VDiskHasClones",
    "VDiskInUse",
    "VDiskNotFound",
    "VDiskRunning",
]


class VDiskNotFound(NotFound):
    """There is no such vDisk, or it is on its way in or out."""


class SnapshotNotFound(NotFound):
    """The vDisk has no such snapshot."""


class TimestampNotFound(NotFound):
    """No snapshot was taken at that time."""


class NameTaken(AlreadyExists):
    """Another vDisk of the vPool has this device name."""


class VDiskInUse(InUse):
    """Grants of the vDisk stand in the way."""


class SnapshotInUse(InUse):
    """Somebody reads the snapshot. It can be removed when its grants are revoked."""


class VDiskRunning(InUse):
    """A storage daemon serves the vDisk: a restart has to be forced."""


class GrantRefused(InUse):
    """Another consumer may write to the vDisk, and not both asked for it as shared."""


class VDiskHasClones(HasClones):
    """Something was cloned from the vDisk."""


class SnapshotHasClones(HasClones):
    """Something was cloned from the snapshot."""


class InvalidSize(InvalidRequest):
    """No vDisk can have this size."""


class TooLarge(InvalidRequest):
    """Beyond the largest size of a vDisk."""


class ShrinkRefused(InvalidRequest):
    """vDisks only grow."""


class NotATemplate(InvalidRequest):
    """The call is for vTemplates."""


class IsATemplate(InvalidRequest):
    """A vTemplate is never written to."""


class NotPossible(InvalidRequest):
    """Another reason, in words only."""


class NodeUnsuitable(Unavailable):
    """The StorageRouter that was asked for does not serve the vPool. Another one may."""

    retry_helps = False


class PoolFull(Unavailable):
    """The vPool has no room for new data. Deleting still works, and is what helps."""

    retry_helps = False


class NoPortLeft(Unavailable):
    """Every port for exports is taken: unused grants have to be revoked."""

    retry_helps = False


class GroupVoid(Unavailable):
    """No instant could be had that all vDisks share. None of them has the snapshot."""


class Interrupted(Unavailable):
    """The service died in the middle of it."""


class Unfinished(NotYet):
    """An earlier change of the vDisk has still to be finished; the service tries that every few seconds."""


class GrantEnding(NotYet):
    """The same grant is being revoked at this moment."""


class NotFenced(Refused):
    """An old client could not be cut off and may still be writing: give its vDisk to nobody else."""

    template = "Not fenced: {description}"


class BackendFailed(TaskFailed):
    """What keeps the bytes could not do it."""


class DaemonFailed(TaskFailed):
    """The storage daemon of the vDisk did not start, or did not do what it was told."""

    retry_helps = True


class InternalError(TaskFailed):
    """A fault of the service; its log has the details."""


#: What is raised for a code. One that is not here comes from a newer service.
BY_CODE: dict[str, type[Refused]] = {
    ErrorCode.VDISK_UNKNOWN: VDiskNotFound,
    ErrorCode.SNAPSHOT_UNKNOWN: SnapshotNotFound,
    ErrorCode.TIMESTAMP_UNKNOWN: TimestampNotFound,
    ErrorCode.NAME_TAKEN: NameTaken,
    ErrorCode.VDISK_IN_USE: VDiskInUse,
    ErrorCode.SNAPSHOT_IN_USE: SnapshotInUse,
    ErrorCode.VDISK_RUNNING: VDiskRunning,
    ErrorCode.GRANT_REFUSED: GrantRefused,
    ErrorCode.VDISK_HAS_CLONES: VDiskHasClones,
    ErrorCode.SNAPSHOT_HAS_CLONES: SnapshotHasClones,
    ErrorCode.SIZE_INVALID: InvalidSize,
    ErrorCode.SIZE_TOO_LARGE: TooLarge,
    ErrorCode.SHRINK_REFUSED: ShrinkRefused,
    ErrorCode.NOT_A_TEMPLATE: NotATemplate,
    ErrorCode.IS_A_TEMPLATE: IsATemplate,
    ErrorCode.NODE_UNSUITABLE: NodeUnsuitable,
    ErrorCode.IDEMPOTENCY_CONFLICT: IdempotencyConflict,
    ErrorCode.REFUSED: NotPossible,
    ErrorCode.POOL_FULL: PoolFull,
    ErrorCode.NO_PORT_LEFT: NoPortLeft,
    ErrorCode.GROUP_VOID: GroupVoid,
    ErrorCode.UNFINISHED: Unfinished,
    ErrorCode.GRANT_ENDING: GrantEnding,
    ErrorCode.INTERRUPTED: Interrupted,
    ErrorCode.NOT_FENCED: NotFenced,
    ErrorCode.BACKEND_FAILED: BackendFailed,
    ErrorCode.DAEMON_FAILED: DaemonFailed,
    ErrorCode.INTERNAL_ERROR: InternalError,
}
