"""systemd's checker of units: the machine's own, or one that is unpacked below var.

It is not installed where it is missing: with it would come an init that the machine has chosen not to have.

    python -m tests.support.systemd     unpack it unless it is there
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from openvstorage.aio.packages import unpack

__all__ = ["fetch", "verify"]

_PROGRAM = "systemd-analyze"
_UNPACKED = Path(__file__).resolve().parents[2] / "var" / "systemd"


def fetch() -> None:
    """Unpack systemd with the libraries that it needs, unless the checker is there already. Blocks."""
    if shutil.which(_PROGRAM) or _UNPACKED.exists():
        return
    work = _UNPACKED.with_name("systemd.tmp")
    shutil.rmtree(work, ignore_errors=True)
    unpack("systemd", work, Path("/dev/stderr"))
    listing = subprocess.run(
        ["apt-cache", "depends", "--important", "systemd"], check=True, capture_output=True, text=True
    )
    needed = {line.rpartition(": ")[2] for line in listing.stdout.splitlines() if "Depends: lib" in line}
    for name in sorted(needed - {"libc6"}):
        unpack(name, work, Path("/dev/stderr"))
    work.rename(_UNPACKED)


def verify(unit: Path) -> str:
    """Give what systemd has to say against a unit, empty when it is content with it."""
    program, environment = shutil.which(_PROGRAM), dict(os.environ)
    if program is None:
        program = str(_UNPACKED / "usr" / "bin" / _PROGRAM)
        (units,) = _UNPACKED.rglob("systemd/system/multi-user.target")
        libraries = sorted({str(path.parent) for path in _UNPACKED.rglob("lib*.so*")})
        environment |= {"LD_LIBRARY_PATH": ":".join(libraries), "SYSTEMD_UNIT_PATH": f"{units.parent}:"}
    command = [program, "verify", "--man=no", "--recursive-errors=no", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, env=environment).stderr
    return "\n".join(line for line in said.splitlines() if unit.name in line)


if __name__ == "__main__":
    fetch()
