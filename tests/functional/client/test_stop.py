"""Who waits for the service while it stops is told so at once, and finds the task again after the restart."""

from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from tests.support.crash import daemons
from tests.support.patience import PATIENCE
from tests.support.vpool_service import VpoolService

from openvstorage.client import Client, ServerError

GIB = 1024**3


@pytest.mark.parametrize("waiting", ["{}/?wait=60", "{}/get/"])
def test_waiting_ends_with_503_and_the_task_is_done_after_the_restart(tmp_path: Path, waiting: str) -> None:
    with VpoolService(tmp_path / "data") as service, Client.from_status(service.status, patience=PATIENCE) as client:
        disk = client.vdisks.create("volume", GIB, service.status["vpool_guid"])
        client.grants.create(disk, "host", "guest")
        (daemon,) = daemons(service.data)
        os.kill(daemon.identity.pid, signal.SIGSTOP)
        try:
            task = client._caller.post(f"vdisks/{disk}/create_snapshot/", {"name": "late"})
            answers = _ask(service.status, f"tasks/{waiting.format(task)}")
            os.kill(service.status["pid"], signal.SIGTERM)
            answers.join(30)
            assert [(fault.status, "being stopped" in str(fault)) for fault in answers.faults] == [(503, True)]
        finally:
            os.kill(daemon.identity.pid, signal.SIGCONT)
        service.stop()
        service.start()
        client.tasks.wait(task, PATIENCE)
        assert [snapshot.label for snapshot in client.snapshots.list(disk)] == ["late"]


class _Asking(threading.Thread):
    """Asks something once, without patience."""

    def __init__(self, status: dict[str, Any], path: str) -> None:
        super().__init__(daemon=True)
        self._path = path
        self._client = Client.from_status(status, patience=0.0)
        self._client.vpools.list()  # the connection and the token are there
        self.faults: list[ServerError] = []

    def run(self) -> None:
        path, _, query = self._path.partition("?")
        try:
            self._client._caller.get(path, dict([query.split("=")] if query else []), hold_seconds=60)
        except ServerError as fault:
            self.faults.append(fault)


def _ask(status: dict[str, Any], path: str) -> _Asking:
    asking = _Asking(status, path)
    with Client.from_status(status) as client, requests.Session() as session:
        token = client._caller._tokens.get(client._endpoints.in_order()[0]).text
        headers = {"Authorization": f"Bearer {token}", "Accept": "text/plain; version=*"}
        session.trust_env = False  # its CA bundle would come first
        session.verify = status["ca_file"]
        asking.start()
        deadline = time.monotonic() + PATIENCE
        while _in_progress(session.get(status["api_url"].replace("/api/", "/metrics"), headers=headers).text) < 2:
            assert time.monotonic() < deadline, "the request did not arrive"
            time.sleep(0.02)
    return asking


def _in_progress(metrics: str) -> float:
    """Of the requests that are told, one is that for the metrics."""
    (value,) = re.findall(r"^openvstorage_api_requests_in_progress (.*)$", metrics, re.MULTILINE)
    return float(value)
