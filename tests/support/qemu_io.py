"""qemu-io as a guest: a stock client of an export that connects again by itself, as the QEMU of an instance does."""

from __future__ import annotations

import json
import re
import select
import subprocess
import time
from types import TracebackType
from typing import Self

from tests.support.patience import PATIENCE

from openvstorage.client import Grant

__all__ = ["QemuIo"]

_BLOCK = 4096
_RECONNECT_SECONDS = 300


class QemuIo:
    """One connection to an export without TLS, on which requests are sent one after the other. Use it by ``with``."""

    def __init__(self, grant: Grant) -> None:
        location = {
            "driver": "nbd",
            "server": {"type": "inet", "host": grant.host, "port": str(grant.port)},
            "export": grant.export_name,
            "reconnect-delay": _RECONNECT_SECONDS,
        }
        words = ["qemu-io", "-t", "none", f"json:{json.dumps({'driver': 'raw', 'file': location})}"]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT)

    def write(self, offset: int, pattern: int) -> None:
        """Write 4 KiB of one byte. :raises AssertionError: the write fails."""
        said = self._do(f"write -P {pattern} {offset} {_BLOCK}")
        assert f"wrote {_BLOCK}/{_BLOCK} bytes" in said, said

    def reads(self, offset: int, pattern: int) -> bool:
        """:returns: whether 4 KiB hold that byte. :raises AssertionError: the read fails."""
        said = self._do(f"read -P {pattern} {offset} {_BLOCK}")
        assert f"read {_BLOCK}/{_BLOCK} bytes" in said or "Pattern verification failed" in said, said
        return "Pattern verification failed" not in said

    def _do(self, command: str) -> str:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command}\n".encode())
        self._process.stdin.flush()
        said, deadline = "", time.monotonic() + PATIENCE
        # The last line of an answer; that a pattern differs is said before.
        while not re.search(r"ops/sec\)|failed:", said):
            left = deadline - time.monotonic()
            assert left > 0, f"{command}: no answer in {PATIENCE} s, only {said!r}"
            if select.select([self._process.stdout], [], [], left)[0]:
                more = self._process.stdout.read1(65536)
                assert more, f"qemu-io has ended: {said}"
                said += more.decode()
        return said

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
