"""Whoever is silent, slow or many takes nothing from others: the API's server on loopback, with short deadlines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import uvicorn
from starlette.types import Message, Receive, Scope, Send
from tests.support.certificates import make_ca, make_server_certificate

from openvstorage.vpool.api import arrival
from openvstorage.vpool.api.arrival import OneLength
from openvstorage.vpool.api.connections import CountedListener
from openvstorage.vpool.api.envelopes import ErrorGuard
from openvstorage.vpool.service import _Server

#: A deadline that passes soon; what must not be cut gets a multiple of it.
SOON = 0.5
#: For what is waited for.
LONG = 60.0
HEAD = b"POST /api/ HTTP/1.1\r\nHost: x\r\n"


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the body when it is there; a query says after how many seconds."""
    body = b""
    message: Message = {"more_body": True}
    while message.get("more_body"):
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
    await asyncio.sleep(float(scope["query_string"] or 0))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


Connect = Callable[..., Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


class Running:
    """A server, and connections to it.

    :ivar plain: connect without TLS, from an address; ``connect`` with it.
    """

    def __init__(self, listener: CountedListener, ca_file: Path) -> None:
        self.listener = listener
        self._tls = ssl.create_default_context(cafile=str(ca_file))
        self._writers: list[asyncio.StreamWriter] = []

    @property
    def open(self) -> int:
        return sum(self.listener._open.values())

    async def plain(self, source: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.listener.getsockname()[:2]
        reader, writer = await asyncio.open_connection(host, port, local_addr=(source, 0))
        self._writers.append(writer)
        return reader, writer

    async def connect(self, source: str = "127.0.0.1") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.listener.getsockname()[:2]
        reader, writer = await asyncio.open_connection(
            host, port, local_addr=(source, 0), ssl=self._tls, server_hostname="localhost"
        )
        self._writers.append(writer)
        return reader, writer

    async def ask(self, request: bytes, source: str = "127.0.0.1") -> bytes:
        reader, writer = await self.connect(source)
        writer.write(request)
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), LONG)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("tls")
    make_server_certificate(directory, make_ca(directory), ["localhost"])
    return directory


@pytest.fixture
async def server(certificates: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Running]:
    for name in ("HANDSHAKE_SECONDS", "REQUEST_SECONDS"):
        monkeypatch.setattr(arrival, name, SOON)
    config = uvicorn.Config(
        ErrorGuard(OneLength(echo)),
        ssl_certfile=certificates / "server-cert.pem",
        ssl_keyfile=certificates / "server-key.pem",
        lifespan="off",
        log_config=None,
    )
    with CountedListener(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
        listener.bind(("127.0.0.1", 0))
        subject = _Server(config)
        serving = asyncio.create_task(subject.serve(sockets=[listener]))
        while not subject.started:
            await asyncio.sleep(0.01)
        running = Running(listener, certificates / "ca-cert.pem")
        yield running
        running.close()
        subject.should_exit = subject.force_exit = True
        await serving


async def ended(reader: asyncio.StreamReader) -> bytes:
    """Wait for the server to close. :returns: what it said before."""
    said = b""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while chunk := await asyncio.wait_for(reader.read(4096), LONG):
            said += chunk
    return said


async def gone(server: Running) -> None:
    """Wait until no connection is open."""
    async with asyncio.timeout(LONG):
        while server.open:
            await asyncio.sleep(0.01)


async def test_silence_is_closed(server: Running) -> None:
    waiting = [await server.plain() for _ in range(20)] + [await server.connect() for _ in range(5)]
    for reader, _ in waiting:
        assert await ended(reader) == b""
    await gone(server)


@pytest.mark.parametrize(
    "half", [b"P", HEAD, HEAD + b"Content-Length: 5\r\n\r\n", HEAD + b"Content-Length: 5\r\n\r\nfour"]
)
async def test_half_a_request_is_told_and_closed(server: Running, half: bytes) -> None:
    reader, writer = await server.connect()
    writer.write(half)
    assert (await ended(reader)).startswith(b"HTTP/1.1 408 ")
    await gone(server)


async def test_drops_do_not_put_the_deadline_off(server: Running) -> None:
    reader, writer = await server.connect()
    writer.write(HEAD)

    async def drip() -> None:
        while True:
            writer.write(b"X-More: 1\r\n")
            await asyncio.sleep(SOON / 10)

    dripping = asyncio.create_task(drip())
    try:
        assert (await ended(reader)).startswith(b"HTTP/1.1 408 ")
    finally:
        dripping.cancel()


async def test_second_request_of_a_connection_has_a_deadline_too(server: Running) -> None:
    reader, writer = await server.connect()
    writer.write(HEAD + b"Content-Length: 2\r\n\r\nok")
    await reader.readuntil(b"ok")
    writer.write(HEAD)
    assert (await ended(reader)).startswith(b"HTTP/1.1 408 ")


async def test_a_slow_answer_and_a_kept_connection_are_not_cut(server: Running) -> None:
    reader, writer = await server.connect()
    for _ in range(2):
        await asyncio.sleep(0 if _ == 0 else 3 * SOON)  # kept, idle
        writer.write(b"POST /?%.1f HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok" % (3 * SOON))
        assert (await asyncio.wait_for(reader.readuntil(b"ok"), LONG)).startswith(b"HTTP/1.1 200 ")


async def test_a_body_that_comes_in_time_is_taken_in_parts(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "REQUEST_SECONDS", LONG)
    reader, writer = await server.connect()
    writer.write(HEAD + b"Content-Length: 300000\r\n\r\n")
    for _ in range(3):
        writer.write(b"x" * 100_000)
        await asyncio.sleep(SOON / 5)
    assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), LONG)).startswith(b"HTTP/1.1 200 ")


async def test_many_connections_of_one_address_leave_others_theirs(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(arrival, "HANDSHAKE_SECONDS", LONG)
    server.listener.limit = 10
    with caplog.at_level(logging.WARNING):
        waiting = [await server.plain("127.0.0.3") for _ in range(40)]
        for reader, _ in waiting[10:]:
            assert await ended(reader) == b""
    assert server.open == 10
    told = [record for record in caplog.records if "127.0.0.3" in record.getMessage()]
    assert len(told) == 1
    request = HEAD + b"Content-Length: 0\r\n\r\n"
    assert (await server.ask(request, "127.0.0.2")).startswith(b"HTTP/1.1 200 ")
    waiting[0][1].close()  # room for one more
    async with asyncio.timeout(LONG):
        while server.listener._open["127.0.0.3"] == 10:
            await asyncio.sleep(0.01)
    assert (await server.ask(request, "127.0.0.3")).startswith(b"HTTP/1.1 200 ")


async def test_few_descriptors_are_shared(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "HANDSHAKE_SECONDS", LONG)
    monkeypatch.setattr(resource, "getrlimit", lambda _which: (153, 153))
    waiting = [await server.plain("127.0.0.3") for _ in range(60)]
    await ended(waiting[-1][0])
    assert server.open == 153 // 4


async def test_two_lengths_are_refused(server: Running) -> None:
    reader, writer = await server.connect()
    lengths = b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
    writer.write(HEAD + lengths + b"0\r\n\r\nGET /api/ HTTP/1.1\r\nHost: x\r\n\r\n")
    said = await ended(reader)
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1") == 1  # what follows is nobody's request
