"""Why an operation is refused. Clients get the text as the result of a failed task, and the code beside it.

Clients of Open vStorage know no codes and recognise some of the texts by a fragment; those fragments must stay.
"""

from __future__ import annotations

import errno
from typing import ClassVar

from sqlalchemy.exc import OperationalError

from openvstorage.contract.codes import ErrorCode
from openvstorage.vpool.backends.base import BackendError, PoolFull
from openvstorage.vpool.exports.errors import ExportsError

#: How SQLite and PostgreSQL say that the disk is full.
DISK_FULL = ("database or disk is full", "No space left on device")


class OperationError(Exception):
    """An operation was refused or failed. ``str()`` is one sentence for a person, ``code`` says it to programs."""

    code: ClassVar[ErrorCode] = ErrorCode.REFUSED
    template = "the operation failed"

    def __init__(self, **values: object) -> None:
        super().__init__(self.template.format(**values))


class Refused(OperationError):
    """A reason that has no class of its own."""

    def __init__(self, text: str) -> None:
        Exception.__init__(self, text)


class UnknownVDisk(OperationError):
    """There is no such vDisk, or it is not ready."""

    code = ErrorCode.VDISK_UNKNOWN
    template = "vDisk {guid} does not exist"


class NameTaken(OperationError):
    """Another vDisk of the vPool has this device name."""

    code = ErrorCode.NAME_TAKEN
    template = "A vDisk with device name {devicename} already exists on vPool {vpool}"


class TooLarge(OperationError):
    """Beyond the limit of one vDisk."""

    code = ErrorCode.SIZE_TOO_LARGE
    template = "Maximum volume size of 64TiB exceeded"


class InvalidSize(OperationError):
    """A size that no vDisk can have."""

    code = ErrorCode.SIZE_INVALID
    template = "{size} bytes is not a size a vDisk can have: give a positive multiple of 512"


class ShrinkRefused(OperationError):
    """vDisks only grow."""

    code = ErrorCode.SHRINK_REFUSED
    template = "Shrinking is not possible: the vDisk has {size} bytes, {asked} were asked for"


class SnapshotMissing(OperationError):
    """The vDisk has no such snapshot."""

    code = ErrorCode.SNAPSHOT_UNKNOWN
    template = "Snapshot {snapshot} does not belong to vDisk {vdisk}"


class TimestampMissing(OperationError):
    """No snapshot was taken at this time."""

    code = ErrorCode.TIMESTAMP_UNKNOWN
    template = "No snapshot found for timestamp {timestamp}"


class SnapshotInUse(OperationError):
    """Someone holds a grant of the snapshot."""

    code = ErrorCode.SNAPSHOT_IN_USE
    template = "Snapshot in use: revoke the grants of {snapshot} first"


class VDiskInUse(OperationError):
    """Live grants stand in the way."""

    code = ErrorCode.VDISK_IN_USE
    template = "vDisk {vdisk} is in use by {holder}: revoke that grant first"


class VDiskRunning(OperationError):
    """A storage daemon serves the vDisk, and what was asked for would end it."""

    code = ErrorCode.VDISK_RUNNING
    template = "vDisk {vdisk} is running: restart it with force"


class GrantRefused(OperationError):
    """Another consumer holds a writable grant, and not both were asked for as shared. Retrying does not help until it
    is revoked."""

    code = ErrorCode.GRANT_REFUSED
    template = "vDisk {vdisk} is in use by {holder}: revoke that grant first, or ask for both as shared"


class GrantEnding(OperationError):
    """The same grant is being revoked at this moment. Trying again later helps."""

    code = ErrorCode.GRANT_ENDING
    template = "this grant is being revoked: ask again when that is done"


class HasClones(OperationError):
    """Children forbid it: that it becomes a vTemplate, and with ``strict_compat`` that it is deleted."""

    code = ErrorCode.VDISK_HAS_CLONES
    template = "vDisk {vdisk} has clones"


class SnapshotHasClones(OperationError):
    """Only with ``strict_compat``: children forbid it."""

    code = ErrorCode.SNAPSHOT_HAS_CLONES
    template = "Snapshot {snapshot} has {number} volumes cloned from it, cannot remove"


class NotATemplate(OperationError):
    """The call is for vTemplates."""

    code = ErrorCode.NOT_A_TEMPLATE
    template = "The given vDisk is not a vTemplate"


class IsATemplate(OperationError):
    """A vTemplate is never written to."""

    code = ErrorCode.IS_A_TEMPLATE
    template = "vDisk {vdisk} is a vTemplate and can not be changed"


class NoSuchNode(OperationError):
    """The vPool is not served by this StorageRouter."""

    code = ErrorCode.NODE_UNSUITABLE
    template = "Could not use the given StorageRouter: the vPool is not served by {storagerouter}"


class GroupVoid(OperationError):
    """No instant could be had that all vDisks share; none of them has the snapshot."""

    code = ErrorCode.GROUP_VOID
    template = "the group snapshot was given up, no vDisk has it: {reason}"


class Unfinished(OperationError):
    """What the model says of the vDisk is not true yet. Trying again later helps."""

    code = ErrorCode.UNFINISHED
    template = "an earlier operation of this vDisk could not be finished yet; it is tried again every few seconds"


class NotFenced(OperationError):
    """The old client may still be writing."""

    code = ErrorCode.NOT_FENCED
    template = "not fenced: the storage daemon of vDisk {vdisk} could not be stopped"


class NoPort(OperationError):
    """Every port of the range is taken."""

    code = ErrorCode.NO_PORT_LEFT
    template = "no free port is left between {first} and {last}: revoke unused grants or widen the port range"


class IdempotencyConflict(OperationError):
    """The same key was sent with another request."""

    code = ErrorCode.IDEMPOTENCY_CONFLICT
    template = "the idempotency key was used for another request before"


class Interrupted(OperationError):
    """The service died in the middle of it. Trying again helps."""

    code = ErrorCode.INTERRUPTED
    template = "the service was stopped while it was under way"


class ServiceStops(OperationError):
    """Nobody can wait here any longer; the task itself goes on, after a restart if need be. So no task fails of it."""

    template = "the service is being stopped: ask again, here in a moment or at another management address"


def text_of(error: BaseException) -> str:
    """:returns: what a client is told; details of an unexpected error stay in the log."""
    if is_disk_full(error):
        error = PoolFull()
    if isinstance(error, OperationError | BackendError | ExportsError):
        return str(error)
    return f"internal error ({type(error).__name__}): the service's log has the details"


def code_of(error: BaseException) -> ErrorCode:
    """:returns: what a client's program is told."""
    if is_disk_full(error):
        error = PoolFull()
    if isinstance(error, OperationError | BackendError | ExportsError):
        return error.code
    return ErrorCode.INTERNAL_ERROR


def is_disk_full(error: BaseException) -> bool:
    """:returns: whether the database, or a file of ours, could not keep something because the disk is full."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return isinstance(error, OperationalError) and any(words in str(error.orig) for words in DISK_FULL)
