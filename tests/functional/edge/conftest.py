"""Real NBD servers on loopback: qemu-storage-daemon and qemu-nbd over files of the test."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SIZE = 64 * 1024 * 1024


@dataclass
class Server:
    """A running NBD server over one raw file."""

    process: subprocess.Popen[bytes]
    port: int
    image: Path
    export: str = "disk"
    host: str = "127.0.0.1"

    @property
    def uri(self) -> str:
        return f"nbd://{self.host}:{self.port}/{self.export}"

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


def listening_socket() -> socket.socket:
    """A listening socket that a child takes over: there is no moment in which the port is not served."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", 0))
    listener.listen(16)
    return listener


def make_image(path: Path, size: int = SIZE) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def storage_daemon(listener: socket.socket, *arguments: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["qemu-storage-daemon", *arguments], pass_fds=[listener.fileno()])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Server]]:
    """Start a qemu-storage-daemon; the keywords are for its export, ``blockdev`` replaces the top node."""
    processes: list[subprocess.Popen[bytes]] = []
    listeners: list[socket.socket] = []

    def launch(
        *extra: str, blockdev: dict[str, Any] | None = None, nbd: str = "", writable: bool = True, size: int = SIZE
    ) -> Server:
        image = make_image(tmp_path / f"image{len(processes)}", size)
        listener = listening_socket()
        listeners.append(listener)
        file = {"driver": "file", "node-name": "file", "filename": str(image), "discard": "unmap"}
        raw = {"driver": "raw", "node-name": "top", "file": "file", "discard": "unmap"}
        writes = "on" if writable else "off"
        process = storage_daemon(
            listener,
            *extra,
            *("--blockdev", json.dumps(file), "--blockdev", json.dumps(blockdev or raw)),
            *("--nbd-server", f"addr.type=fd,addr.str={listener.fileno()}{nbd}"),
            *("--export", f"type=nbd,id=e,node-name=top,name=disk,writable={writes}"),
        )
        processes.append(process)
        return Server(process, listener.getsockname()[1], image)

    yield launch
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.wait()
    for listener in listeners:
        listener.close()


@pytest.fixture
def qemu_nbd(tmp_path: Path) -> Iterator[Server]:
    """A qemu-nbd over a raw file, started by socket activation so that it serves from the first moment."""
    image = make_image(tmp_path / "qemu-nbd.raw")
    listener = listening_socket()

    # The shell's pid stays qemu-nbd's, which is what LISTEN_PID has to say; the socket has to be descriptor 3.
    command = 'LISTEN_FDS=1 LISTEN_PID=$$ exec qemu-nbd --persistent --discard unmap -f raw -x disk "$0"'
    arguments = ["sh", "-c", command, str(image)]
    process = subprocess.Popen(arguments, preexec_fn=lambda: os.dup2(listener.fileno(), 3), pass_fds=[3])
    yield Server(process, listener.getsockname()[1], image)
    process.kill()
    process.wait()
    listener.close()
