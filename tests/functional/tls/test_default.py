"""Whether vDisks are served with TLS when nobody says so, and what is said where they are not."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

import pytest
from tests.support.vpool_service import VpoolService

from openvstorage.client import Client
from openvstorage.edge.errors import EdgeError
from openvstorage.edge.nbd import NbdClient
from openvstorage.edge.tls import client_context

WARNING = "every user of this machine can read and write"


def told(service: VpoolService) -> str:
    """:returns: what `openvstorage status` shows to people."""
    words = [service._command, "status", "--data", str(service.data)]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env={"COLUMNS": "200"})
    return done.stdout


def warnings(service: VpoolService) -> list[str]:
    return [line for line in service.log.read_text().splitlines() if WARNING in line]


def test_a_new_pool_serves_with_tls_on_loopback_too(tmp_path: Path) -> None:
    with VpoolService(tmp_path / "data", edge_tls=None) as service, Client.from_status(service.status) as client:
        assert service.status["edge_tls"] is True
        disk = client.vdisks.create("disk", 1024**2, service.status["vpool_guid"])
        grant = client.grants.create(disk, client="this-host", consumer="me")
        assert grant.uri.startswith("nbds://127.0.0.1:")
        with pytest.raises(EdgeError, match="TLS"):
            NbdClient.connect(grant.host, grant.port, grant.export_name)
        assert WARNING not in told(service)
        assert warnings(service) == []


def test_a_pool_of_before_stays_plain_and_says_so_until_it_is_told(tmp_path: Path) -> None:
    with VpoolService(tmp_path / "data", edge_tls=False) as service, Client.from_status(service.status) as client:
        disk = client.vdisks.create("disk", 1024**2, service.status["vpool_guid"])
        before = client.grants.create(disk, client="this-host", consumer="me")
        assert len(warnings(service)) == 1, "also where it was asked for"
        # as the versions kept it that took loopback for an exception
        settings = service.data / "config.json"
        settings.write_text(json.dumps({**json.loads(settings.read_text()), "edge_tls": None}))
        service._options = []
        service.restart()
        assert service.status["edge_tls"] is False
        assert json.loads(settings.read_text())["edge_tls"] is False
        assert len(warnings(service)) == 2, "one line for each start"
        assert "--edge-tls" in warnings(service)[-1]
        assert WARNING in told(service)
        with NbdClient.connect(before.host, before.port, before.export_name) as nbd:
            nbd.write(0, b"written plainly".ljust(512, b"\0"))
            nbd.flush()
        service.restart(signal.SIGTERM, "--edge-tls")
        service.enroll("this-host", tmp_path / "certificate")
        now = client.grants.get(before.guid)
        assert now.tls
        tls = client_context(tmp_path / "certificate")
        with NbdClient.connect(now.host, now.port, now.export_name, tls=tls) as nbd:
            assert nbd.read(0, 15) == b"written plainly"
        assert len(warnings(service)) == 2
        service._options = []
        service.restart()
        assert service.status["edge_tls"] is True, "what it was told once it keeps"
