"""The vPool service of the all-in-one: what keeps the volumes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from openvstorage.aio.command import run
from openvstorage.aio.errors import CommandFailed
from openvstorage.aio.paths import Paths, write_private
from openvstorage.aio.ports import accepts
from openvstorage.aio.supervisor import Program, Supervisor, end_processes, processes_running

__all__ = ["VPool"]

_WITH_TLS, _PLAIN = "TLS", "plain"


class VPool:
    """One vPool service with its exports on loopback, plain or with TLS.

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
        self._choice = paths.etc / "edge-tls"
        self.data = paths.data / "vpool"
        # The command of the environment this code runs in, which is the service's own.
        self._command = str(Path(sys.executable).with_name("openvstorage"))

    @property
    def edge_tls(self) -> bool:
        """Whether the next start serves vDisks with TLS: what was chosen last, at first yes."""
        if not self._choice.exists():
            return self.serves_tls or not self._settings.exists()
        # What nobody of ours has written counts as the safer one.
        return self._choice.read_text() != _PLAIN

    def choose_edge_tls(self, tls: bool) -> None:
        """Choose for this and all later starts."""
        write_private(self._choice, _WITH_TLS if tls else _PLAIN)

    @property
    def serves_tls(self) -> bool:
        """Whether the last start served vDisks with TLS, as the service's own settings say; before the first not."""
        return self._settings.exists() and bool(json.loads(self._settings.read_text()).get("edge_tls"))

    @property
    def _settings(self) -> Path:
        return self.data / "config.json"

    @property
    def ca_file(self) -> Path:
        """The certificate of the vPool's authority; there from the first start on."""
        return self.data / "tls" / "ca-cert.pem"

    def start(self) -> str:
        """Start the service; blocks until it is healthy. Raises ProgramFailed."""
        program = Program(
            name=self.name,
            argv=(
                *(self._command, "serve", "--data", str(self.data), "--listen", f"127.0.0.1:{self._port}"),
                *("--edge-host", "127.0.0.1", "--vpool", self.pool),
                "--edge-tls" if self.edge_tls else "--no-edge-tls",
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

    def enroll(self, host: str, directory: Path) -> None:
        """Issue the certificate of a host into a new directory. Blocks. Raises CommandFailed."""
        words: list[str | Path] = [self._command, "enroll", host, "--data", self.data, "--out", directory]
        run(f"the issue of a certificate for {host}", words, self._paths.log / "certificates.log")

    def backend(self, certificate: Path) -> dict[str, object]:
        """Return Cinder's backend section for this vPool; it holds the password. The service must be healthy.

        :param certificate: directory of the certificate by which Cinder opens vDisks where the edge has TLS.
        """
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
            "openvstorage_edge_tls_dir": certificate,
        }

    def stop_exports(self) -> None:
        """End the storage daemons of vDisks in use, once the service has ended; blocks. They bear no mark of ours."""
        pool = self.data / "pool.json"
        if not pool.exists():
            return
        # What reads a vDisk over NBD has no file of ours open, but its monitor is in the pool's run directory.
        marks = (f'"{self.data}/', f"/{json.loads(pool.read_text())['guid'][:8]}/")
        end_processes(
            processes_running(
                lambda words: (
                    words[0].endswith("/qemu-storage-daemon") and any(mark in word for word in words for mark in marks)
                )
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
