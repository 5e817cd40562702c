"""The tour's look at a volume's bytes, on a real edge, plain and with TLS."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.vpool_service import VpoolService

from openvstorage.aio.certificates import TOUR
from openvstorage.aio.errors import CommandFailed
from openvstorage.aio.evidence import EdgeEvidence
from openvstorage.client import Client
from openvstorage.edge.errors import CertificateUnusable

MIB = 1024**2


@dataclass
class Edge:
    certificate: Path
    client: Client
    vpool: str
    vdisk: str

    def evidence(self, log: Path, certificate: Path | None = None) -> EdgeEvidence:
        return EdgeEvidence(self.client, self.vpool, log, certificate or self.certificate)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "tls"])
def edge(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    work = tmp_path_factory.mktemp("edge")
    with VpoolService(work / "data", edge_tls=request.param) as service:
        # With what URIs and QEMU's options have a meaning for.
        certificate = work / "a, b&c=d?"
        if request.param:
            service.enroll(TOUR, certificate)
        with Client.from_status(service.status) as client:
            vpool = service.status["vpool_guid"]
            yield Edge(certificate, client, vpool, client.vdisks.create("disk", 8 * MIB, vpool))


def test_what_one_tool_writes_the_others_read(edge: Edge, tmp_path: Path) -> None:
    evidence = edge.evidence(tmp_path / "log")
    evidence.write(edge.vdisk, MIB, 0x5A, MIB)
    evidence.put(edge.vdisk, 2 * MIB, b"\xa5" * 4096)
    assert evidence.get(edge.vdisk, MIB, MIB) == b"\x5a" * MIB
    assert evidence.size(edge.vdisk) == 8 * MIB
    content = evidence.read(edge.vdisk, 3 * MIB)
    expected = bytes(MIB) + b"\x5a" * MIB + (b"\xa5" * 4096).ljust(MIB, b"\0")
    assert (content.size, content.sha256, content.rest_is_zero) == (8 * MIB, hashlib.sha256(expected).hexdigest(), True)
    assert edge.client.grants.list(edge.vdisk) == []


@pytest.mark.parametrize("edge", [True], ids=["tls"], indirect=True)
def test_without_its_certificate_nothing_is_seen_of_an_edge_with_tls(edge: Edge, tmp_path: Path) -> None:
    evidence = edge.evidence(tmp_path / "log", tmp_path / "nowhere")
    for look in (lambda: evidence.read(edge.vdisk, MIB), lambda: evidence.write(edge.vdisk, 0, 1, 512)):
        with pytest.raises(CommandFailed):
            look()
    for look in (lambda: evidence.size(edge.vdisk), lambda: evidence.put(edge.vdisk, 0, b"x" * 512)):
        with pytest.raises(CertificateUnusable, match="nowhere"):
            look()
    assert edge.client.grants.list(edge.vdisk) == []
