"""What does it cost that an acknowledged write is kept? Random writes with that promise and without it.

Beside the two kinds of vDisks stand qemu-nbd's two modes on an image with QEMU's own layout: ``none`` promises what was
flushed, ``directsync`` what was acknowledged.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path

from tests.bench import fio
from tests.bench.figures import Comparison, Results, Series
from tests.bench.pool import Pool, running

CHAPTER = "durability"
GIB = 1024**3
FLUSHED, ACKNOWLEDGED = "flushed", "acknowledged"
NONE, DIRECTSYNC = "qemu-nbd none", "qemu-nbd directsync"
#: What is held against what; the first is the one with a target.
PAIRS = ((FLUSHED, ACKNOWLEDGED), (NONE, DIRECTSYNC), (NONE, FLUSHED), (DIRECTSYNC, ACKNOWLEDGED))
#: Where is written, requests in flight, target for the first pair.
LOADS = (("new", 1, None), ("new", 32, 0.4), ("written before", 1, None), ("written before", 32, 0.6))
#: Virtual size of what is written to for the first time: so large that few writes meet in a cluster.
NEW_SIZE = 64 * GIB
START_SECONDS = 30.0

#: Makes something of a size to write to, and tells its URI.
Maker = Callable[[int], AbstractContextManager[str]]


def measure(work: Path, *, size: int, rounds: int, seconds: int) -> Results:
    """Compare all four, in turn.

    :param work: an empty directory on the file system to measure.
    :param size: bytes of what was written before.
    :param rounds: measurements of each.
    :param seconds: length of each.
    """
    results = Results()
    with ExitStack() as stack:
        makers: dict[str, Maker] = {}
        for side, options in ((FLUSHED, ("--durability", "flushed")), (ACKNOWLEDGED, ())):
            makers[side] = partial(_vdisk, stack.enter_context(running(work / side, *options)))
        for side, cache in ((NONE, "none"), (DIRECTSYNC, "directsync")):
            makers[side] = partial(_image, work / f"{cache}.qcow2", cache)
        for where, depth, target in LOADS:
            speed = {side: Series(side, "writes/s") for side in makers}
            with ExitStack() as full:
                uris = {} if where == "new" else {side: full.enter_context(makers[side](size)) for side in makers}
                for uri in uris.values():
                    fio.fill(uri, size)
                for number in range(rounds):
                    for side in list(makers)[:: 1 if number % 2 else -1]:
                        speed[side].samples.append(_sample(makers[side], uris.get(side), size, depth, seconds))
            for base, other in PAIRS:
                bound = target if base == FLUSHED else None
                name = f"random writes of 4 KiB, {where}, {depth} at a time"
                results.comparisons.append(Comparison(CHAPTER, name, speed[base], speed[other], at_least=bound))
    return results


def _sample(make: Maker, uri: str | None, size: int, depth: int, seconds: int) -> float:
    """:returns: writes per second; without an URI to something that is made for it and removed again."""
    if uri is not None:
        return fio.random_requests(uri, "write", size=size, depth=depth, seconds=seconds)
    with make(NEW_SIZE) as fresh:
        return fio.random_requests(fresh, "write", size=NEW_SIZE, depth=depth, seconds=seconds)


@contextlib.contextmanager
def _vdisk(pool: Pool, size: int) -> Iterator[str]:
    vdisk = pool.client.vdisks.create("durability", size, pool.vpool)
    grant = pool.client.grants.create(vdisk, "bench", "durability")
    try:
        yield grant.uri
    finally:
        pool.client.grants.revoke(grant.guid)
        pool.client.vdisks.delete(vdisk)


@contextlib.contextmanager
def _image(path: Path, cache: str, size: int) -> Iterator[str]:
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), str(size)], check=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = ["qemu-nbd", "--persistent", "--bind=127.0.0.1", f"--port={port}", "--format=qcow2", "--discard=unmap"]
    process = subprocess.Popen([*server, f"--cache={cache}", "--aio=io_uring", str(path)])
    try:
        _wait_until_served(process, port)
        yield f"nbd://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()
        path.unlink()


def _wait_until_served(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.recv(16)  # the greeting
                return
        except ConnectionRefusedError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
        time.sleep(0.05)
