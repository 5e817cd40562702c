"""libvirt: a daemon of our own, with directories of its own, that runs the guests. A libvirt of the machine is not met.

A daemon that is root uses the machine's directories, whatever it is told. So ours runs as ``nobody``, which makes it a
session's daemon, as on a desktop. Nova runs as root and leaves disks and consoles to root, and the state directory lets
nobody in; therefore daemon and guests may pass by file permissions, and have no other capability.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import uuid
from pathlib import Path

from openvstorage.aio.paths import Paths, write_private
from openvstorage.aio.supervisor import Identity, Program, Supervisor, end_processes, processes_with

__all__ = ["Libvirt"]

_VERSION = re.compile(r"libvirt version: ([0-9.]+)")
_USER = "nobody"
_GROUP = "nogroup"
_CAPABILITY = "-all,+dac_override"
_QEMU_SETTINGS = (
    # The guests' output goes to files; there is no second daemon for that.
    'stdio_handler = "file"\n'
    # Guests keep the capability to open what Nova made.
    "clear_emulator_capabilities = 0\n"
)


class Libvirt:
    """The daemon and the guests in it.

    :param paths: ``paths.guests`` holds its directories.
    :param certificate: directory of the certificate by which guests open vDisks where the edge has TLS.
    """

    name = "libvirtd"

    def __init__(self, paths: Paths, supervisor: Supervisor, certificate: Path) -> None:
        self._supervisor = supervisor
        self._certificate = certificate
        self._root = paths.guests
        self._uuid_file = paths.etc / "libvirt-host-uuid"
        self._socket = self._root / "run" / "libvirt" / "libvirt-sock"

    @property
    def uri(self) -> str:
        """Where clients connect to."""
        return f"qemu+unix:///session?socket={self._socket}"

    @property
    def version(self) -> str:
        """The version that runs, as it says itself in its log. Raises OSError before the first start."""
        found: list[str] = _VERSION.findall(self._supervisor.log(self.name).read_text(errors="replace"))
        return found[-1]

    def start(self) -> str:
        """Start the daemon; blocks until it accepts connections. Guests that run go on. Raises ProgramFailed."""
        self._make_directories()
        started = self._supervisor.start(self._program())
        self._supervisor.wait_ready(self.name, self._accepts)
        return "started" if started else "running"

    def guests(self) -> list[Identity]:
        """Return the processes of the guests that run, also when the daemon does not."""
        # libvirt cleans the environment of what it starts; this is what it leaves. The daemon itself has more.
        mine = self._supervisor.identity(self.name)
        return [each for each in processes_with({"HOME": str(self._root / "home")}) if each != mine]

    def stop_guests(self) -> int:
        """End all guests as a power failure would; blocks. Returns how many there were."""
        guests = self.guests()
        end_processes(guests)
        return len(guests)

    def _make_directories(self) -> None:
        self._root.mkdir(exist_ok=True, mode=0o711)
        for name in ("etc", "cache", "run", "home"):
            (self._root / name).mkdir(exist_ok=True, mode=0o700)
            shutil.chown(self._root / name, _USER, _GROUP)
        if not self._uuid_file.exists():
            # The machine's own is not to be had in every container.
            write_private(self._uuid_file, str(uuid.uuid4()))
        # It does not start with the name of a directory that is not there. Guests read what is in it when they need it.
        self._certificate.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = {
            "libvirtd.conf": f'host_uuid = "{self._uuid_file.read_text()}"\n',
            "qemu.conf": f'{_QEMU_SETTINGS}nbd_tls_x509_cert_dir = "{self._certificate}"\n',
        }
        for name, text in settings.items():
            write_private(self._settings / name, text)
        for path in (self._settings, *(self._settings / name for name in settings)):
            shutil.chown(path, _USER, _GROUP)

    @property
    def _settings(self) -> Path:
        return self._root / "etc" / "libvirt"

    def _program(self) -> Program:
        return Program(
            name=self.name,
            argv=(
                *("/usr/bin/setpriv", f"--reuid={_USER}", f"--regid={_GROUP}", "--clear-groups"),
                *(f"--inh-caps={_CAPABILITY}", f"--ambient-caps={_CAPABILITY}", f"--bounding-set={_CAPABILITY}"),
                # Else asking whether a file may be read is answered as if there were no capability.
                *("--securebits=+no_setuid_fixup", "/usr/sbin/libvirtd"),
            ),
            environment={
                "XDG_CONFIG_HOME": str(self._root / "etc"),
                "XDG_CACHE_HOME": str(self._root / "cache"),
                "XDG_RUNTIME_DIR": str(self._root / "run"),
                "HOME": str(self._root / "home"),
            },
            files=(self._settings / "libvirtd.conf", self._settings / "qemu.conf"),
            stop_stage=1,
        )

    def _accepts(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(os.fspath(self._socket))
            except OSError:
                return False
        return True
