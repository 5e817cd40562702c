"""What a patched file would hold, without patching it."""

import hashlib
from pathlib import Path

import pytest

from openvstorage.aio.evidence import content_of_file

MIB = 1024**2


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 10), (4 * MIB - 3, 6), (4 * MIB, 5), (0, 9 * MIB), (9 * MIB - 1, 1)],
    ids=["head", "across chunks", "chunk start", "whole", "last byte"],
)
def test_digest_of_a_patched_file(tmp_path: Path, offset: int, length: int) -> None:
    data = bytes(range(256)) * (9 * MIB // 256)
    file = tmp_path / "image"
    file.write_bytes(data)
    patch = b"\x5a" * length
    expected = data[:offset] + patch + data[offset + length :]
    assert content_of_file(file, (offset, patch)) == hashlib.sha256(expected).hexdigest()
    assert content_of_file(file) == hashlib.sha256(data).hexdigest()
