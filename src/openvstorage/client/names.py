"""Names: how a cluster makes a device name, its key within a vPool, from the name that somebody gave a vDisk."""

import re

from openvstorage.client.errors import InvalidRequest

__all__ = ["devicename", "edge_name", "segment"]

_DROPPED = re.compile(r"[^A-Za-z0-9_/.-]")
_SLASHES = re.compile(r"//+")
_SEGMENT = re.compile(r"[^/.?#%\s]{1,128}")
_SUFFIX = ".raw"


def devicename(name: str) -> str:
    """Give the device name that a cluster derives from ``name``; two names that give the same one collide.

    :param name: the name as given at creation.
    :returns: an absolute path within the vPool that ends in ``.raw``.
    """
    path = name.strip("/").replace(" ", "_")
    path = _DROPPED.sub("", _SLASHES.sub("/", path))
    last = path.rsplit("/", 1)[-1]
    if not (last.endswith(_SUFFIX) and len(last) > len(_SUFFIX)):
        path += _SUFFIX
    return "/" + path


def edge_name(device: str) -> str:
    """Give the name under which the edge serves a device: without the leading ``/`` and without ``.raw``.

    :param device: a device name, as in :attr:`openvstorage.client.VDisk.devicename`.
    """
    return device.lstrip("/").removesuffix(_SUFFIX)


def segment(value: str) -> str:
    """Give ``value`` back if it can stand as one segment of a URL's path, as guids and task ids do.

    :raises InvalidRequest: if it cannot; it would address something else than the caller meant.
    """
    if not _SEGMENT.fullmatch(value):
        raise InvalidRequest(description=f"{value!r} is not an identifier")
    return value
