"""A vDisk as a Python file: what os-brick hands to backup, migration and image upload instead of a device path.

Shaped like the wrapper that os-brick has for RBD: ``read``, ``write``, ``seek``, ``tell``, ``flush``, ``close``, and a
``fileno`` that is refused. Errors are ``OSError`` (what users of a file expect) with the edge's error as their cause.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from openvstorage.edge.errors import EdgeError, RequestFailed, RequestInvalid
from openvstorage.edge.nbd import NbdClient, Request
from openvstorage.edge.zeroes import runs

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

__all__ = ["NbdHandle"]

_BLOCK = 1024 * 1024


class NbdHandle(io.RawIOBase):
    """A seekable binary file over one NBD connection, which it owns.

    Small reads in sequence are served from blocks of 1 MiB, of which the next is asked for ahead; writes are sent at
    once, several in flight, and their errors are told by the next write, ``flush`` or ``close``. Whole grains of zeroes
    are sent as requests to make zero, so that what was thin stays so. Offsets and lengths need no alignment. It belongs
    to one thread at a time, as its client does.
    """

    def __init__(self, client: NbdClient) -> None:
        """Take over a connected client; closing the handle closes it."""
        super().__init__()
        self._client = client
        self._position = 0
        self._blocks: dict[int, tuple[bytearray, Request]] = {}
        self._writes: list[Request] = []
        self._is_flushed = True

    @property
    def size(self) -> int:
        """Size of the export in bytes."""
        return self._client.size

    def readable(self) -> bool:
        """Give True."""
        return True

    def writable(self) -> bool:
        """Tell whether the export may be written."""
        return not self._client.info.read_only

    def seekable(self) -> bool:
        """Give True."""
        return True

    def fileno(self) -> NoReturn:
        """Refuse: there is no descriptor. This very exception is what ``requests`` looks for."""
        raise io.UnsupportedOperation("a vDisk opened over NBD has no file descriptor")

    def tell(self) -> int:
        """Give the position in bytes."""
        self._check_open()
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position, which may lie behind the end as in any file, and give the new one.

        :raises OSError: EINVAL for a position before the beginning or an unknown ``whence``.
        """
        self._check_open()
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self.size}.get(whence)
        if base is None or base + offset < 0:
            raise OSError(errno.EINVAL, f"cannot seek to {offset} from {whence}")
        self._position = base + offset
        return self._position

    def read(self, size: int | None = -1, /) -> bytes:
        """Read ``size`` bytes, fewer only at the end; all that are left for None or -1. Blocking.

        :raises OSError: the server answered with an error or the connection broke.
        """
        self._check_open()
        left = max(0, self.size - self._position)
        data = bytearray(left if size is None or size < 0 else min(size, left))
        self.readinto(data)
        return bytes(data)

    def readall(self) -> bytes:
        """Read all that is left. Raises as ``read``."""
        return self.read()

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill ``buffer`` as far as there are bytes and give their number. Raises as ``read``."""
        self._check_open()
        view = memoryview(buffer).cast("B")
        view = view[: max(0, self.size - self._position)]
        done = 0
        with _as_os_error():
            while done < len(view):
                at = self._position + done
                block = self._block(at // _BLOCK)
                part = memoryview(block)[at % _BLOCK :][: len(view) - done]
                view[done : done + len(part)] = part
                done += len(part)
        self._position += done
        return done

    def write(self, data: ReadableBuffer, /) -> int:
        """Write all of ``data`` at the position and give its length.

        :raises OSError: ENOSPC when it does not fit into the export, else what the server said to this write or to
            one before, or EIO when the connection broke.
        """
        self._check_open()
        view = memoryview(data).cast("B")
        if self._position + len(view) > self.size:
            raise OSError(errno.ENOSPC, f"the vDisk has {self.size} bytes")
        with _as_os_error():
            self._is_flushed = False
            self._forget_blocks()
            self._write(self._position, view)
        self._position += len(view)
        return len(view)

    def flush(self) -> None:
        """Return when everything written is on stable storage.

        :raises OSError: what the server said to a write or the flush, or EIO when the connection broke.
        """
        self._check_open()
        if self.writable():
            with _as_os_error():
                self._client.flush()
                self._is_flushed = True

    def renew(self, client: NbdClient) -> None:
        """Go on over another connection, with the size that the vDisk has there; the position stays.

        Extending a vDisk ends its connections, so flush before: what was not flushed is flushed over the old one.

        :raises OSError: as ``flush``; the handle goes on over the new connection all the same.
        """
        self._check_open()
        try:
            if not self._is_flushed:
                self.flush()
        finally:
            self._client.close()
            self._client, self._blocks, self._writes = client, {}, []

    def close(self) -> None:
        """Flush and close the connection; a second call does nothing. Raises as ``flush``, and is closed then too."""
        if not self.closed:
            try:
                super().close()
            finally:
                self._client.close()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on a closed vDisk")

    def _block(self, number: int) -> bytearray:
        """Give one block, and have the next one fetched when blocks are read in sequence."""
        sequential = number in self._blocks or number - 1 in self._blocks
        self._fetch(number)
        if sequential:
            self._fetch(number + 1)
        block, request = self._blocks[number]
        try:
            self._client.wait(request)
        except EdgeError:
            del self._blocks[number]
            raise
        for other in [known for known in self._blocks if known not in (number, number + 1)]:
            # The client writes into a block until its request is answered, so it is not dropped before.
            if self._blocks[other][1].done:
                del self._blocks[other]
        return block

    def _fetch(self, number: int) -> None:
        length = min(_BLOCK, self.size - number * _BLOCK)
        if number not in self._blocks and length > 0:
            self._settle(number * _BLOCK, length)
            block = bytearray(length)
            self._blocks[number] = block, self._client.submit_read(number * _BLOCK, memoryview(block))

    def _forget_blocks(self) -> None:
        """A write makes blocks stale: those in flight are waited for, an unwanted one's error is nobody's."""
        blocks, self._blocks = self._blocks, {}
        for _block, request in blocks.values():
            try:
                self._client.wait(request)
            except RequestFailed:
                continue

    def _write(self, offset: int, view: memoryview) -> None:
        align = self._client.info.minimum_block
        head = -offset % align
        if head or len(view) % align:
            offset, view = self._widen(offset, view, align)
        self._settle(offset, len(view))
        step = self._client.info.maximum_block // align * align
        for zero, start, end in runs(view, offset):
            for at in range(start, end, step):
                part = view[at : min(at + step, end)]
                if zero:
                    request = self._client.submit_zero(offset + at, len(part))
                else:
                    request = self._client.submit_write(offset + at, part)
                self._writes.append(request)

    def _settle(self, offset: int, length: int) -> None:
        """Wait for writes in flight that touch a range: a server may do requests in flight in any order."""
        self._writes = [write for write in self._writes if not write.done]
        if any(write.offset < offset + length and offset < write.offset + write.length for write in self._writes):
            self._client.drain()

    def _widen(self, offset: int, view: memoryview, align: int) -> tuple[int, memoryview]:
        """Add what is on the vDisk around an unaligned range, so that whole blocks can be written."""
        self._client.drain()
        start = offset // align * align
        end = min(-(-(offset + len(view)) // align) * align, self.size)
        whole = bytearray(self._client.read(start, end - start))
        whole[offset - start : offset - start + len(view)] = view
        return start, memoryview(whole)


@contextmanager
def _as_os_error() -> Iterator[None]:
    try:
        yield
    except EdgeError as error:
        number = error.errno if isinstance(error, RequestFailed) else errno.EIO
        raise OSError(errno.EINVAL if isinstance(error, RequestInvalid) else number, str(error)) from error
