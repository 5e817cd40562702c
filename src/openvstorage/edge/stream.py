"""Writing a stream, such as an image as it comes from the network, into an export without storing its zeroes.

``StreamWriter`` is a file-like sink: whoever has the data calls ``write`` with pieces of any length and ``finish`` at
the end. Only then is the data safe.
"""

from __future__ import annotations

from openvstorage.edge.nbd import NbdClient
from openvstorage.edge.zeroes import runs

__all__ = ["StreamWriter"]

_BLOCK = 1024 * 1024


class StreamWriter:
    """Writes what it is given one after the other, from the export's beginning.

    Zeroes are never sent as data. On an export that is known to read as zeroes they are left out, on another one the
    server is told to make the range zero, so that nothing older shines through.
    """

    def __init__(self, client: NbdClient, *, reads_as_zero: bool) -> None:
        """Write through ``client``, which stays the caller's to close.

        :param reads_as_zero: whether the export is known to have nothing but zeroes, as a new vDisk has.
        """
        self._client = client
        self._skip_zeroes = reads_as_zero
        self._block = bytearray()
        self._offset = 0

    @property
    def written(self) -> int:
        """Bytes that were given so far."""
        return self._offset + len(self._block)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Take the next bytes of the stream and give their number; blocks while the server is slower.

        :raises RequestInvalid: the stream is longer than the export.
        :raises RequestFailed: the server answered an earlier write with an error.
        :raises TransportError: the connection broke.
        """
        view = memoryview(data).cast("B")
        taken = 0
        while taken < len(view):
            part = view[taken : taken + _BLOCK - len(self._block)]
            self._block += part
            taken += len(part)
            if len(self._block) == _BLOCK:
                self._send()
        return taken

    def finish(self) -> int:
        """Write the rest and return, with the length of the stream, when all of it is on stable storage.

        Raises as ``write``.
        """
        length = self.written
        missing = -length % self._client.info.minimum_block
        if missing:
            # The last block is completed with what the vDisk has there: the stream says nothing about it.
            start = length - length % self._client.info.minimum_block
            self._client.drain()
            whole = self._client.read(start, self._client.info.minimum_block)
            self._block += whole[-missing:]
        self._send()
        self._client.flush()
        return length

    def _send(self) -> None:
        block, self._block = self._block, bytearray()
        offset, self._offset = self._offset, self._offset + len(block)
        view = memoryview(block)
        for zero, start, end in runs(view, offset):
            if zero:
                self._zero(offset + start, end - start)
            else:
                self._client.submit_write(offset + start, view[start:end])

    def _zero(self, offset: int, length: int) -> None:
        if not self._skip_zeroes:
            self._client.zero(offset, length)
