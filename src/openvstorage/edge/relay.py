"""A location with TLS for a program that can be given a URI, but no certificate: stock ``qemu-nbd`` in between.

Cinder's own image code runs ``qemu-img`` in its own words, which have no room for credentials.
"""

from __future__ import annotations

import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO
from urllib.parse import quote

from openvstorage.edge.errors import RelayFailed
from openvstorage.edge.location import NbdLocation
from openvstorage.edge.qemu_img import credentials, image_options

__all__ = ["relayed"]

_START_SECONDS = 60.0
_END_SECONDS = 30.0
_LOOK_SECONDS = 0.01


@contextmanager
def relayed(location: NbdLocation, tls_dir: Path, *, writable: bool) -> Iterator[str]:
    """Serve a location on a socket that only this user can open, and give its NBD URI. Blocking.

    What a client has flushed is on stable storage, as without the relay.

    :param tls_dir: this host's certificate, see :mod:`openvstorage.edge.tls`.
    :raises RelayFailed: qemu-nbd is missing, or it could not open the location; the text says why.
    """
    with tempfile.TemporaryDirectory(prefix="ovs-") as directory, tempfile.TemporaryFile() as said:
        path = Path(directory) / "nbd"
        command = ["qemu-nbd", *credentials(tls_dir), "--persistent", "--discard", "unmap", "--socket", str(path)]
        command += [] if writable else ["--read-only"]
        command += ["--image-opts", image_options(location)]
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        except FileNotFoundError as error:
            raise RelayFailed(location=location, reason="qemu-nbd is not installed") from error
        try:
            _wait_until_it_serves(process, path, location, said)
            yield f"nbd+unix:///?socket={quote(str(path))}"
        finally:
            _end(process)


def _wait_until_it_serves(process: subprocess.Popen[bytes], path: Path, location: NbdLocation, said: IO[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not _serves(path, deadline - time.monotonic()):
        if process.poll() is not None:
            said.seek(0)
            raise RelayFailed(location=location, reason=said.read().decode(errors="replace").strip())
        if time.monotonic() > deadline:
            raise RelayFailed(location=location, reason=f"qemu-nbd was not ready in {_START_SECONDS:g} s")
        time.sleep(_LOOK_SECONDS)


def _serves(path: Path, patience: float) -> bool:
    """Whether somebody is greeted there. qemu-nbd listens before it has opened what it will serve."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(max(patience, _LOOK_SECONDS))
        try:
            probe.connect(str(path))
            return bool(probe.recv(1))
        except (FileNotFoundError, ConnectionError, TimeoutError):
            return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
