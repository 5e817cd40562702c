"""Streams into a real export: every byte arrives, zeroes take no space and hide what was there before."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import pytest
from tests.functional.edge.conftest import Server
from tests.support.patience import PATIENCE

from openvstorage.edge.errors import RequestInvalid
from openvstorage.edge.nbd import NbdClient
from openvstorage.edge.stream import StreamWriter

MIB = 1024 * 1024
SIZE = 32 * MIB
Start = Callable[..., Server]


def sparse_image(length: int) -> bytes:
    rng = random.Random(length)
    image = bytearray(length)
    for at in (0, 3 * MIB + 64 * 1024, 9 * MIB + 1, length - 700):
        piece = rng.randbytes(min(100_000, length - at))
        image[at : at + len(piece)] = piece
    return bytes(image)


def pieces(data: bytes) -> Iterator[bytes]:
    rng = random.Random(9)
    at = 0
    while at < len(data):
        step = rng.choice([1, 1000, 65536, 2 * MIB])
        yield data[at : at + step]
        at += step


def connect(server: Server) -> NbdClient:
    return NbdClient.connect(server.host, server.port, server.export, timeout=PATIENCE)


@pytest.mark.parametrize("length", [16 * MIB, 16 * MIB + 512, 16 * MIB + 1001])
@pytest.mark.parametrize("align", [1, 4096])
def test_stream_arrives_whole_and_sparse(start: Start, length: int, align: int) -> None:
    blockdev = {"driver": "blkdebug", "node-name": "top", "image": "file", "align": align, "discard": "unmap"}
    server = start(blockdev=blockdev if align > 1 else None, size=SIZE)
    image = sparse_image(length)
    with connect(server) as nbd:
        writer = StreamWriter(nbd, reads_as_zero=True)
        for piece in pieces(image):
            assert writer.write(piece) == len(piece)
        assert writer.written == length
        assert writer.finish() == length
    assert server.image.read_bytes() == image + bytes(SIZE - length)
    assert os.stat(server.image).st_blocks * 512 <= 2 * MIB


def test_zeroes_of_the_stream_hide_older_data_and_the_rest_is_kept(start: Start) -> None:
    server = start(size=SIZE)
    image = sparse_image(16 * MIB)
    with connect(server) as nbd:
        nbd.write(0, b"old!" * (SIZE // 4))
        writer = StreamWriter(nbd, reads_as_zero=False)
        for piece in pieces(image):
            writer.write(piece)
        writer.finish()
    assert server.image.read_bytes() == image + b"old!" * (4 * MIB)


def test_tail_shorter_than_a_block_keeps_what_lies_behind_it(start: Start) -> None:
    server = start(blockdev={"driver": "blkdebug", "node-name": "top", "image": "file", "align": 4096}, size=SIZE)
    with connect(server) as nbd:
        nbd.write(0, b"old!" * 2048)
        writer = StreamWriter(nbd, reads_as_zero=False)
        writer.write(b"n" * 5000)
        writer.finish()
        assert nbd.read(0, 8192) == b"n" * 5000 + (b"old!" * 2048)[5000:]


def test_stream_longer_than_the_export_is_refused(start: Start) -> None:
    with connect(start(size=2 * MIB)) as nbd:
        writer = StreamWriter(nbd, reads_as_zero=True)
        with pytest.raises(RequestInvalid, match=str(2 * MIB)):
            writer.write(b"x" * 3 * MIB)
