"""Acceleration: whether guests run with KVM here, or are interpreted by QEMU (TCG), which works everywhere.

That ``/dev/kvm`` is there says little: within a virtual machine it may refuse guests or leave them hanging at their
first steps. So a real guest is booted with it, once.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

from openvstorage.aio.image import BOOT_LINE
from openvstorage.aio.paths import write_private
from openvstorage.aio.supervisor import base_environment

__all__ = ["Acceleration", "choose", "probe"]

_KVM = Path("/dev/kvm")
_QEMU = "/usr/bin/qemu-system-x86_64"
# A guest that boots takes two seconds of a processor. On a busy machine the clock says little; a guest that hangs
# without using the processor is noticed by the clock all the same.
_CPU_SECONDS = 10
_SECONDS = 60.0
# What QEMU says when it gives up; it does not end then, but shows registers and waits for somebody to debug the guest.
_ERROR = "KVM internal error"


@dataclass(frozen=True, slots=True)
class Acceleration:
    """How guests are run.

    :ivar virt_type: as Nova and libvirt name it, ``kvm`` or ``qemu``.
    :ivar reason: why, in words.
    """

    virt_type: str
    reason: str


def choose(file: Path, image: Path) -> Acceleration:
    """Return what was found out for this machine, trying it on first use; blocks up to a minute then. Raises OSError.

    :param file: where the outcome is remembered.
    :param image: a raw image that says ``BOOT_LINE`` on its serial console, see :mod:`openvstorage.aio.image`.
    """
    # What the outcome depends on. A state directory may be copied to another machine, and kernels are upgraded.
    machine = f"{platform.release()} {_KVM.exists()}"
    if file.exists():
        known = json.loads(file.read_text())
        if known.pop("machine") == machine:
            return Acceleration(**known)
    chosen = probe(image, _KVM)
    write_private(file, json.dumps({"machine": machine, **asdict(chosen)}, indent=2))
    return chosen


def probe(image: Path, device: Path = _KVM) -> Acceleration:
    """Boot a guest with KVM and see. Blocks up to a minute. Raises OSError when there is no QEMU."""
    if not device.exists():
        return Acceleration("qemu", f"there is no {device}")
    if not os.access(device, os.R_OK | os.W_OK):
        return Acceleration("qemu", f"{device} may not be opened")
    argv = [
        # The limit ends it by itself, whatever becomes of this process.
        *("/usr/bin/prlimit", f"--cpu={_CPU_SECONDS}", "--", _QEMU, "-accel", "kvm", "-cpu", "host", "-m", "256"),
        *("-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot"),
        *("-drive", f"file={image},format=raw,if=virtio,readonly=on"),
    ]
    said: list[str] = []
    with subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=base_environment(),
        text=True,
        errors="replace",
    ) as guest:
        deadline = threading.Timer(_SECONDS, guest.kill)
        deadline.start()
        for line in guest.stdout or ():
            said.append(line.strip())
            if BOOT_LINE in line or _ERROR in line:
                break
        deadline.cancel()
        guest.kill()
    last = next((line for line in reversed(said) if line), "nothing")
    if BOOT_LINE in last:
        return Acceleration("kvm", "a guest boots with it")
    return Acceleration("qemu", f"a guest does not come up with KVM on this machine, the last it said was {last!r}")
