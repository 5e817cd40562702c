"""Who gets through TLS to a vDisk: real storage daemons, the library's client and QEMU's own."""

from __future__ import annotations

import asyncio
import datetime
import errno
import socket
import subprocess
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.crash import until
from tests.support.engine import Engine, TaskFailed, engine
from tests.support.patience import PATIENCE
from tests.support.qemus import bin_dirs

from openvstorage.edge import nbd_handshake
from openvstorage.edge.errors import ExportRefused, TlsFailed, TransportError
from openvstorage.edge.nbd import NbdClient
from openvstorage.edge.tls import client_context
from openvstorage.vpool.access import authority
from openvstorage.vpool.exports import sockets
from openvstorage.vpool.operations import placement

MIB = 1024**2


@pytest.fixture(autouse=True)
def _small_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(authority, "KEY_BITS", 2048)  # seconds matter here, not strength


@dataclass
class Edge:
    """A vPool that serves with TLS, and hosts with certificates of its authority."""

    data: Path
    engine: Engine
    hosts: Path

    def enroll(self, host: str) -> Path:
        target = self.hosts / host
        if not target.exists():
            authority.issue_client(self.data / "tls", host, target)
        return target

    async def grant(self, vdisk: str, host: str, mode: str = "rw", **more: Any) -> dict[str, Any]:
        arguments = {"client": host, "consumer": "guest", "mode": mode, **more}
        return dict(await self.engine.do("grant.create", vdisk, **arguments))

    def open(self, grant: dict[str, Any], host: str) -> NbdClient:
        context = client_context(self.enroll(host))
        return NbdClient.connect(grant["host"], grant["port"], grant["export_name"], tls=context, timeout=PATIENCE)


