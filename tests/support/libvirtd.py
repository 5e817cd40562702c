"""A private libvirtd of this test, and guests without an operating system in it.

Needs the Debian packages libvirt-daemon, libvirt-daemon-driver-qemu, python3-libvirt and qemu-system-x86. The daemon
runs as nobody, in session mode, so it needs none of the machine's configuration and touches nothing of it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from tests.support.patience import PATIENCE

__all__ = ["TREES", "Libvirtd", "bindings", "missing", "writer"]

_NEWER = Path(__file__).resolve().parents[2] / "var" / "libvirt-11"
#: Where libvirt and QEMU are, by a name for test ids: the machine's own, and those of ``fetch_libvirt11.sh`` if there.
TREES = {"system": Path("/")} | ({"libvirt-11": _NEWER} if (_NEWER / "usr/sbin/libvirtd").exists() else {})

_BINDINGS = Path("/usr/lib/python3/dist-packages")
_DAEMON = "usr/sbin/libvirtd"


def writer(disks: int = 1, start: int = 64) -> bytes:
    """Give a boot sector that writes for ever, one sector at a time, to so many disks of its machine.

    The n-th write goes to sector start + n % 65536 and holds n and the number of failed writes so far (little-endian,
    32 bits each). So a sector that says n, with those before it, shows what was acknowledged before n was written. With
    several disks n goes to the first, then to the second and so on, each write only after the one before is done.
    """
    program = (
        "31c0 8ed8 8ec0 8ed0 bc007c"  # xor ax,ax; ds = es = ss = ax; sp = 0x7c00
        "66c7060080 00000000"  # dword [0x8000] = 0: the buffer's number
        "66c7060480 00000000"  # dword [0x8004] = 0: its count of errors
        "66ff060080"  # next: inc dword [0x8000]
        f"66a10080 6625ffff0000 6605{start.to_bytes(4, 'little').hex()}"  # eax = ([0x8000] & 0xffff) + start
        "66a35e7c"  # packet.lba = eax
        "b280"  # dl = 0x80: the first disk
        "c706587c0100"  # disk: word packet.count = 1, which a failure changes
        "be567c b80043 cd13"  # si = packet; ax = 0x4300: extended write; int 0x13
        "7305 66ff060480"  # jnc ok; inc dword [0x8004]
        f"fec2 80fa{0x80 + disks:02x} 75e4"  # ok: inc dl; cmp dl, 0x80 + disks; jne disk
        "ebc7"  # jmp next
        "1000 0100 00800000 0000000000000000"  # packet: size, 1 sector, 0x8000, lba
    )
    return bytes.fromhex(program).ljust(510, b"\0") + b"\x55\xaa"


def missing() -> str | None:
    """Say what is missing for real guests, None if nothing is."""
    needed = [f"/{_DAEMON}", str(_BINDINGS / "libvirt.py"), "/usr/bin/qemu-system-x86_64", "/usr/bin/setpriv"]
    absent = [path for path in needed if not Path(path).exists()]
    return f"real guests need {', '.join(absent)}" if absent else None


def bindings() -> None:
    """Make Debian's libvirt bindings, and nothing else of Debian's Python packages, importable here."""
    directory = Path(tempfile.mkdtemp(prefix="libvirt-python-"))
    for path in _BINDINGS.glob("libvirt*"):
        (directory / path.name).symlink_to(path)
    sys.path.append(str(directory))


class Libvirtd:
    """The daemon. Use it by ``with``.

    :param tree: where libvirt and QEMU are, one of :data:`TREES`.
    :param certificates: directory of this host's certificate for NBD with TLS, as ``openvstorage enroll`` makes it.
    :ivar uri: where it listens. :ivar tree: as given.
    """

    def __init__(self, tree: Path = TREES["system"], certificates: Path | None = None) -> None:
        self._certificates = certificates
        self.tree = tree
        # Socket paths have 107 bytes at most, which pytest's directories use up.
        self._root = Path(tempfile.mkdtemp(prefix="lv-", dir="/tmp"))
        self.uri = f"qemu+unix:///session?socket={self._root}/run/libvirt/libvirt-sock"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Libvirtd:
        places = {"XDG_CONFIG_HOME": "config", "XDG_CACHE_HOME": "cache", "XDG_RUNTIME_DIR": "run", "HOME": "home"}
        environment = {"PATH": os.environ["PATH"], **self._places_in_tree()}
        for name, place in places.items():
            (self._root / place).mkdir()
            shutil.chown(self._root / place, "nobody")
            environment[name] = str(self._root / place)
        self._root.chmod(0o755)
        (self._root / "config/libvirt").mkdir(mode=0o755)
        # The guests' output goes to files; there is no second daemon for that.
        settings = 'stdio_handler = "file"\n'
        if self._certificates is not None:
            shutil.copytree(self._certificates, self._root / "pki")
            for path in (self._root / "pki", *(self._root / "pki").iterdir()):
                shutil.chown(path, "nobody")
            settings += f'nbd_tls_x509_cert_dir = "{self._root}/pki"\nnbd_tls_x509_verify = 1\n'
        (self._root / "config/libvirt/qemu.conf").write_text(settings)
        # Two daemons that say they are one host do not migrate guests to each other.
        (self._root / "config/libvirt/libvirtd.conf").write_text(f'host_uuid = "{uuid.uuid4()}"\n')
        shutil.chown(self._root / "config/libvirt", "nobody")
        command = ["setpriv", "--reuid=nobody", "--clear-groups", str(self.tree / _DAEMON), "--timeout", "0"]
        log = (self._root / "libvirtd.log").open("wb")
        self._process = subprocess.Popen(command, env=environment, cwd=self._root, stdout=log, stderr=log)
        deadline = time.monotonic() + PATIENCE
        while not (self._root / "run/libvirt/libvirt-sock").exists():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError((self._root / "libvirtd.log").read_text())
            time.sleep(0.1)
        return self

    def _places_in_tree(self) -> dict[str, str]:
        """Give what makes programs of another place than / find their own libraries, modules and each other."""
        if self.tree == TREES["system"]:
            return {}
        (modules,) = self.tree.glob("usr/lib/*/libvirt/connection-driver")
        libraries = modules.parents[1]
        return {
            "PATH": f"{self.tree / 'usr/bin'}:{os.environ['PATH']}",
            "LD_LIBRARY_PATH": f"{libraries}:{self.tree / 'lib' / libraries.name}",
            "LIBVIRT_DRIVER_DIR": str(modules),
            "QEMU_MODULE_DIR": str(libraries / "qemu"),
        }

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout=PATIENCE)
        shutil.rmtree(self._root, ignore_errors=True)
