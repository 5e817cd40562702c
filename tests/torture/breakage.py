"""Breaking the service on purpose, to see that the checker finds it: QEMU's programs in a wrapping that undoes what the
product does against a fault. The product has no switch for this and is not changed."""

from __future__ import annotations

import shutil
from pathlib import Path

__all__ = ["broken_programs"]

#: The storage daemon opens layers with discards let through, and qemu-img makes them without sub-clusters.
_WRAPPING = """\
#!/usr/bin/python3
import os, sys
words = [sys.argv[0]]
for word in sys.argv[1:]:
    word = word.replace('"discard": "ignore"', '"discard": "unmap"').replace('"discard":"ignore"', '"discard":"unmap"')
    words.append(word.replace("extended_l2=on", "extended_l2=off").replace("cluster_size=131072", "cluster_size=65536"))
os.execv({program!r}, words)
"""


def broken_programs(kind: str, directory: Path, programs: Path | None) -> Path:
    """Make a directory with the wrapped programs.

    :param kind: ``zero-race``: as it was before anything was done against QEMU's zero race.
    :param programs: directory of the real ones; None for the PATH.
    :returns: the directory.
    """
    if kind != "zero-race":
        raise ValueError(kind)
    directory.mkdir()
    for name in ("qemu-storage-daemon", "qemu-img"):
        real = shutil.which(name, path=str(programs) if programs else None)
        if real is None:
            raise FileNotFoundError(f"{name} is not in {programs or 'the PATH'}")
        path = directory / name
        path.write_text(_WRAPPING.format(program=str(Path(real).absolute())))
        path.chmod(0o755)
    return directory
