"""The vPool service of the all-in-one: what keeps the volumes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from openvstorage.aio.command import run
from openvstorage.aio.errors import CommandFailed
from openvstorage.aio.paths import Paths
from openvstorage.aio.ports import accepts
from openvstorage.aio.supervisor import Program, Supervisor, end_processes, processes_running

__all__ = ["VPool"]


class VPool:
    """One vPool service with its exports on loopback.

    :param port: of its management API on 127.0.0.1.
    :param version: a text that changes when the service's code does.
    """

    name = "vpool"
    pool = "myvpool01"

    def __init__(self, paths: Paths, supervisor: Supervisor, port: int, version: str) -> None:
        self._paths = paths
        self._supervisor = supervisor
        self._port = port
        self._version = version
        self.data = paths.data / "vpool"
        # The command of the environment this code runs in, which is the service's own.
        self._command = str(Path(sys.executable).with_name("openvstorage"))

    def start(self) -> str:
        """Start the service; blocks until it is healthy. Raises ProgramFailed."""
        program = Program(
            name=self.name,
            argv=(
                *(self._command, "serve", "--data", str(self.data), "--listen", f"127.0.0.1:{self._port}"),
                *("--edge-host", "127.0.0.1", "--vpool", self.pool),
            ),
            version=self._version,
            stop_seconds=30,
            children_outlive=True,
            stop_stage=1,
        )
        started = self._supervisor.start(program)
        self._supervisor.wait_ready(self.name, self._healthy)
        return "started" if started else "running"

    def status(self) -> dict[str, Any]:
        """Return what ``openvstorage status --json`` prints. Raises CommandFailed when the service cannot be asked."""
        log = self._paths.log / "vpool-status.log"
        words: list[str | Path] = [self._command, "status", "--data", self.data, "--json"]
        status: dict[str, Any] = json.loads(run("the question for the vPool's state", words, log))
        return status

    def backend(self) -> dict[str, object]:
        """Return Cinder's backend section for this vPool; it holds the password. The service must be healthy."""
        status = self.status()
        return {
            "volume_backend_name": self.pool,
            "volume_driver": "openvstorage.cinder.driver.OpenvStorageEdgeVolumeDriver",
            "openvstorage_management_ips": ",".join(status["management_ips"]),
            "openvstorage_port": status["port"],
            "openvstorage_username": status["username"],
            "openvstorage_password": Path(status["password_file"]).read_text().strip(),
            "openvstorage_vpool_guid": status["vpool_guid"],
            "openvstorage_ca_file": status["ca_file"],
        }

    def stop_exports(self) -> None:
        """End the storage daemons of vDisks in use, once the service has ended; blocks. They bear no mark of ours."""
        layers = f'"{self.data}/'
        end_processes(
            processes_running(
                lambda words: words[0].endswith("/qemu-storage-daemon") and any(layers in word for word in words)
            )
        )

    def _healthy(self) -> bool:
        # A connection is cheap to try, the command that asks properly is not. It fails until the service is healthy.
        if not accepts(self._port):
            return False
        try:
            return bool(self.status()["healthy"])
        except CommandFailed:
            return False
