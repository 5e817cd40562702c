"""The NBD client against real servers: qemu-storage-daemon and qemu-nbd."""

from __future__ import annotations

import errno
import os
import random
import signal
import socket
import ssl
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.functional.edge.conftest import SIZE, Server, listening_socket
from tests.support.certificates import make_ca, make_server_certificate
from tests.support.patience import PATIENCE

from openvstorage.edge.errors import (
    ExportRefused,
    ProtocolViolated,
    RequestFailed,
    RequestInvalid,
    TlsFailed,
    TransportError,
)
from openvstorage.edge.nbd import NbdClient

MIB = 1024 * 1024
Start = Callable[..., Server]


def connect(server: Server, **options: object) -> NbdClient:
    return NbdClient.connect(server.host, server.port, server.export, **{"timeout": PATIENCE, **options})  # type: ignore[arg-type]


@pytest.fixture(params=["storage-daemon", "qemu-nbd"])
def server(request: pytest.FixtureRequest) -> Server:
    if request.param == "qemu-nbd":
        return request.getfixturevalue("qemu_nbd")  # type: ignore[no-any-return]
    return request.getfixturevalue("start")()  # type: ignore[no-any-return]


def test_what_is_written_is_in_the_image_and_reads_back(server: Server) -> None:
    data = random.Random(1).randbytes(3 * MIB + 512)
    with connect(server) as nbd:
        assert nbd.size == SIZE
        nbd.write(MIB, data)
        nbd.flush()
        assert nbd.read(MIB, len(data)) == data
    with server.image.open("rb") as image:
        image.seek(MIB)
        assert image.read(len(data)) == data


def test_requests_longer_than_the_server_takes_are_cut(server: Server) -> None:
    data = random.Random(2).randbytes(40 * MIB)
    with connect(server) as nbd:
        assert nbd.info.maximum_block < len(data)
        nbd.write(512, data)
        assert nbd.read(512, len(data)) == data


def test_pipelined_requests_arrive_all_and_in_place(server: Server) -> None:
    blocks = [random.Random(i).randbytes(256 * 1024) for i in range(100)]
    with connect(server, window=8) as nbd:
        for number, block in enumerate(blocks):
            nbd.submit_write(number * len(block), block)
        nbd.drain()
        buffers = [bytearray(len(block)) for block in blocks]
        requests = [nbd.submit_read(number * len(buffer), memoryview(buffer)) for number, buffer in enumerate(buffers)]
        # A write between reads in flight must neither hang nor overtake anything.
        nbd.submit_write(SIZE - 512, b"e" * 512)
        nbd.drain()
        assert all(request.done for request in requests)
        assert [bytes(buffer) for buffer in buffers] == blocks
        assert nbd.read(SIZE - 512, 512) == b"e" * 512


def test_no_more_requests_are_in_flight_than_the_window_allows(start: Start) -> None:
    server = start()
    with connect(server, window=4, timeout=5) as nbd:
        server.signal(signal.SIGSTOP)
        for number in range(4):
            nbd.submit_write(number * 512, b"x" * 512)
        with pytest.raises(TransportError, match="timeout"):
            nbd.submit_write(4 * 512, b"x" * 512)


def test_zero_and_trim_give_space_back(server: Server) -> None:
    with connect(server) as nbd:
        nbd.write(0, b"x" * 16 * MIB)
        nbd.flush()
        full = os.stat(server.image).st_blocks
        nbd.zero(0, 8 * MIB)
        nbd.trim(8 * MIB, 8 * MIB)
        nbd.flush()
        assert nbd.read(0, 8 * MIB) == bytes(8 * MIB)
    assert os.stat(server.image).st_blocks < full / 2


def test_zero_without_trim_keeps_the_space(start: Start) -> None:
    server = start()
    with connect(server) as nbd:
        nbd.write(0, b"x" * 4 * MIB)
        nbd.zero(0, 4 * MIB, may_trim=False)
        nbd.flush()
        assert nbd.read(0, 4 * MIB) == bytes(4 * MIB)
    assert os.stat(server.image).st_blocks * 512 >= 4 * MIB


def test_requests_outside_the_export_are_refused_here(start: Start) -> None:
    with connect(start()) as nbd:
        for call in (lambda: nbd.read(SIZE, 1), lambda: nbd.write(SIZE - 1, b"xx"), lambda: nbd.trim(-1, 1)):
            with pytest.raises(RequestInvalid, match=str(SIZE)):
                call()
        assert nbd.read(0, 1) == b"\0"


def test_alignment_that_the_server_asks_for_is_kept(start: Start) -> None:
    blockdev = {"driver": "blkdebug", "node-name": "top", "image": "file", "align": 4096}
    with connect(start(blockdev=blockdev)) as nbd:
        assert nbd.info.minimum_block == 4096
        with pytest.raises(RequestInvalid, match="4096"):
            nbd.write(512, b"x" * 512)
        nbd.write(4096, b"x" * 4096)


