"""The subcommands of ``qemu-img`` that are needed here, one function each.

The format of every image is always given by the caller and nothing is probed: a guest can write whatever header it
likes into its disk. Images are named by a path or a location, never by a text that QEMU could take for something else
(``json:``, ``nbd:``). Every function blocks until ``qemu-img`` has ended.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from openvstorage.edge.errors import QemuImgFailed
from openvstorage.edge.location import Location, NbdLocation

__all__ = ["Image", "compare", "convert", "info"]

Image = Path | Location


def convert(
    source: Image,
    target: Image,
    *,
    source_format: str,
    target_format: str,
    create: bool = True,
    target_is_zero: bool = False,
    timeout: float | None = None,
) -> None:
    """Copy an image; zeroes are not stored at the target where it can be avoided.

    :param create: make the target; False writes into the one that is there, as an export always is.
    :param target_is_zero: the target is known to read as zeroes, so zeroes are left out. Needs ``create=False``.
    :param timeout: seconds after which qemu-img is ended; None waits as long as it takes.
    :raises QemuImgFailed: qemu-img is missing, failed or did not end in time.
    """
    options = ["-f", source_format, "-O", target_format]
    if not create:
        options.append("-n")
    if target_is_zero:
        options.append("--target-is-zero")
    _run("convert", [*options, "--", _name(source), _name(target)], timeout)


def compare(
    first: Image, second: Image, *, first_format: str, second_format: str, timeout: float | None = None
) -> bool:
    """Tell whether two images have the same content; a longer one is the same when the rest reads as zeroes.

    :raises QemuImgFailed: one of them could not be read, or as ``convert``.
    """
    arguments = ["-f", first_format, "-F", second_format, "--", _name(first), _name(second)]
    return _run("compare", arguments, timeout, differs=1).returncode == 0


def info(image: Image, *, image_format: str, timeout: float | None = None) -> dict[str, Any]:
    """Give what ``qemu-img info --output json`` says, among it ``virtual-size`` in bytes.

    An image in use by another process is read all the same (``--force-share``).

    :raises QemuImgFailed: the image is not there or not of that format, or as ``convert``.
    """
    arguments = ["--output", "json", "--force-share", "-f", image_format, "--", _name(image)]
    answer: dict[str, Any] = json.loads(_run("info", arguments, timeout).stdout)
    return answer


def _name(image: Image) -> str:
    if isinstance(image, Path):
        # An absolute path begins with a slash, so a colon in it is never taken for a protocol.
        return str(image.absolute())
    if isinstance(image, NbdLocation) and image.tls:
        raise ValueError("qemu-img is not given TLS credentials here: use NbdClient for a location with TLS")
    return image.uri


def _run(
    subcommand: str, arguments: list[str], timeout: float | None, differs: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run qemu-img; ``differs`` is a status that is an answer and no error."""
    command = ["qemu-img", subcommand, *arguments]
    try:
        result = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False
        )
    except FileNotFoundError as error:
        raise QemuImgFailed(subcommand=subcommand, status="none", text="it is not installed") from error
    except subprocess.TimeoutExpired as error:
        raise QemuImgFailed(subcommand=subcommand, status="none", text=f"no end after {timeout} s") from error
    if result.returncode not in (0, differs):
        raise QemuImgFailed(subcommand=subcommand, status=result.returncode, text=result.stderr.strip())
    return result
