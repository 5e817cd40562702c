"""Why an operation is refused. The texts reach clients as the result of a failed task.

Existing clients recognise some of them by a fragment; those fragments are Open vStorage's and must stay.
"""

from __future__ import annotations

from openvstorage.vpool.backends.base import BackendError
from openvstorage.vpool.exports.errors import ExportsError


class OperationError(Exception):
    """An operation was refused or failed. ``str()`` is one sentence for a person."""

    template = "the operation failed"

    def __init__(self, **values: object) -> None:
        super().__init__(self.template.format(**values))


class Refused(OperationError):
    """A reason that has no class of its own."""

    def __init__(self, text: str) -> None:
        Exception.__init__(self, text)


class UnknownVDisk(OperationError):
    """There is no such vDisk, or it is not ready."""

    template = "vDisk {guid} does not exist"


class NameTaken(OperationError):
    """Another vDisk of the vPool has this device name."""

    template = "A vDisk with device name {devicename} already exists on vPool {vpool}"


class TooLarge(OperationError):
    """Beyond the limit of one vDisk."""

    template = "Maximum volume size of 64TiB exceeded"


class InvalidSize(OperationError):
    """A size that no vDisk can have."""

    template = "{size} bytes is not a size a vDisk can have: give a positive multiple of 512"


class ShrinkRefused(OperationError):
    """vDisks only grow."""

    template = "Shrinking is not possible: the vDisk has {size} bytes, {asked} were asked for"


class SnapshotMissing(OperationError):
    """The vDisk has no such snapshot."""

    template = "Snapshot {snapshot} does not belong to vDisk {vdisk}"


class TimestampMissing(OperationError):
    """No snapshot was taken at this time."""

    template = "No snapshot found for timestamp {timestamp}"


class SnapshotInUse(OperationError):
    """Someone holds a grant of the snapshot."""

    template = "Snapshot in use: revoke the grants of {snapshot} first"


class VDiskInUse(OperationError):
    """Live grants stand in the way."""

    template = "vDisk {vdisk} is in use by {holder}: revoke that grant first"


class GrantRefused(OperationError):
    """Another consumer holds a writable grant, and not both were asked for as shared. Retrying does not help until it
    is revoked."""

    template = "vDisk {vdisk} is in use by {holder}: revoke that grant first, or ask for both as shared"


class HasClones(OperationError):
    """Only with ``strict_compat``: children forbid it."""

    template = "vDisk {vdisk} has clones"


class SnapshotHasClones(OperationError):
    """Only with ``strict_compat``: children forbid it."""

    template = "Snapshot {snapshot} has {number} volumes cloned from it, cannot remove"


class NotATemplate(OperationError):
    """The call is for vTemplates."""

    template = "The given vDisk is not a vTemplate"


class IsATemplate(OperationError):
    """A vTemplate is never written to."""

    template = "vDisk {vdisk} is a vTemplate and can not be changed"


class NoSuchNode(OperationError):
    """The vPool is not served by this StorageRouter."""

    template = "Could not use the given StorageRouter: the vPool is not served by {storagerouter}"


class GroupVoid(OperationError):
    """No instant could be had that all vDisks share; none of them has the snapshot."""

    template = "the group snapshot was given up, no vDisk has it: {reason}"


class Unfinished(OperationError):
    """What the model says of the vDisk is not true yet. Trying again later helps."""

    template = "an earlier operation of this vDisk could not be finished yet; it is tried again every few seconds"


class NotFenced(OperationError):
    """The old client may still be writing."""

    template = "not fenced: the storage daemon of vDisk {vdisk} could not be stopped"


class NoPort(OperationError):
    """Every port of the range is taken."""

    template = "no free port is left between {first} and {last}: revoke unused grants or widen the port range"


class IdempotencyConflict(OperationError):
    """The same key was sent with another request."""

    template = "the idempotency key was used for another request before"


class ServiceStops(OperationError):
    """Nobody can wait here any longer; the task itself goes on, after a restart if need be."""

    template = "the service is being stopped: ask again, here in a moment or at another management address"


def text_of(error: BaseException) -> str:
    """:returns: what a client is told; details of an unexpected error stay in the log."""
    if isinstance(error, OperationError | BackendError | ExportsError):
        return str(error)
    return f"internal error ({type(error).__name__}): the service's log has the details"
