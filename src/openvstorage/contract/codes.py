"""Codes of errors: what a task that failed tells programs, beside its sentence for people.

An extension of Open vStorage's API, announced as ``error_codes``. A code never changes its meaning and is never used
again for another one; new ones may come, so whoever reads them must know what to do with one that is not in this list.
"""

from enum import StrEnum

__all__ = ["ErrorCode"]


class ErrorCode(StrEnum):
    """Why an operation was refused or failed."""

    # there is no such thing
    VDISK_UNKNOWN = "vdisk_unknown"
    SNAPSHOT_UNKNOWN = "snapshot_unknown"
    TIMESTAMP_UNKNOWN = "timestamp_unknown"
    # somebody has it
    NAME_TAKEN = "name_taken"
    VDISK_IN_USE = "vdisk_in_use"
    SNAPSHOT_IN_USE = "snapshot_in_use"
    VDISK_RUNNING = "vdisk_running"
    GRANT_REFUSED = "grant_refused"
    VDISK_HAS_CLONES = "vdisk_has_clones"
    SNAPSHOT_HAS_CLONES = "snapshot_has_clones"
    # it can not be meant
    SIZE_INVALID = "size_invalid"
    SIZE_TOO_LARGE = "size_too_large"
    SHRINK_REFUSED = "shrink_refused"
    NOT_A_TEMPLATE = "not_a_template"
    IS_A_TEMPLATE = "is_a_template"
    NODE_UNSUITABLE = "node_unsuitable"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    REFUSED = "refused"
    # not now
    POOL_FULL = "pool_full"
    NO_PORT_LEFT = "no_port_left"
    GROUP_VOID = "group_void"
    UNFINISHED = "unfinished"
    GRANT_ENDING = "grant_ending"
    INTERRUPTED = "interrupted"
    # it went wrong
    NOT_FENCED = "not_fenced"
    BACKEND_FAILED = "backend_failed"
    DAEMON_FAILED = "daemon_failed"
    INTERNAL_ERROR = "internal_error"
