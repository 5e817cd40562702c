"""Names of vDisks: from what a user gives to the device name that is unique in a vPool.

The rule is Open vStorage's, except that a name can not leave the pool (``..``) and has a limit in bytes.
"""

from __future__ import annotations

import re

from openvstorage.vpool.operations.errors import Refused

SUFFIX = ".raw"
MAX_NAME_BYTES = 254


def devicename(name: str) -> str:
    """Derive the device name.

    >>> devicename("Foo Bar"), devicename("test///folder"), devicename("//test.raw")
    ('/Foo_Bar.raw', '/test/folder.raw', '/test.raw')

    :raises Refused: nothing usable is left, it is too long, or a part of it is ``.`` or ``..``.
    """
    clean = re.sub(r"[^A-Za-z0-9_/.-]", "", re.sub(r"/+", "/", name.strip("/").replace(" ", "_")))
    parts = clean.strip("/").split("/")
    if not clean.strip("/") or any(part in (".", "..") for part in parts):
        raise Refused(f"{name!r} is not a name a vDisk can have: use letters, digits, '_', '-' and '.'")
    last = parts[-1]
    if not (last.endswith(SUFFIX) and len(last) > len(SUFFIX)):
        parts[-1] = last + SUFFIX
    result = "/" + "/".join(parts)
    if len(result) - 1 - len(SUFFIX) > MAX_NAME_BYTES:
        raise Refused(f"a vDisk's name has at most {MAX_NAME_BYTES} bytes")
    return result
