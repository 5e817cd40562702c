"""What can go wrong with a storage daemon, told apart by what the caller can do about it.

Every message is a template over the error's own attributes, so the text is written once.
"""

from __future__ import annotations

from typing import Any, ClassVar

from openvstorage.contract.codes import ErrorCode

__all__ = [
    "DaemonError",
    "DaemonGone",
    "ExportConflict",
    "ExportsError",
    "ImageLocked",
    "JobFailed",
    "LaunchFailed",
    "ListenerUnavailable",
    "NotFenced",
    "NotOurs",
    "PortTaken",
    "QemuMissing",
    "QmpError",
    "QmpInterrupted",
    "UnknownNode",
]


class ExportsError(Exception):
    """Base of all errors of this room. Its attributes are the values that its text was made of.

    :cvar code: what it is to a program of a client whose operation failed of it.
    """

    code: ClassVar[ErrorCode] = ErrorCode.DAEMON_FAILED
    template: ClassVar[str] = "{reason}"

    def __init__(self, **attributes: Any) -> None:
        super().__init__(self.template.format(**attributes))
        for name, value in attributes.items():
            setattr(self, name, value)


class QemuMissing(ExportsError):
    """A QEMU program is not there or does not run. Attributes: program, reason."""

    template = (
        "{program}: {reason}; install QEMU's storage daemon and tools "
        "(Debian 12: qemu-system-common and qemu-utils; Debian 13 and bookworm-backports: qemu-utils)"
    )
    program: str
    reason: str


class PortTaken(ExportsError):
    """Another process listens there. Attributes: host, port. Take another port, or free this one."""

    template = "{host} port {port} is in use by another process"
    host: str
    port: int


class ListenerUnavailable(ExportsError):
    """The listening socket could not be taken out of the daemon. Attributes: pid, reason.

    The port can be bound again when the daemon has ended; clients that connect in between are refused.
    """

    template = "cannot take the listening socket of process {pid}: {reason}"
    pid: int
    reason: str


class LaunchFailed(ExportsError):
    """A daemon did not start; no process and no file of it is left. Attributes: vdisk, reason."""

    template = "the storage daemon of vDisk {vdisk} did not start: {reason}"
    vdisk: str
    reason: str


class ImageLocked(LaunchFailed):
    """A file is open for writing in another process, maybe in an old daemon that is still ending."""


class DaemonError(ExportsError):
    """Base of what a started daemon answers or fails to answer."""


class DaemonGone(DaemonError):
    """The daemon has ended: surely no longer writing, safe to respawn. Attributes: vdisk, pid."""

    template = "the storage daemon of vDisk {vdisk} (process {pid}) has ended"
    vdisk: str
    pid: int


class NotOurs(ExportsError):
    """A living process that could not be shown to be the vDisk's daemon; left alone. Attributes: vdisk, pid, reason."""

    template = "process {pid} is not the storage daemon of vDisk {vdisk}: {reason}"
    vdisk: str
    pid: int
    reason: str


class QmpError(DaemonError):
    """The daemon refused a command and did nothing. Attributes: class_ (QMP's error class), desc, command."""

    template = "{command}: {desc}"
    class_: str
    desc: str
    command: str


class QmpInterrupted(DaemonError):
    """The monitor was lost while the process lives: whether the command ran is unknown. Attributes: vdisk, command.

    The next command opens the monitor again; look at the state before repeating.
    """

    template = "{command}: the monitor of vDisk {vdisk} was interrupted, the outcome is unknown"
    vdisk: str
    command: str


class ExportConflict(DaemonError):
    """An export of that name is there in another mode or of another node. Attributes: name, reason."""

    template = "export {name}: {reason}"
    name: str
    reason: str


class NotFenced(DaemonError):
    """A dropped export was still there at the deadline: its clients may still write. Attributes: vdisk, name, timeout.

    Kill the daemon to be sure.
    """

    code = ErrorCode.NOT_FENCED
    template = "export {name} of vDisk {vdisk} was still in use after {timeout} s"
    vdisk: str
    name: str
    timeout: float


class NotCut(DaemonError):
    """The connections of the daemon's clients could not be reached: they may still write. Attributes: vdisk, reason.

    Kill the daemon to be sure.
    """

    code = ErrorCode.NOT_FENCED
    template = "the clients of vDisk {vdisk} can not be disconnected: {reason}"
    vdisk: str
    reason: str


class UnknownNode(DaemonError):
    """The options of a block node are not known, so it cannot be reopened. Attributes: vdisk, node."""

    template = "vDisk {vdisk}: the options of block node {node} are not known"
    vdisk: str
    node: str


class JobFailed(DaemonError):
    """A block job ended with an error; the graph is as before. Attributes: job, reason (QEMU's text)."""

    template = "block job {job} failed: {reason}"
    job: str
    reason: str
