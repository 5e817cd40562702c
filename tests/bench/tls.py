"""What does TLS on the edge cost? The same copies by libnbd's ``nbdcopy``, with it and without it."""

from __future__ import annotations

import random
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

from tests.bench.figures import Comparison, Fact, Results, Series
from tests.support.vpool_service import VpoolService

from openvstorage.client import Client

CHAPTER = "TLS on the edge"
KIB, MIB = 1024, 1024**2
PLAIN, TLS = "plain", "TLS"
#: Nagle's algorithm against delayed acknowledgements would leave 0.005 of single reads.
SINGLE_AT_LEAST = 0.2
SMALL = 16 * MIB
#: Name, bytes of a request, requests in flight, whether they write.
LOADS = (
    ("reads of 4 KiB, 1 at a time", 4 * KIB, 1, False),
    ("reads of 4 KiB, 32 at a time", 4 * KIB, 32, False),
    ("writes of 4 KiB, 32 at a time", 4 * KIB, 32, True),
    ("reads of 1 MiB, 8 at a time", MIB, 8, False),
    ("writes of 1 MiB, 8 at a time", MIB, 8, True),
)


def measure(work: Path, *, size: int, rounds: int) -> Results:
    """Compare a pool with TLS and one without on the same file system, in turn. Each sample connects once.

    :param work: an empty directory on the file system to measure.
    :param size: bytes of the vDisks for large requests; those for small ones have 16 MiB.
    :param rounds: measurements of each.
    """
    results = Results()
    with ExitStack() as stack:
        files = {length: _data(work / f"data-{length}", length) for length in (SMALL, size)}
        uris = {side: _served(stack, work / f"edge-{side}", files, tls=side == TLS) for side in (PLAIN, TLS)}
        for name, request, depth, writes in LOADS:
            length = size if request == MIB else SMALL
            speed = {side: Series(side, "MiB/s" if request == MIB else "requests/s") for side in uris}
            for number in range(rounds):
                for side in (PLAIN, TLS) if number % 2 else (TLS, PLAIN):
                    source = str(files[length]) if writes else uris[side][length]
                    seconds = _copy(source, uris[side][length] if writes else "null:", request, depth)
                    speed[side].samples.append(length // request / seconds)
            bound = SINGLE_AT_LEAST if depth == 1 else None
            results.comparisons.append(Comparison(CHAPTER, name, speed[PLAIN], speed[TLS], at_least=bound))
        results.facts.append(Fact(CHAPTER, "copied by a sample of large requests", size // MIB, "MiB"))
    return results


def _data(path: Path, length: int) -> Path:
    chance = random.Random(length)
    with path.open("wb") as file:
        for _ in range(length // MIB):
            file.write(chance.randbytes(MIB))
    return path


def _served(stack: ExitStack, data: Path, files: dict[int, Path], *, tls: bool) -> dict[int, str]:
    """:returns: by their length, the URIs of vDisks that hold the files."""
    service = stack.enter_context(VpoolService(data, edge_tls=tls))
    client = stack.enter_context(Client.from_status(service.status))
    host, certificate = socket.gethostname(), data.with_name("certificate")
    if tls:
        service.enroll(host, certificate)
    uris = {}
    for length, path in files.items():
        vdisk = client.vdisks.create(f"edge-{length}", length, service.status["vpool_guid"])
        uri = client.grants.create(vdisk, host, "bench").uri
        uris[length] = f"{uri}?tls-certificates={quote(str(certificate))}" if tls else uri
        _copy(str(path), uris[length], MIB, 8)
    return uris


def _copy(source: str, target: str, request: int, depth: int) -> float:
    """:returns: the seconds that it took."""
    command = ["nbdcopy", "--connections=1", f"--requests={depth}", f"--request-size={request}", "--allocated"]
    started = time.perf_counter()
    subprocess.run([*command, source, target], check=True)
    return time.perf_counter() - started
