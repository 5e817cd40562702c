"""Packages: Debian packages, installed without starting or enabling any service.

A package's scripts would start its service now and enable it for the next boot. The start is stopped by a policy-rc.d
that is in force only while our process lives, so that even a kill in the middle leaves nothing behind; what was enabled
is disabled again with Debian's own tools. Only services of packages that were missing before are touched.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from openvstorage.aio.command import network_environment, run
from openvstorage.aio.errors import CommandFailed, MachineUnfit
from openvstorage.aio.supervisor import Identity

__all__ = ["INSTANCE_PACKAGES", "PACKAGES", "dependency", "install", "interrupted", "missing", "services_of", "unpack"]

PACKAGES = (
    "busybox-static",
    "cpio",
    "fdisk",
    "libnbd-bin",
    # Only the program: the package mariadb-server adds a service, a user and a database that nobody asked for.
    "mariadb-client-core",
    "mariadb-server-core",
    "mtools",
    "qemu-system-common",
    "qemu-utils",
    "rabbitmq-server",
    "syslinux",
    "syslinux-common",
)

# What running guests needs besides. None of libvirt's packages that set up the machine's own daemon is among them.
INSTANCE_PACKAGES = (
    # Makes config drives, for instances that ask for one.
    "genisoimage",
    "libvirt-daemon",
    "libvirt-daemon-driver-qemu",
    "python3-libvirt",
    "qemu-system-x86",
)

_POLICY = Path("/usr/sbin/policy-rc.d")
_PENDING = Path("/var/lib/openvstorage-aio-packages.json")


def _installed() -> set[str]:
    listing = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n"], capture_output=True, text=True, check=True
    )
    return {line.split()[1] for line in listing.stdout.splitlines() if line.startswith("installed ")}


def missing(names: Iterable[str] = PACKAGES) -> list[str]:
    """Return which of the packages are not installed. Raises MachineUnfit where there is no dpkg."""
    try:
        return sorted(set(names) - _installed())
    except FileNotFoundError:
        raise MachineUnfit(["it has no dpkg: Debian 12 or newer is needed"]) from None


def interrupted() -> bool:
    """Whether an installation was killed before it had disabled the new services; :func:`install` completes it."""
    return _PENDING.exists()


def services_of(files: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the systemd units and the names of the init scripts among the files of a package."""
    units, scripts = [], []
    for path in map(Path, files):
        folder = str(path.parent).removeprefix("/usr")
        if folder == "/lib/systemd/system" and path.suffix in {".service", ".socket", ".timer", ".path"}:
            units.append(path.name)
        elif folder == "/etc/init.d":
            scripts.append(path.name)
    return units, scripts


def policy_script(identity: Identity, saved: Path) -> str:
    """Return a policy-rc.d that forbids every start while that process lives and defers to ``saved`` from then on."""
    return (
        "#!/bin/sh\n"
        "# openvstorage aio: packages are being installed; without that process this file means nothing.\n"
        f"start=$(sed 's/.*) //' /proc/{identity.pid}/stat 2>/dev/null | cut -d' ' -f20)\n"
        f'[ "$start" = "{identity.start_time}" ] && exit 101\n'
        f'[ -x {saved} ] && exec {saved} "$@"\n'
        "exit 0\n"
    )


@contextmanager
def _no_service_starts(policy: Path = _POLICY) -> Iterator[None]:
    saved = policy.with_name(policy.name + ".openvstorage-aio-saved")
    if policy.exists() and not saved.exists():
        policy.rename(saved)
    identity = Identity.of(os.getpid())
    if identity is None:
        raise ProcessLookupError("this process is not in /proc")
    fresh = policy.with_name(policy.name + ".openvstorage-aio-new")
    fresh.write_text(policy_script(identity, saved))
    fresh.chmod(0o755)
    fresh.replace(policy)
    try:
        yield
    finally:
        policy.unlink()
        if saved.exists():
            saved.rename(policy)


def _disable_new_services(before: set[str], log: Path) -> None:
    for package in sorted(_installed() - before):
        files = run(f"listing the files of {package}", ["dpkg-query", "-L", package], log).splitlines()
        units, scripts = services_of(files)
        if units:
            # Debian's helper knows and removes exactly the links it made; it serves package scripts only.
            environment = {**network_environment(), "DPKG_MAINTSCRIPT_PACKAGE": package}
            run(f"disabling {units}", ["deb-systemd-helper", "disable", *units], log, environment=environment)
        for script in scripts:
            run(f"disabling {script}", ["update-rc.d", script, "disable"], log)


def install(names: Sequence[str], log: Path) -> None:
    """Install packages with what they need, starting and enabling nothing. Waits for another apt up to 5 minutes.

    :param names: packages; those already there are left as they are.
    :param log: gets the output of apt.
    Raises CommandFailed when apt fails. An installation that was killed is completed first.
    """
    resume = interrupted()
    before = set(json.loads(_PENDING.read_text())) if resume else _installed()
    _PENDING.write_text(json.dumps(sorted(before)))
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Options::=--force-confold"]
    environment = network_environment()
    with _no_service_starts():
        if resume:
            run("completing an interrupted installation", ["dpkg", "--configure", "-a"], log, environment=environment)
        wanted = missing(names)
        if wanted:
            run("the update of Debian's package lists", [*apt, "update"], log, environment=environment)
            what = f"the installation of the Debian packages {' '.join(wanted)}"
            run(what, [*apt, "install", "--no-install-recommends", *wanted], log, environment=environment)
        _disable_new_services(before, log)
    _PENDING.unlink()


def unpack(name: str, directory: Path, log: Path) -> None:
    """Download a package and unpack its files below a directory; nothing is installed. Blocks. Raises CommandFailed."""
    directory.mkdir(parents=True, exist_ok=True)
    download = ["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", name]
    _ask_apt(f"the download of {name}", download, log, cwd=directory)
    for archive in directory.glob("*.deb"):
        run(f"the unpacking of {name}", ["dpkg-deb", "-x", archive, directory], log)
        archive.unlink()


def dependency(name: str, prefix: str, log: Path) -> str:
    """Return the first package that ``name`` depends on and whose name starts so. Raises CommandFailed, LookupError."""
    listing = _ask_apt(f"the look-up of {name}", ["apt-cache", "depends", name], log)
    for line in listing.splitlines():
        kind, _, package = line.strip().partition(": ")
        if kind == "Depends" and package.startswith(prefix):
            return package
    raise LookupError(f"{name} depends on nothing that starts with {prefix}")


def _ask_apt(what: str, argv: Sequence[str], log: Path, cwd: Path | None = None) -> str:
    environment = network_environment()
    try:
        return run(what, argv, log, environment=environment, cwd=cwd)
    except CommandFailed:
        # A machine that has never run it has no package lists; one that has not for long asks for files that are gone.
        update = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300", "update"]
        run("the update of Debian's package lists", update, log, environment=environment)
        return run(what, argv, log, environment=environment, cwd=cwd)


if __name__ == "__main__":
    # For scripts that need packages before anything else is there: the names are the arguments.
    try:
        install(sys.argv[1:], Path("/dev/stderr"))
    except CommandFailed as failure:
        sys.exit(str(failure))
