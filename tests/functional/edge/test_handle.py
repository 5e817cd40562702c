"""The file-like handle over a real export, compared with a real file that gets the same calls."""

from __future__ import annotations

import errno
import io
import os
import random
import shutil
import signal
from collections.abc import Callable

import pytest
from tests.functional.edge.conftest import Server
from tests.support.patience import PATIENCE

from openvstorage.edge.errors import TransportError
from openvstorage.edge.handle import NbdHandle
from openvstorage.edge.nbd import NbdClient

MIB = 1024 * 1024
SIZE = 8 * MIB
Start = Callable[..., Server]


def open_handle(server: Server) -> NbdHandle:
    return NbdHandle(NbdClient.connect(server.host, server.port, server.export, timeout=PATIENCE))


@pytest.mark.parametrize("align", [1, 4096])
def test_it_behaves_as_a_file_of_fixed_size_does(start: Start, align: int) -> None:
    blockdev = {"driver": "blkdebug", "node-name": "top", "image": "file", "align": align}
    server = start(blockdev=blockdev if align > 1 else None, size=SIZE)
    rng = random.Random(align)
    model = io.BytesIO(bytes(SIZE))
    with open_handle(server) as handle:
        for _ in range(300):
            position = rng.randrange(SIZE)
            length = rng.choice([1, 511, 4096, 65536, 3 * MIB])
            assert handle.seek(position) == model.seek(position)
            if rng.random() < 0.5:
                data = rng.randbytes(min(length, SIZE - position))
                assert handle.write(data) == model.write(data)
            else:
                assert handle.read(length) == model.read(length)
            assert handle.tell() == model.tell()
        handle.flush()
        assert server.image.read_bytes() == model.getvalue()


def test_what_was_written_last_counts_however_slow_the_server_is(start: Start) -> None:
    """Writes are throttled here and reads are not, so a read in flight together with a write overtakes it."""
    throttle = {"driver": "throttle", "node-name": "top", "throttle-group": "slow", "file": "file"}
    server = start("--object", "throttle-group,id=slow,x-iops-write=20", blockdev=throttle, size=SIZE)
    with open_handle(server) as handle:
        for value in range(1, 8):
            handle.seek(0)
            handle.write(bytes([value]) * 65536)
            handle.write(bytes([value + 1]) * 512)
            handle.seek(100)
            assert handle.read(65536) == bytes([value]) * 65436 + bytes([value + 1]) * 100


def test_whole_disk_is_copied_by_plain_file_functions(start: Start) -> None:
    data = random.Random(5).randbytes(SIZE - 12345)
    server = start(size=SIZE)
    with open_handle(server) as handle:
        shutil.copyfileobj(io.BytesIO(data), handle, 10_000)
        handle.seek(0)
        copy = io.BytesIO()
        shutil.copyfileobj(handle, copy, 65_536)
        assert copy.getvalue() == data + bytes(SIZE - len(data))
        handle.seek(SIZE - 7)
        assert handle.read() == bytes(7)
        assert handle.read(10) == b""


def test_thin_data_stays_thin_and_zeroes_hide_what_was_there(start: Start) -> None:
    """As a migration, a restored backup or Glance writes: in pieces that do not end where grains do."""
    server = start(size=64 * MIB)
    image = bytearray(64 * MIB)
    image[5 * MIB : 5 * MIB + 70_000] = random.Random(6).randbytes(70_000)
    with open_handle(server) as handle:
        shutil.copyfileobj(io.BytesIO(image), handle, 1_000_000)
    assert server.image.read_bytes() == image
    assert os.stat(server.image).st_blocks * 512 <= 12 * MIB
    with open_handle(server) as handle:
        handle.write(b"old" * 3 * MIB)
        handle.seek(1000)
        handle.write(bytes(4 * MIB))
        handle.seek(0)
        assert handle.read(9 * MIB) == b"old" * 333 + b"o" + bytes(4 * MIB) + (b"old" * 3 * MIB)[4 * MIB + 1000 :]


