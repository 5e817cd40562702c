"""A running vPool service in a process of its own, started by the command that users start it by."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class VpoolService:
    """``openvstorage serve`` on a data directory of the test, on loopback. Use it by ``with``.

    The command is taken from the development environment, whichever environment the test itself runs in.

    :param options: more options of the command.
    :param edge_tls: serve vDisks with TLS, on loopback too.
    :ivar status: what ``openvstorage status --json`` says.
    """

    def __init__(self, data: Path, *options: str, edge_tls: bool = False) -> None:
        self.data = data
        self._options = [*options, *(["--edge-tls"] if edge_tls else [])]
        self.status: dict[str, Any] = {}
        self._command = str(ROOT / ".venv" / "bin" / "openvstorage")
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> VpoolService:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the service and wait until it is healthy."""
        self.status = {}
        log = self.data.with_suffix(".log").open("ab")
        command = [self._command, "serve", "--data", str(self.data), "--listen", f"127.0.0.1:{self._port}"]
        command += ["--token-calls", "0", *self._options]  # one address, many clients
        self._process = subprocess.Popen(command, stdout=log, stderr=log, env=_environment())
        deadline = time.monotonic() + 60
        # Asking for the status takes as much of the processor as the start does, so not before it can be answered.
        while not (self._listens() and self._healthy()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the vPool service did not start: {self.data.with_suffix('.log').read_text()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the service, and with it the storage daemons that outlive it."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait(timeout=30)
        for pid in _processes_of(self.data):
            _end(pid)

    def restart(self, how: signal.Signals = signal.SIGTERM, *options: str) -> None:
        """End the service by a signal and start it again, with more options; the storage daemons live on."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(timeout=30)
        self._options += options
        self.start()

    def let_certificate_near_its_end(self) -> None:
        """Put a server certificate with 30 days left, of the pool's authority, where the service's own was."""
        program = """
import datetime, pathlib, sys
from openvstorage.vpool.access import authority
directory = pathlib.Path(sys.argv[1])
(directory / "server-cert.pem").unlink()
issued = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=authority.SERVER_DAYS - 30)
authority.ensure(directory, ["127.0.0.1", "localhost"], now=issued)
"""
        python = ROOT / ".venv" / "bin" / "python"
        subprocess.run([python, "-c", program, self.data / "tls"], env=_environment(), check=True)

    def enroll(self, host: str, out: Path) -> str:
        """Issue a host's certificate. :returns: what the command says."""
        command = [self._command, "enroll", host, "--data", str(self.data), "--out", str(out)]
        return subprocess.run(command, capture_output=True, text=True, env=_environment(), check=True).stdout

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def _healthy(self) -> bool:
        command = [self._command, "status", "--data", str(self.data), "--json"]
        result = subprocess.run(command, capture_output=True, text=True, env=_environment(), check=False)
        if result.returncode == 0:
            self.status = json.loads(result.stdout)
        return bool(self.status.get("healthy"))


def _processes_of(data: Path) -> list[int]:
    """The storage daemons that work in a data directory, which is this test's alone."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if str(data).encode() in command and b"qemu-storage-daemon" in command:
            found.append(int(entry.name))
    return found


def _end(pid: int) -> None:
    """Kill a process that is not our child, and return when it is dead."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [], 30)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
