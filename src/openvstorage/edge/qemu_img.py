"""The subcommands of ``qemu-img`` that are needed here, one function each.

The format of every image is always given by the caller and nothing is probed: a guest can write whatever header it
likes into its disk. Images are named by a path or a location, never by a text that QEMU could take for something else
(``json:``, ``nbd:``). Every function blocks until ``qemu-img`` has ended.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openvstorage.edge.errors import QemuImgFailed
from openvstorage.edge.location import Location, NbdLocation

__all__ = [
    "Image",
    "LuksCipher",
    "compare",
    "convert",
    "create_luks_header",
    "credentials",
    "encrypt",
    "image_options",
    "info",
]

Image = Path | Location

#: Id of this host's certificate in a tool that is given one.
_CREDENTIALS = "edge"

# QEMU measures how many rounds of key derivation fit into a time, and now and then fails to on a busy host.
_NO_CPU_CLOCK = "Unable to get accurate CPU usage"
_LUKS_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class LuksCipher:
    """How a LUKS disk is encrypted, in QEMU's words.

    :ivar algorithm: with key size, for example ``aes-256``.
    :ivar mode: for example ``xts``.
    :ivar iv_generator: for example ``plain64``.
    """

    algorithm: str
    mode: str
    iv_generator: str


def convert(
    source: Image,
    target: Image,
    *,
    source_format: str,
    target_format: str,
    create: bool = True,
    target_is_zero: bool = False,
    tls_dir: Path | None = None,
    timeout: float | None = None,
) -> None:
    """Copy an image; zeroes are not stored at the target where it can be avoided.

    :param create: make the target; False writes into the one that is there, as an export always is.
    :param target_is_zero: the target is known to read as zeroes, so zeroes are left out. Needs ``create=False``.
    :param tls_dir: this host's certificate, see :mod:`openvstorage.edge.tls`; needed for a location with TLS.
    :param timeout: seconds after which qemu-img is ended; None waits as long as it takes.
    :raises QemuImgFailed: qemu-img is missing, failed or did not end in time.
    """
    options = [*credentials(tls_dir), "-f", source_format, "-O", target_format]
    if not create:
        options.append("-n")
    if target_is_zero:
        options.append("--target-is-zero")
    _run("convert", [*options, "--", _name(source), _name(target)], timeout)


def compare(
    first: Image,
    second: Image,
    *,
    first_format: str,
    second_format: str,
    tls_dir: Path | None = None,
    timeout: float | None = None,
) -> bool:
    """Tell whether two images have the same content; a longer one is the same when the rest reads as zeroes.

    :raises QemuImgFailed: one of them could not be read, or as ``convert``.
    """
    formats = ["-f", first_format, "-F", second_format]
    arguments = [*credentials(tls_dir), *formats, "--", _name(first), _name(second)]
    return _run("compare", arguments, timeout, differs=1).returncode == 0


def create_luks_header(target: Path, *, cipher: LuksCipher, passphrase_file: Path) -> None:
    """Make a file that is a LUKS header and nothing else; with data behind it, it is an encrypted disk.

    Takes seconds of processor time: that is what protects the passphrase.

    :raises QemuImgFailed: as ``convert``, or this qemu-img does not know the cipher.
    """
    options = f"key-secret=luks,cipher-alg={cipher.algorithm},cipher-mode={cipher.mode},ivgen-alg={cipher.iv_generator}"
    arguments = ["-q", "-f", "luks", *_secret(passphrase_file), "-o", options, "--", _name(target), "0"]
    for _attempt in range(_LUKS_ATTEMPTS - 1):
        try:
            _run("create", arguments, None)
        except QemuImgFailed as error:
            if _NO_CPU_CLOCK not in str(error):
                raise
        else:
            return
    _run("create", arguments, None)


def encrypt(
    source: Path, target: NbdLocation, *, source_format: str, passphrase_file: Path, tls_dir: Path | None = None
) -> None:
    """Copy an image into an export that begins with a LUKS header, encrypting it.

    :raises QemuImgFailed: as ``convert``, or it does not fit behind the header, or the passphrase is not its.
    """
    options = f"driver=luks,key-secret=luks,{_options(target, 'file.')}"
    arguments = [
        "-n",
        *credentials(tls_dir),
        *_secret(passphrase_file),
        "-f",
        source_format,
        "--target-image-opts",
        "--",
        _name(source),
        options,
    ]
    _run("convert", arguments, None)


def info(
    image: Image, *, image_format: str, tls_dir: Path | None = None, timeout: float | None = None
) -> dict[str, Any]:
    """Give what ``qemu-img info --output json`` says, among it ``virtual-size`` in bytes.

    An image in use by another process is read all the same (``--force-share``).

    :raises QemuImgFailed: the image is not there or not of that format, or as ``convert``.
    """
    options = [*credentials(tls_dir), "--output", "json", "--force-share", "-f", image_format]
    arguments = [*options, "--", _name(image)]
    answer: dict[str, Any] = json.loads(_run("info", arguments, timeout).stdout)
    return answer


def credentials(tls_dir: Path | None) -> list[str]:
    """The arguments by which QEMU's tools are given a host's certificate; none for None."""
    if tls_dir is None:
        return []
    directory = _escaped(str(tls_dir.absolute()))
    return ["--object", f"tls-creds-x509,id={_CREDENTIALS},endpoint=client,verify-peer=on,dir={directory}"]


def image_options(location: NbdLocation) -> str:
    """What ``--image-opts`` of QEMU's tools takes for a location; with TLS it needs :func:`credentials`."""
    return f"driver=raw,{_options(location, 'file.')}"


def _options(location: NbdLocation, prefix: str) -> str:
    options = _nbd(location)
    return ",".join(f"{prefix}{name}={_escaped(value)}" for name, value in options.items())


def _nbd(location: NbdLocation) -> dict[str, str]:
    options = {
        "driver": "nbd",
        "server.type": "inet",
        "server.host": location.host,
        "server.port": str(location.port),
        "export": location.export,
    }
    return {**options, "tls-creds": _CREDENTIALS} if location.tls else options


def _secret(passphrase_file: Path) -> list[str]:
    """The passphrase is read from a file: arguments are seen by everybody on the host."""
    return ["--object", f"secret,id=luks,format=raw,file={_escaped(str(passphrase_file.absolute()))}"]


def _escaped(value: str) -> str:
    return value.replace(",", ",,")


def _name(image: Image) -> str:
    if isinstance(image, Path):
        # An absolute path begins with a slash, so a colon in it is never taken for a protocol.
        return str(image.absolute())
    if isinstance(image, NbdLocation) and image.tls:
        # A URI has no room for credentials. Every value in it is a text, so none is read as more than that.
        return "json:" + json.dumps({f"file.{name}": value for name, value in _nbd(image).items()})
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