@pytest.fixture(params=bin_dirs().values(), ids=bin_dirs().keys())
def qemu_dir(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def edge(tmp_path: Path, qemu_dir: str) -> AsyncIterator[Edge]:
    async with engine(tmp_path / "data", edge_tls=True, qemu_dir=qemu_dir) as running:
        yield Edge(tmp_path / "data", running, tmp_path / "hosts")


def written(client: NbdClient, data: bytes) -> bytes:
    client.write(0, data)
    client.flush()
    return client.read(0, len(data))


async def test_a_host_with_a_grant_reads_and_writes(edge: Edge) -> None:
    grant = await edge.grant(await edge.engine.create("disk"), "compute1")
    assert grant["tls"]
    assert grant["certificate_name"] == "compute1"
    assert grant["uri"].startswith("nbds://")
    with edge.open(grant, "compute1") as client:
        assert written(client, b"hello") == b"hello"


async def test_plain_nbd_is_refused(edge: Edge) -> None:
    grant = await edge.grant(await edge.engine.create("disk"), "compute1")
    with pytest.raises(TlsFailed, match="wants TLS"):
        NbdClient.connect(grant["host"], grant["port"], grant["export_name"])


async def test_without_a_certificate_nobody_gets_in(edge: Edge) -> None:
    grant = await edge.grant(await edge.engine.create("disk"), "compute1")
    context = client_context(edge.enroll("compute1"))
    bare = type(context)(context.protocol)
    bare.load_verify_locations(edge.data / "tls" / "ca-cert.pem")
    with pytest.raises(TlsFailed):
        NbdClient.connect(grant["host"], grant["port"], grant["export_name"], tls=bare)


async def test_the_same_name_from_another_authority_is_refused(edge: Edge, tmp_path: Path) -> None:
    grant = await edge.grant(await edge.engine.create("disk"), "compute1")
    authority.ensure(tmp_path / "other", ["127.0.0.1"])
    authority.issue_client(tmp_path / "other", "compute1", tmp_path / "forged")
    context = client_context(tmp_path / "forged")
    context.load_verify_locations(edge.data / "tls" / "ca-cert.pem")
    with pytest.raises(TlsFailed):
        NbdClient.connect(grant["host"], grant["port"], grant["export_name"], tls=context)


async def test_a_valid_certificate_without_a_grant_is_refused(edge: Edge) -> None:
    grant = await edge.grant(await edge.engine.create("disk"), "compute1")
    for host in ("compute2", "compute11", "COMPUTE1", "compute"):
        with pytest.raises(TlsFailed, match="no grant"):
            edge.open(grant, host)


async def test_a_grant_of_another_vdisk_opens_nothing(edge: Edge) -> None:
    first = await edge.grant(await edge.engine.create("first"), "compute1")
    second = await edge.grant(await edge.engine.create("second"), "compute2")
    edge.open(second, "compute2").close()
    with pytest.raises(TlsFailed, match="no grant"):
        edge.open(first, "compute2")


async def test_a_host_is_let_in_while_the_daemon_runs_and_kept_out_at_once(edge: Edge) -> None:
    vdisk = await edge.engine.create("disk")
    source = await edge.grant(vdisk, "source")
    with edge.open(source, "source") as first:
        target = await edge.grant(vdisk, "target")
        with edge.open(target, "target") as second:
            second.write(0, b"both")
            second.flush()
            assert first.read(0, 4) == b"both"
            await edge.engine.revoke(source)
            with pytest.raises(TransportError):
                first.write(0, b"late", fua=True)
            with pytest.raises(TlsFailed, match="no grant"):
                edge.open(source, "source")
            with pytest.raises(TlsFailed, match="no grant"):
                edge.open(target, "source")
    with edge.open(target, "target") as again:
        assert written(again, b"goes on") == b"goes on"


async def test_a_host_that_was_at_anothers_export_is_cut_off_there_too(edge: Edge) -> None:
    """QEMU looks at the certificate only, so a host with a grant can open whatever is served of that vDisk."""
    vdisk = await edge.engine.create("disk")
    source, target = await edge.grant(vdisk, "source"), await edge.grant(vdisk, "target")
    with edge.open(target, "source") as intruder:
        assert written(intruder, b"still its own") == b"still its own"
        pid = edge.engine.context.fleet.get(vdisk).identity.pid
        await edge.engine.revoke(source)
        with pytest.raises(TransportError):
            intruder.write(0, b"too late", fua=True)
    assert edge.engine.context.fleet.get(vdisk).identity.pid == pid
    with edge.open(target, "target") as client:
        assert client.read(0, 13) == b"still its own"


async def test_a_host_that_has_not_chosen_its_export_yet_is_cut_off(edge: Edge) -> None:
    vdisk = await edge.engine.create("disk")
    source, target = await edge.grant(vdisk, "source"), await edge.grant(vdisk, "target")
    with socket.create_connection((source["host"], source["port"]), timeout=PATIENCE) as plain:
        nbd_handshake._greet(plain, "server")
        waiting = nbd_handshake._start_tls(plain, "server", client_context(edge.enroll("source")), source["host"])
        await edge.engine.revoke(source)
        with pytest.raises((EOFError, OSError)):
            nbd_handshake._go(waiting, "server", target["export_name"])
    edge.open(target, "target").close()


async def test_a_daemon_whose_clients_can_not_be_cut_off_is_replaced(
    edge: Edge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the kernel lets a process look into its own children at most, and an earlier service started it."""

    def refuse(_pidfd: int, _fd: int) -> int:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    vdisk = await edge.engine.create("disk")
    source, target = await edge.grant(vdisk, "source"), await edge.grant(vdisk, "target")
    with edge.open(target, "source") as intruder:
        pid = edge.engine.context.fleet.get(vdisk).identity.pid
        monkeypatch.setattr(sockets, "take", refuse)
        await edge.engine.revoke(source)
        with pytest.raises(TransportError):
            intruder.write(0, b"too late", fua=True)
    (await asyncio.to_thread(edge.open, target, "target")).close()

    async def served() -> bool:  # clients may come in before the service has noted who lets them in
        return edge.engine.context.fleet.get(vdisk) is not None

    await until(served, "the next daemon is known")
    assert edge.engine.context.fleet.get(vdisk).identity.pid != pid


async def test_a_host_with_two_grants_keeps_the_other_one(edge: Edge) -> None:
    vdisk = await edge.engine.create("disk")
    one, two = await edge.grant(vdisk, "compute1", "ro", consumer="a"), await edge.grant(vdisk, "compute1", "ro")
    other = await edge.grant(vdisk, "compute2")
    with edge.open(two, "compute1") as client, edge.open(other, "compute2") as neighbour:
        await edge.engine.revoke(one)
        assert client.read(0, 4) == bytes(4)
        assert neighbour.read(0, 4) == bytes(4)
        with pytest.raises(ExportRefused):
            edge.open(one, "compute1")
        edge.open(two, "compute1").close()


async def test_an_adopted_daemon_keeps_its_rules(tmp_path: Path, qemu_dir: str) -> None:
    data, settings = tmp_path / "data", {"edge_tls": True, "qemu_dir": qemu_dir}
    async with engine(data, stop_daemons=False, **settings) as running:
        edge = Edge(data, running, tmp_path / "hosts")
        vdisk = await running.create("disk")
        grant = await edge.grant(vdisk, "compute1")
        pid = running.context.fleet.get(vdisk).identity.pid
    with pytest.raises(TlsFailed, match="no grant"):
        edge.open(grant, "compute2")
    with edge.open(grant, "compute1") as client:
        async with engine(data, **settings) as running:
            edge.engine = running
            await running.operations.ensure_served(vdisk)
            assert running.context.fleet.get(vdisk).identity.pid == pid
            assert written(client, b"on") == b"on"
            with pytest.raises(TlsFailed, match="no grant"):
                edge.open(grant, "compute2")
            other = await edge.grant(vdisk, "compute2")
            edge.open(other, "compute2").close()
            await running.revoke(grant)
            with pytest.raises(TlsFailed, match="no grant"):
                edge.open(other, "compute1")


async def test_a_respawned_daemon_lets_in_who_has_a_grant_and_nobody_else(edge: Edge) -> None:
    vdisk = await edge.engine.create("disk")
    grant, gone = await edge.grant(vdisk, "compute1"), await edge.grant(vdisk, "compute2")
    await edge.engine.revoke(gone)
    await edge.engine.context.fleet.get(vdisk).kill()
    # the listening socket is still there: this client waits for the next daemon
    with await asyncio.to_thread(edge.open, grant, "compute1") as client:
        assert client.size == 64 * MIB
    with pytest.raises(TlsFailed, match="no grant"):
        await asyncio.to_thread(edge.open, grant, "compute2")


async def test_tls_that_is_wanted_since_this_start_is_served(tmp_path: Path, qemu_dir: str) -> None:
    data = tmp_path / "data"
    async with engine(data, stop_daemons=False, qemu_dir=qemu_dir) as running:
        vdisk = await running.create("disk")
        edge = Edge(data, running, tmp_path / "hosts")
        plain = await edge.grant(vdisk, "compute1")
        assert not plain["tls"]
    async with engine(data, edge_tls=True, qemu_dir=qemu_dir) as running:
        await running.operations.ensure_served(vdisk)
        edge.engine = running
        grant = await edge.grant(vdisk, "compute1")
        assert grant["guid"] == plain["guid"]
        assert grant["tls"]
        with pytest.raises(TlsFailed, match="wants TLS"):
            NbdClient.connect(grant["host"], grant["port"], grant["export_name"])
        edge.open(grant, "compute1").close()


async def test_without_tls_nothing_is_served_where_others_reach_it(
    tmp_path: Path, qemu_dir: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """127.0.0.2 stands for an address that is not a loopback one."""
    data = tmp_path / "data"
    async with engine(data, stop_daemons=False, edge_tls=True, edge_host="127.0.0.2", qemu_dir=qemu_dir) as running:
        vdisk = await running.create("disk")
        before = await Edge(data, running, tmp_path / "hosts").grant(vdisk, "compute1")
        assert before["host"] == "127.0.0.2"
    monkeypatch.setattr(placement, "is_loopback", lambda host: host == "127.0.0.1")
    async with engine(data, qemu_dir=qemu_dir) as running:
        await running.operations.ensure_served(vdisk)
        after = await Edge(data, running, tmp_path / "hosts").grant(vdisk, "compute1")
        assert (after["guid"], after["host"], after["tls"]) == (before["guid"], "127.0.0.1", False)
        with pytest.raises(TransportError, match="refused"):
            NbdClient.connect(before["host"], before["port"], before["export_name"])
        NbdClient.connect(after["host"], after["port"], after["export_name"]).close()


async def test_a_client_that_no_certificate_can_name_gets_no_grant(edge: Edge) -> None:
    vdisk = await edge.engine.create("disk")
    for client in ("compute1,O=x", "CN=compute1", "", "a" * 65, "compute 1"):
        with pytest.raises(TaskFailed, match="host name"):
            await edge.grant(vdisk, client)


async def test_qemu_itself_is_let_in_and_kept_out(edge: Edge, qemu_dir: str) -> None:
    grant = await edge.grant(await edge.engine.create("disk"), "compute1")

    def look(host: str) -> subprocess.CompletedProcess[str]:
        options = (
            f"driver=nbd,server.type=inet,server.host={grant['host']},server.port={grant['port']},"
            f"export={grant['export_name']},tls-creds=tls"
        )
        credentials = f"tls-creds-x509,id=tls,endpoint=client,dir={edge.enroll(host)}"
        command = [f"{qemu_dir}/qemu-img", "info", "--object", credentials, "--image-opts", options]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)

    admitted = await asyncio.to_thread(look, "compute1")
    assert admitted.returncode == 0, admitted.stderr
    assert "64 MiB" in admitted.stdout
    refused = await asyncio.to_thread(look, "compute2")
    assert refused.returncode != 0
    assert "TLS" in refused.stderr


async def test_a_renewal_under_a_writing_client_loses_nothing(edge: Edge) -> None:
    vdisk = await edge.engine.create("disk")
    grant = await edge.grant(vdisk, "compute1")
    before = edge.engine.context.fleet.get(vdisk)
    begun = threading.Event()
    writer = asyncio.create_task(asyncio.to_thread(write_through, edge, grant, 200, begun))
    assert await asyncio.to_thread(begun.wait, 30)
    let_certificate_near_its_end(edge)
    await edge.engine.settle()
    connections = await asyncio.wait_for(writer, PATIENCE)
    after = edge.engine.context.fleet.get(vdisk)
    assert after.identity != before.identity
    assert after.certificate != before.certificate
    assert connections > 1, "the writer did not see the change"
    await edge.engine.settle()
    assert edge.engine.context.fleet.get(vdisk) is after, "renewed without need"
    with edge.open(grant, "compute1") as client:
        assert client.read(0, 200 * 4096) == b"".join(block(number) for number in range(200))


def let_certificate_near_its_end(edge: Edge) -> None:
    certificate = edge.engine.certificate
    assert certificate is not None
    now = datetime.datetime.now(datetime.UTC)
    issued = now - datetime.timedelta(days=authority.SERVER_DAYS - 30)
    certificate.files.certificate.unlink()
    authority.ensure(edge.data / "tls", ["127.0.0.1"], now=issued)
    certificate._look(issued)


def block(number: int) -> bytes:
    return number.to_bytes(8, "big") * 512


def write_through(edge: Edge, grant: dict[str, Any], count: int, begun: threading.Event) -> int:
    """Write and flush block after block as a guest does, connecting again when the server goes away.

    :returns: how many connections that took.
    """
    connections, number = 0, 0
    # At least once, also when all is written before the server goes away.
    while number < count or connections == 1:
        with edge.open(grant, "compute1") as client:
            connections += 1
            try:
                while number < count or connections == 1:
                    client.write(number % count * 4096, block(number % count))
                    client.flush()
                    number += 1
                    begun.set()
            except TransportError:
                continue
    return connections
