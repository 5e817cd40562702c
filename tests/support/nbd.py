"""A small NBD client for tests that must see each request's answer; plain fixed-newstyle over TCP."""

from __future__ import annotations

import asyncio
import itertools
import struct
from typing import Self

__all__ = ["NbdClient", "NbdRefused"]

_MAGIC, _OPTION_MAGIC = 0x4E42444D41474943, 0x49484156454F5054
_OPTION_REPLY_MAGIC, _REQUEST_MAGIC, _REPLY_MAGIC = 0x3E889045565A9, 0x25609513, 0x67446698
_OPTION_GO, _REPLY_ACK, _INFO_EXPORT = 7, 1, 0
_READ, _WRITE, _FLUSH, _TRIM, _ZERO = 0, 1, 3, 4, 6
_NO_HOLE = 1 << 1


class NbdRefused(Exception):
    """The server has no such export, or answered a request with an error."""


class NbdClient:
    """A connection; requests may run side by side. Any request raises ConnectionError when the server hangs up."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int, flags: int) -> None:
        self.size = size
        self.read_only = bool(flags & 2)
        self._reader = reader
        self._writer = writer
        self._handles = itertools.count(1)
        self._waiting: dict[int, tuple[int, asyncio.Future[bytes]]] = {}
        self._receiving = asyncio.create_task(self._receive())

    @classmethod
    async def connect(cls, port: int, export: str, host: str = "127.0.0.1") -> Self:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            magic, option_magic, _ = struct.unpack(">QQH", await reader.readexactly(18))
            assert (magic, option_magic) == (_MAGIC, _OPTION_MAGIC)
            name = export.encode()
            data = struct.pack(">I", len(name)) + name + struct.pack(">H", 0)
            # Client flags: fixed newstyle, no zeroes.
            writer.write(struct.pack(">IQII", 3, _OPTION_MAGIC, _OPTION_GO, len(data)) + data)
            size = flags = -1
            while True:
                magic, _, kind, length = struct.unpack(">QIII", await reader.readexactly(20))
                assert magic == _OPTION_REPLY_MAGIC
                payload = await reader.readexactly(length)
                if kind & 0x80000000:
                    raise NbdRefused(payload.decode())
                if kind == _REPLY_ACK:
                    return cls(reader, writer, size, flags)
                if struct.unpack_from(">H", payload) == (_INFO_EXPORT,):
                    _, size, flags = struct.unpack(">HQH", payload)
        except BaseException:
            writer.close()
            raise

    async def read(self, offset: int, length: int) -> bytes:
        return await self._request(_READ, offset, length, b"", length)

    async def write(self, offset: int, data: bytes) -> None:
        await self._request(_WRITE, offset, len(data), data, 0)

    async def trim(self, offset: int, length: int) -> None:
        await self._request(_TRIM, offset, length, b"", 0)

    async def zero(self, offset: int, length: int, *, may_trim: bool = True) -> None:
        await self._request(_ZERO, offset, length, b"", 0, 0 if may_trim else _NO_HOLE)

    async def flush(self) -> None:
        await self._request(_FLUSH, 0, 0, b"", 0)

    async def close(self) -> None:
        self._receiving.cancel()
        await asyncio.gather(self._receiving, return_exceptions=True)
        self._writer.close()

    async def _request(self, kind: int, offset: int, length: int, data: bytes, answer: int, flags: int = 0) -> bytes:
        if self._receiving.done():
            raise ConnectionResetError
        handle = next(self._handles)
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[handle] = (answer, future)
        self._writer.write(struct.pack(">IHHQQI", _REQUEST_MAGIC, flags, kind, handle, offset, length) + data)
        return await future

    async def _receive(self) -> None:
        try:
            while True:
                magic, error, handle = struct.unpack(">IIQ", await self._reader.readexactly(16))
                assert magic == _REPLY_MAGIC
                answer, future = self._waiting.pop(handle)
                data = b"" if error else await self._reader.readexactly(answer)
                if future.cancelled():
                    continue
                if error:
                    future.set_exception(NbdRefused(f"error {error}"))
                else:
                    future.set_result(data)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            for _, future in self._waiting.values():
                if not future.done():
                    future.set_exception(ConnectionResetError())
            self._waiting.clear()