@pytest.mark.parametrize("align", [512, 4096])
def test_zeroes_at_any_offset_are_those_of_a_file(start: Start, align: int) -> None:
    blockdev = {"driver": "blkdebug", "node-name": "top", "image": "file", "align": align, "discard": "unmap"}
    server = start(blockdev=blockdev, size=SIZE)
    rng = random.Random(align)
    model = bytearray(SIZE)
    with open_handle(server) as handle:
        for _ in range(200):
            length = rng.choice([1, 4096, 65536, 65536 * 3, MIB + 77])
            position = rng.randrange(SIZE - length)
            data = bytes(length) if rng.random() < 0.6 else rng.randbytes(length)
            handle.seek(position)
            handle.write(data)
            model[position : position + length] = data
        handle.flush()
        assert server.image.read_bytes() == model


def test_seek_knows_every_whence_and_refuses_the_rest(start: Start) -> None:
    with open_handle(start(size=SIZE)) as handle:
        assert handle.seek(-10, os.SEEK_END) == SIZE - 10
        assert handle.seek(4, os.SEEK_CUR) == SIZE - 6
        assert handle.seek(SIZE + 5) == SIZE + 5
        assert handle.read(1) == b""
        for offset, whence in ((-1, os.SEEK_SET), (0, 9)):
            with pytest.raises(OSError, match="cannot seek"):
                handle.seek(offset, whence)


def test_writing_past_the_end_is_no_space(start: Start) -> None:
    with open_handle(start(size=SIZE)) as handle:
        handle.seek(SIZE - 1)
        with pytest.raises(OSError, match=str(SIZE)) as caught:
            handle.write(b"ab")
        assert caught.value.errno == errno.ENOSPC


def test_there_is_no_descriptor_to_get_at(start: Start) -> None:
    with open_handle(start(size=SIZE)) as handle, pytest.raises(io.UnsupportedOperation):
        handle.fileno()


def test_read_only_export_is_said_and_kept(start: Start) -> None:
    with open_handle(start(size=SIZE, writable=False)) as handle:
        assert not handle.writable()
        with pytest.raises(OSError, match="read-only"):
            handle.write(b"x")


def test_a_failed_write_surfaces_at_flush_with_its_number(start: Start) -> None:
    inject = [{"event": "none", "iotype": "write", "sector": 0, "errno": errno.ENOSPC}]
    server = start(blockdev={"driver": "blkdebug", "node-name": "top", "image": "file", "inject-error": inject})
    handle = open_handle(server)
    handle.write(b"x" * 512)
    with pytest.raises(OSError, match="ENOSPC") as caught:
        handle.close()
    assert caught.value.errno == errno.ENOSPC
    assert handle.closed


def test_a_lost_server_is_an_oserror_with_the_reason(start: Start) -> None:
    server = start(size=SIZE)
    handle = open_handle(server)
    server.signal(signal.SIGKILL)
    server.process.wait()
    with pytest.raises(OSError, match=str(server.port)) as caught:
        handle.read(10)
    assert isinstance(caught.value.__cause__, TransportError)
    with pytest.raises(OSError, match="closed"):
        handle.close()
    assert handle.closed
    with pytest.raises(ValueError, match="closed"):
        handle.read(1)


def test_renewed_handle_goes_on_with_the_new_size(start: Start) -> None:
    small, large = start(size=MIB), start(size=2 * MIB)
    with open_handle(small) as handle:
        handle.write(b"flushed")
        handle.flush()
        handle.read(10)
        small.process.kill()
        small.process.wait()
        handle.renew(NbdClient.connect(large.host, large.port, large.export, timeout=PATIENCE))
        assert (handle.size, handle.tell()) == (2 * MIB, 17)
        handle.seek(MIB)
        handle.write(b"beyond")
        handle.seek(0)
        assert handle.read(7) == bytes(7)
    assert large.image.read_bytes()[MIB : MIB + 6] == b"beyond"


def test_renewing_flushes_and_says_what_may_be_lost(start: Start) -> None:
    old, new = start(size=MIB), start(size=MIB)
    with open_handle(old) as handle:
        handle.write(b"not flushed")
        old.process.kill()
        old.process.wait()
        with pytest.raises(OSError, match="NBD server"):
            handle.renew(NbdClient.connect(new.host, new.port, new.export, timeout=PATIENCE))
        assert handle.read(3) == b"\0\0\0"
