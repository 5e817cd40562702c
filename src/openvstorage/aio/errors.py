"""What can go wrong with the all-in-one. Each class holds its sentence; a caller prints ``str(error)`` and stops."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

__all__ = [
    "AioError",
    "BindingsUnusable",
    "CommandFailed",
    "EvidenceMismatch",
    "InstancesRun",
    "MachineUnfit",
    "NotOurs",
    "PortsExhausted",
    "ProgramFailed",
    "RequestFailed",
    "SourceMissing",
    "StateBusy",
    "TourFailed",
    "UnknownProgram",
]

_TAIL_LINES = 15


def tail(path: Path, lines: int = _TAIL_LINES) -> str:
    """Return the last ``lines`` lines of a log file, indented; an empty string if there is no such file.

    Reads at most the last 64 KiB. Raises nothing for a missing file, OSError for an unreadable one.
    """
    if not path.exists():
        return ""
    with path.open("rb") as stream:
        stream.seek(0, 2)
        stream.seek(max(0, stream.tell() - 65536))
        text = stream.read().decode("utf-8", "replace")
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:])


class AioError(Exception):
    """Base of all errors here. ``template`` is filled from the keyword arguments, which become attributes."""

    template = "the all-in-one failed"

    def __init__(self, **facts: object) -> None:
        self.__dict__.update(facts)
        super().__init__(self.template.format(**facts))


class MachineUnfit(AioError):
    """The machine lacks something that cannot be installed by us. Retrying helps after it was put right."""

    template = "this machine cannot run the all-in-one:\n{reasons}"

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__(reasons="\n".join(f"  - {reason}" for reason in reasons))


class CommandFailed(AioError):
    """A command that had to succeed did not. The log it wrote is named and its end is shown."""

    template = "{what} failed (exit status {status}); see {log}\n{end}"

    def __init__(self, what: str, status: int, log: Path) -> None:
        self.status = status
        super().__init__(what=what, status=status, log=log, end=tail(log))


class ProgramFailed(AioError):
    """A long-running program died or did not become ready in time. The log it wrote is named and its end is shown."""

    template = "{name} {what}; see {log}\n{end}"

    def __init__(self, name: str, what: str, log: Path) -> None:
        super().__init__(name=name, what=what, log=log, end=tail(log))


class InstancesRun(AioError):
    """The edge is to change between TLS and plain NBD, which guests that run can not follow."""

    template = (
        "instances run ({count}) and have their disks open {how}: stop them with 'openstack server stop', or "
        "everything with 'openvstorage aio down', and repeat this; they start again with 'openstack server start'"
    )


class UnknownProgram(AioError):
    """A program was asked for by a name that the all-in-one does not have."""

    template = "there is no program {name!r} in this all-in-one; it has: {known}"


class NotOurs(AioError):
    """A directory was named as the state directory but holds something else, so nothing in it is touched."""

    template = "{path} is not empty and was not made by 'openvstorage aio': choose another --state directory"


class StateBusy(AioError):
    """Another command works in the same state directory. Retrying helps when that one has ended."""

    template = "another 'openvstorage aio' command is at work in {path}; wait until it has ended"


class PortsExhausted(AioError):
    """No free TCP port was found in the range the all-in-one takes its ports from."""

    template = "no free TCP port between {first} and {last} on 127.0.0.1"


class RequestFailed(AioError):
    """A service of the cloud refused a request of ours or could not be reached."""

    template = "{what} failed: {reason}"


class BindingsUnusable(AioError):
    """A module of Debian's Python cannot be loaded by the Python that the all-in-one was started with."""

    template = (
        "{python} cannot load Debian's Python modules {names} (see {log}): "
        "use Debian's own Python, with PATH=/usr/bin:$PATH and a new environment ('rm -rf .venv', 'make install')"
    )


class SourceMissing(AioError):
    """The wheel to be installed into OpenStack's environment can neither be found nor built."""

    template = "{path} is no source tree of openvstorage-openstack: name the wheel to install with --wheel"


class TourFailed(AioError):
    """A step of the tour did not do what it should."""

    template = "tour step {step!r} failed: {reason}"


class EvidenceMismatch(AioError):
    """Bytes read back on an independent path are not what was written."""

    template = "{what}: expected {expected}, found {found}"