def test_read_only_export_is_not_written(start: Start) -> None:
    with connect(start(writable=False)) as nbd:
        assert nbd.info.read_only
        with pytest.raises(RequestInvalid, match="read-only"):
            nbd.write(0, b"x")
        assert nbd.read(0, 4) == bytes(4)


def full_disk(start: Start) -> Server:
    inject = [{"event": "none", "iotype": "write", "sector": MIB // 512, "errno": errno.ENOSPC}]
    return start(blockdev={"driver": "blkdebug", "node-name": "top", "image": "file", "inject-error": inject})


def test_a_failed_write_says_why_and_leaves_the_client_usable(start: Start) -> None:
    with connect(full_disk(start)) as nbd:
        with pytest.raises(RequestFailed, match="ENOSPC") as caught:
            nbd.write(MIB, b"x" * 512)
        assert caught.value.errno == errno.ENOSPC
        nbd.write(0, b"x" * 512)
        nbd.flush()


def test_a_failed_pipelined_write_is_told_once_by_the_next_flush(start: Start) -> None:
    with connect(full_disk(start)) as nbd:
        for at in range(0, 2 * MIB, 64 * 1024):
            nbd.submit_write(at, b"x" * 64 * 1024)
        with pytest.raises(RequestFailed, match="ENOSPC"):
            nbd.flush()
        nbd.flush()


def test_unknown_export_is_refused_by_name(server: Server) -> None:
    with pytest.raises(ExportRefused, match="'other'"):
        NbdClient.connect(server.host, server.port, "other", timeout=PATIENCE)


def test_nothing_listening_is_a_transport_error() -> None:
    listener = listening_socket()
    port = listener.getsockname()[1]
    listener.close()
    with pytest.raises(TransportError, match=f"127.0.0.1:{port}"):
        NbdClient.connect("127.0.0.1", port, "disk", timeout=PATIENCE)


def test_killed_server_breaks_the_client_at_once(start: Start) -> None:
    server = start()
    nbd = connect(server)
    server.signal(signal.SIGKILL)
    server.process.wait()
    with pytest.raises(TransportError):
        nbd.read(0, 512)
    assert nbd.closed
    with pytest.raises(TransportError, match="closed"):
        nbd.read(0, 512)
    nbd.close()


def test_silent_server_ends_in_a_timeout(start: Start) -> None:
    server = start()
    nbd = connect(server, timeout=5)
    server.signal(signal.SIGSTOP)
    with pytest.raises(TransportError, match="timeout"):
        nbd.read(0, 512)
    assert nbd.closed


@pytest.mark.parametrize(
    "greeting",
    [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"NBDMAGICIHAVEOPT\0\0", b"NBDMAGIC\0\0\x42\x02\x81\x86\x12\x53\0\0"],
)
def test_what_is_no_newstyle_nbd_server_is_told(greeting: bytes) -> None:
    listener = listening_socket()

    def greet() -> None:
        peer, _address = listener.accept()
        with peer:
            peer.sendall(greeting)

    thread = threading.Thread(target=greet)
    thread.start()
    with pytest.raises(ProtocolViolated):
        NbdClient.connect("127.0.0.1", listener.getsockname()[1], "disk", timeout=PATIENCE)
    thread.join()
    listener.close()


def tls_server(start: Start, directory: Path) -> tuple[Server, ssl.SSLContext]:
    ca = make_ca(directory)
    make_server_certificate(directory, ca, ["edge.example"])
    credentials = f"tls-creds-x509,id=tls0,dir={directory},endpoint=server,verify-peer=off"
    server = start("--object", credentials, nbd=",tls-creds=tls0")
    return server, ssl.create_default_context(cafile=str(directory / "ca-cert.pem"))


def test_tls_carries_the_bytes_and_checks_the_name(start: Start, tmp_path: Path) -> None:
    server, context = tls_server(start, tmp_path)
    data = random.Random(3).randbytes(4 * MIB)
    with connect(server, tls=context, tls_hostname="edge.example") as nbd:
        nbd.write(0, data)
        nbd.flush()
        assert nbd.read(0, len(data)) == data
    assert server.image.read_bytes()[: len(data)] == data
    with pytest.raises(TlsFailed, match=r"edge\.other"):
        connect(server, tls=context, tls_hostname="edge.other")
    with pytest.raises(TlsFailed, match="wants TLS"):
        connect(server)


def test_tls_is_never_given_up_silently(start: Start) -> None:
    with pytest.raises(TlsFailed, match="does not offer TLS"):
        connect(start(), tls=ssl.create_default_context(), tls_hostname="edge.example")


def test_connections_are_closed_on_a_failed_handshake(start: Start) -> None:
    server = start()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with pytest.raises(ExportRefused):
            NbdClient.connect(server.host, server.port, "other", timeout=PATIENCE)
    assert len(os.listdir("/proc/self/fd")) == before
    assert socket.getdefaulttimeout() is None
