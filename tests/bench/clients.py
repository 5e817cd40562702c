"""Many clients at once: does any call fail, and what does a crowd cost each of them?"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.bench.figures import Fact, Results, Series
from tests.bench.pool import Pool, running

from openvstorage.client import Client, OpenvStorageError

CHAPTER = "clients at once"
GIB = 1024**3


def measure(work: Path, *, clients: int, rounds: int) -> Results:
    """Have one client alone and then many at once go through the life of vDisks.

    :param work: an empty directory on the file system to measure.
    :param rounds: how many lives each client of the crowd sees; the one alone sees as many as three of them.
    """
    results = Results()
    with running(work / "clients") as pool:
        for number, count in ((1, 3 * rounds), (clients, rounds)):
            crowd = _Crowd(pool, number, count)
            crowd.run()
            results.facts += crowd.facts()
    return results


class _Crowd:
    """Some clients at work, each in a thread of its own with connections of its own."""

    def __init__(self, pool: Pool, clients: int, rounds: int) -> None:
        self._pool = pool
        self._clients = clients
        self._rounds = rounds
        self._lock = threading.Lock()
        self._calls = Series("calls", "ms")
        self._errors: Counter[str] = Counter()
        self._seconds = 0.0

    def run(self) -> None:
        """Let all of them begin at once and wait until the last has ended."""
        start = threading.Barrier(self._clients + 1)
        with ThreadPoolExecutor(self._clients) as threads:
            ends = [threads.submit(self._one, start, number) for number in range(self._clients)]
            start.wait()
            started = time.perf_counter()
            for end in ends:
                end.result()
            self._seconds = time.perf_counter() - started

    def facts(self) -> list[Fact]:
        """:returns: errors, throughput and the times of single calls."""
        who = "1 client" if self._clients == 1 else f"{self._clients} clients"
        errors = sum(self._errors.values())
        return [
            Fact(CHAPTER, f"{who}: errors", errors, _words(self._errors), "none", errors == 0),
            Fact(CHAPTER, f"{who}: calls", len(self._calls.samples)),
            Fact(CHAPTER, f"{who}: throughput", round(len(self._calls.samples) / self._seconds, 1), "calls/s"),
            Fact(CHAPTER, f"{who}: a call, median", round(self._calls.median, 1), "ms"),
            Fact(CHAPTER, f"{who}: a call, 95 of 100 within", round(self._calls.percentile(0.95), 1), "ms"),
        ]

    def _one(self, start: threading.Barrier, number: int) -> None:
        with Client.from_status(self._pool.service.status) as client:
            client.features()  # logs in
            start.wait()
            for turn in range(self._rounds):
                try:
                    for call in _life(client, self._pool.vpool, f"crowd-{self._clients}-{number}-{turn}"):
                        began = time.perf_counter()
                        call()
                        with self._lock:
                            self._calls.samples.append((time.perf_counter() - began) * 1000)
                except OpenvStorageError as error:
                    with self._lock:
                        self._errors[type(error).__name__] += 1


def _life(client: Client, vpool: str, name: str) -> Iterator[Callable[[], object]]:
    """The calls of a vDisk's life; each is made before the next is asked for."""
    made: dict[str, str] = {}
    yield lambda: made.update(vdisk=client.vdisks.create(name, GIB, vpool))
    yield lambda: client.vdisks.find(name, vpool)
    yield lambda: made.update(snapshot=client.snapshots.create(made["vdisk"], name))
    yield lambda: made.update(clone=client.vdisks.clone(made["vdisk"], f"{name}-clone", made["snapshot"]))
    yield lambda: made.update(grant=client.grants.create(made["clone"], "bench", name).guid)
    yield lambda: client.vdisks.extend(made["clone"], 2 * GIB)
    yield lambda: client.grants.revoke(made["grant"])
    yield lambda: client.snapshots.delete(made["vdisk"], made["snapshot"])
    yield lambda: client.vdisks.delete(made["vdisk"])
    yield lambda: client.vdisks.delete(made["clone"])


def _words(errors: Counter[str]) -> str:
    return ", ".join(f"{number} {name}" for name, number in errors.items())
