"""Preflight: whether this machine can run the all-in-one, said before anything is done to it."""

from __future__ import annotations

import os
import platform
import resource
import shutil
import socket
import urllib.parse
from pathlib import Path

from openvstorage.aio.errors import MachineUnfit
from openvstorage.aio.paths import Paths

__all__ = ["available_memory", "cap_file_descriptors", "check"]

_GIB = 1024**3
_MEMORY = 2 * _GIB
_MEMORY_WITH_INSTANCES = 4 * _GIB
_DISK = 4 * _GIB
# Docker allows a thousand million; Erlang and uWSGI allocate a table of that size.
_FILE_DESCRIPTORS = 65536


def cap_file_descriptors() -> None:
    """Lower this process's limit of open files to what the all-in-one's programs need; they inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _FILE_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _FILE_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def available_memory(proc: Path = Path("/proc"), cgroup: Path = Path("/sys/fs/cgroup")) -> int:
    """Return how many bytes of memory new processes can take: the machine's, or less where a container is limited."""
    fields = dict(line.split(":", 1) for line in (proc / "meminfo").read_text().splitlines())
    machine = int(fields["MemAvailable"].split()[0]) * 1024
    limit, usage = cgroup / "memory.max", cgroup / "memory.current"
    if not limit.exists() or limit.read_text().strip() == "max":
        return machine
    return min(machine, int(limit.read_text()) - int(usage.read_text()))


def _free_disk(path: Path) -> int:
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def _unreachable(url: str) -> str | None:
    # Only the name and the port are tried: what answers there is the business of pip and apt, which report well.
    proxy = os.environ.get("https_proxy") or os.environ.get("HTTPS_PROXY")
    target = urllib.parse.urlsplit(proxy or url)
    try:
        socket.create_connection((target.hostname or "", target.port or 443), timeout=10).close()
    except OSError as error:
        return f"{target.hostname} cannot be reached ({error}): OpenStack's packages come from {url}"
    return None


def check(paths: Paths, *, downloads: bool, missing_packages: list[str], instances: bool = False) -> None:
    """Look at user, machine, memory, disk and, where something must be fetched, network.

    :param downloads: whether wheels must be fetched.
    :param missing_packages: Debian packages that must be installed.
    :param instances: whether guests are to run.
    Blocks up to ten seconds. Raises MachineUnfit with all reasons at once.
    """
    reasons: list[str] = []
    if os.geteuid() != 0:
        reasons.append("root is needed (to install Debian packages and to run the services)")
    if platform.machine() != "x86_64":
        reasons.append(f"x86_64 is needed, this is {platform.machine()} (the boot loader of the test image)")
    if missing_packages and shutil.which("apt-get") is None:
        reasons.append(f"there is no apt-get to install {', '.join(missing_packages)}")
    memory = available_memory()
    needed = _MEMORY_WITH_INSTANCES if instances else _MEMORY
    if memory < needed:
        hint = "; without instances (--storage-only) 2 GiB do" if instances else ""
        reasons.append(f"{needed / _GIB:.0f} GiB of free memory are needed, {memory / _GIB:.1f} GiB are free{hint}")
    for path in sorted({paths.state, paths.cache}):
        free = _free_disk(path)
        if free < _DISK:
            reasons.append(f"{_DISK / _GIB:.0f} GiB are needed for {path}, {free / _GIB:.1f} GiB are free")
    if downloads:
        index = os.environ.get("UV_DEFAULT_INDEX") or os.environ.get("UV_INDEX_URL") or "https://pypi.org/simple"
        problem = _unreachable(index)
        if problem:
            reasons.append(problem)
    if reasons:
        raise MachineUnfit(reasons)
