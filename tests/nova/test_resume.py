"""Which paused guests are told to go on."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from nova import objects

from openvstorage.client import Client, Grant
from openvstorage.nova import resume
from openvstorage.nova.resume import Resumer, is_paused_by_an_error

DISK = """<domain><devices><disk type="network">
    <driver error_policy="stop" rerror_policy="stop"/>
    <source protocol="nbd" name="{name}" tls="no"><host name="{host}" port="{port}"/></source>
    <target dev="vda"/><serial>{volume}</serial>
</disk></devices></domain>"""


@pytest.mark.parametrize(
    ("reason", "errors", "failed"),
    [("IOERROR", {"vda": 1}, True), ("UNKNOWN", {"vda": 1}, True), ("UNKNOWN", {}, False), ("USER", {"vda": 1}, False)],
    ids=["failed", "failed-again-at-once", "unknown", "by-its-user"],
)
def test_guest_is_told_to_go_on_only_if_a_request_failed(reason, errors, failed) -> None:
    """What libvirt said of real guests; the second when one paused again while it was being resumed."""
    libvirt = pytest.importorskip("libvirt")
    state = [libvirt.VIR_DOMAIN_PAUSED, getattr(libvirt, f"VIR_DOMAIN_PAUSED_{reason}")]
    assert is_paused_by_an_error(SimpleNamespace(state=lambda: state, diskErrors=lambda: errors)) is failed


class Domain:
    """What the resumer asks of a libvirt domain whose request to a disk failed."""

    def __init__(self, xml: str) -> None:
        self.xml = xml
        self.uuid = str(uuid.uuid4())
        self.resumed = 0

    def UUIDString(self) -> str:
        return self.uuid

    def name(self) -> str:
        return "instance-1"

    def state(self) -> list[str]:
        return ["PAUSED", "IOERROR"]

    def diskErrors(self) -> dict[str, int]:
        return {"vda": 1}

    def XMLDesc(self, _flags: int) -> str:
        return self.xml

    def resume(self) -> None:
        self.resumed += 1


@pytest.fixture
def paused(monkeypatch: pytest.MonkeyPatch, connection_info: dict[str, Any]) -> Callable[..., Any]:
    """Give a resumer and the only guest of its host, paused, which opened the volume by the given name."""
    constants = {"VIR_DOMAIN_PAUSED": "PAUSED", "VIR_DOMAIN_PAUSED_IOERROR": "IOERROR"}
    constants |= {
        "VIR_DOMAIN_PAUSED_UNKNOWN": "UNKNOWN",
        "VIR_CONNECT_LIST_DOMAINS_PAUSED": "",
        "libvirtError": OSError,
    }

    def make(name: str | None = None) -> tuple[Resumer, Domain]:
        data = connection_info["data"]
        place = {"host": data["hosts"][0], "port": data["ports"][0], "volume": data["volume_id"]}
        domain = Domain(DISK.format(name=name or data["name"], **place))
        device = SimpleNamespace(
            is_volume=True, volume_id=data["volume_id"], connection_info=json.dumps(connection_info)
        )
        monkeypatch.setattr(objects.BlockDeviceMappingList, "get_by_instance_uuid", lambda _context, _uuid: [device])
        libvirt = SimpleNamespace(listAllDomains=lambda _flags: [domain], lookupByUUIDString=lambda _uuid: domain)
        monkeypatch.setattr(resume, "_libvirt", lambda: SimpleNamespace(open=lambda _uri: libvirt, **constants))
        return Resumer("test:///"), domain

    return make


def eventually(condition: Callable[[], Any]) -> None:
    """Wait for something that is asked in another thread."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def test_guest_goes_on_when_its_volume_can_be_opened_again(paused, caplog) -> None:
    resumer, domain = paused()
    assert resumer.look() == ["instance-1"]
    assert domain.resumed == 1
    assert errors(caplog) == []


def test_guest_whose_export_has_another_name_by_now_stays_paused_and_it_is_said_once(
    paused, caplog, connection_info
) -> None:
    caplog.set_level(logging.DEBUG)
    resumer, domain = paused("export before the storage process died")
    eventually(lambda: resumer.look() == [] and errors(caplog))
    for _ in range(3):
        assert resumer.look() == []
    assert domain.resumed == 0
    (said,) = errors(caplog)
    assert domain.uuid in said
    assert connection_info["data"]["volume_id"] in said
    assert "hard reboot" in said
    assert connection_info["data"]["secret"] not in caplog.text


def test_nor_is_it_resumed_where_only_the_port_can_be_seen(paused, monkeypatch, caplog) -> None:
    """A nova-compute that may not read QEMU's key for the edge."""
    monkeypatch.setattr(resume, "look_at", lambda _source: resume.Sight.LISTENING)
    resumer, domain = paused("export before the storage process died")
    eventually(lambda: resumer.look() == [] and errors(caplog))
    assert domain.resumed == 0
    resumer, domain = paused()
    eventually(lambda: resumer.look() == ["instance-1"])


def test_guest_of_a_revoked_grant_stays_paused_and_no_loss_is_claimed(
    paused, caplog, client: Client, grant: Grant
) -> None:
    resumer, domain = paused()
    client.grants.revoke(grant.guid)
    (one,) = resumer._paused()[0].opened()
    eventually(lambda: resumer.look() == [] and resumer._exports.is_lost(one) is False)
    assert resumer.look() == []
    assert domain.resumed == 0
    assert errors(caplog) == []
