"""A running vPool service in a process of its own, started by the command that users start it by."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.support.patience import PATIENCE

ROOT = Path(__file__).resolve().parents[2]


class VpoolService:
    """``openvstorage serve`` on a data directory of the test, on loopback. Use it by ``with``.

    The command is taken from the development environment, whichever environment the test itself runs in.

    :param edge_tls: serve vDisks with TLS, as users do; most tests are about something else, and faster without. None
        leaves it to the service.
    :param options: more options of ``serve``.
    :param source: a directory with the sources of another version, to be served by that one.
    :ivar log: what the service prints.
    :ivar status: what ``openvstorage status --json`` says.
    """

    def __init__(
        self,
        data: Path,
        *,
        edge_tls: bool | None = False,
        options: Sequence[str] = (),
        source: Path | None = None,
    ) -> None:
        self.data = data
        self.source = source
        self.log = data.with_suffix(".log")
        self._options = {None: [], True: ["--edge-tls"], False: ["--no-edge-tls"]}[edge_tls] + list(options)
        self.status: dict[str, Any] = {}
        self._command = str(ROOT / ".venv" / "bin" / "openvstorage")
        self._port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> VpoolService:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the service and wait until it is healthy."""
        self.status = {}
        command = [self._command, "serve", "--data", str(self.data), "--listen", f"127.0.0.1:{self._port}"]
        command += ["--token-calls", "0", *self._options]  # one address, many clients
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=environment(self.source))
        deadline = time.monotonic() + PATIENCE
        # Asking for the status takes as much of the processor as the start does, so not before it can be answered.
        while not (self._listens() and self._healthy()):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the vPool service did not start: {self.log.read_text()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop the service, and with it the storage daemons that outlive it."""
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait(timeout=PATIENCE)
        end_storage_daemons(self.data)
        pool = self.data / "pool.json"
        if pool.exists():  # what reads a vDisk over NBD has no file of the directory open
            end_storage_daemons(Path("/") / json.loads(pool.read_text())["guid"][:8])

    def restart(self, how: signal.Signals = signal.SIGTERM, *options: str) -> None:
        """End the service by a signal and start it again, with more options; the storage daemons live on."""
        assert self._process is not None
        self._process.send_signal(how)
        self._process.wait(timeout=PATIENCE)
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
        subprocess.run([python, "-c", program, self.data / "tls"], env=environment(), check=True)

    def enroll(self, host: str, out: Path) -> str:
        """Issue a host's certificate. :returns: what the command says."""
        command = [self._command, "enroll", host, "--data", str(self.data), "--out", str(out)]
        return subprocess.run(command, capture_output=True, text=True, env=environment(), check=True).stdout

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def _healthy(self) -> bool:
        command = [self._command, "status", "--data", str(self.data), "--json"]
        result = subprocess.run(command, capture_output=True, text=True, env=environment(self.source), check=False)
        if result.returncode == 0:
            self.status = json.loads(result.stdout)
        return bool(self.status.get("healthy"))


def end_storage_daemons(directory: Path) -> list[str]:
    """Kill the storage daemons that have files in a directory, which is this test's alone, and wait for their end.

    :returns: their command lines.
    """
    found = storage_daemons(directory)
    for pid in found:
        _end(pid)
    return list(found.values())


def storage_daemons(directory: Path) -> dict[int, str]:
    """The storage daemons that have files in a directory: command lines by process id."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
        except OSError:
            continue
        if str(directory).encode() in command and b"qemu-storage-daemon" in command:
            found[int(entry.name)] = command.replace(b"\0", b" ").decode(errors="replace")
    return found


def _end(pid: int) -> None:
    """Kill a process that is not our child, and return when it is dead."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        select.select([pidfd], [], [], PATIENCE)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)


def environment(source: Path | None = None) -> dict[str, str]:
    """:returns: the environment of a program of ours, from the sources in ``source`` if it is given."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    return kept if source is None else {**kept, "PYTHONPATH": str(source)}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
