"""A client that writes to a vDisk and keeps a record of what was acknowledged when.

A program of its own, because libnbd's Python module belongs to the system's Python:
``python3 writer.py URI LOG RECORD WRITER SEED FIRST END FLUSH_EVERY PER_SECOND``. It works on the sectors from FIRST to
END until its standard input ends, then writes its record: a JSON object per request, in the order of their beginning.
``LOG`` is the device's log, whose number of entries is the time that counts.

Requests under way together never touch the same 128 KiB, so that for each sector their order is certain. A connection
that ends is made again, and what was not answered is sent again, as QEMU does.
"""

from __future__ import annotations

import errno
import json
import os
import random
import select
import struct
import sys
import time

import nbd

SECTOR = 512
AREA = 256  # sectors
DEPTH = 8
STAMP = struct.Struct("<QQ")
PATIENCE_SECONDS = 120.0
DISCONNECTED = (errno.ENOTCONN, errno.ESHUTDOWN, errno.ECONNRESET, errno.EPIPE)


class Record(dict):
    """A request: kind, tag, first sector, number of sectors, whether it was FUA; when it began and ended, each as
    entries of the log and nanoseconds."""


class Writer:
    """See the module."""

    def __init__(self, uri: str, log: str, writer: int, seed: int, first: int, end: int, flush_every: int) -> None:
        self._uri = uri
        self._log = os.open(log, os.O_RDONLY)
        self._chance = random.Random(seed)
        self._writer = writer
        self._areas = range(first // AREA, end // AREA)
        self._flush_every = flush_every
        self._pending: list[Record] = []
        self._failure = ""
        self.records: list[Record] = []
        self._connect()

    def submit(self) -> None:
        """Begin a request. Waits while all places are taken."""
        self._wait_for_less_than(DEPTH)
        number = len(self.records) + 1
        if number > 1 and self._chance.randrange(self._flush_every) == 0:
            self._begin(Record(kind="flush", tag=0, first=0, sectors=0, fua=False))
            return
        busy = {record["first"] // AREA for record in self._pending if record["kind"] != "flush"}
        at = self._chance.choice([area for area in self._areas if area not in busy]) * AREA
        first = at + self._chance.choice((0, 0, self._chance.randrange(AREA), self._chance.randrange(0, AREA, 8)))
        sectors = min(at + AREA - first, self._chance.choice((1, 1, 3, 8, 8, 8, 16, 64, AREA)))
        kind = self._chance.choices(("write", "zero", "punch", "trim"), (82, 6, 6, 6))[0]
        tag = self._writer << 32 | number if kind == "write" else 0
        self._begin(Record(kind=kind, tag=tag, first=first, sectors=sectors, fua=self._chance.random() < 0.05))

    def drain(self) -> None:
        """Wait for the requests under way."""
        self._wait_for_less_than(1)

    def pause(self, until: float) -> None:
        """Take answers until then."""
        while (left := until - time.monotonic()) > 0:
            self._poll(max(1, int(left * 1000)))

    def _wait_for_less_than(self, requests: int) -> None:
        while len(self._pending) >= requests:
            self._poll(1000)

    def _poll(self, milliseconds: int) -> None:
        if self._nbd.aio_is_closed() or self._nbd.aio_is_dead():
            self._connect()
        try:
            self._nbd.poll(milliseconds)
        except nbd.Error:
            if not (self._nbd.aio_is_closed() or self._nbd.aio_is_dead()):
                raise
        if self._failure:
            sys.exit(self._failure)

    def _connect(self) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            self._nbd = nbd.NBD()
            try:
                self._nbd.connect_uri(self._uri)
                break
            except nbd.Error:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
        for record in self._pending:
            self._send(record)

    def _begin(self, record: Record) -> None:
        record["begun"] = self._now()
        self.records.append(record)
        self._pending.append(record)
        self._send(record)

    def _send(self, record: Record) -> None:
        """Hand it over; if the connection has ended, it is sent again with the next one."""
        offset, length = record["first"] * SECTOR, record["sectors"] * SECTOR
        flags = nbd.CMD_FLAG_FUA if record["fua"] else 0
        completion = self._completion(record)
        try:
            if record["kind"] == "flush":
                self._nbd.aio_flush(completion)
            elif record["kind"] == "write":
                sectors = range(record["first"], record["first"] + record["sectors"])
                data = b"".join(STAMP.pack(record["tag"], sector) * 32 for sector in sectors)
                self._nbd.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(data)), offset, completion, flags)
            elif record["kind"] == "trim":
                self._nbd.aio_trim(length, offset, completion, flags)
            else:
                flags |= nbd.CMD_FLAG_NO_HOLE if record["kind"] == "zero" else 0
                self._nbd.aio_zero(length, offset, completion, flags)
        except nbd.Error:
            if not (self._nbd.aio_is_closed() or self._nbd.aio_is_dead()):
                raise

    def _completion(self, record: Record):
        def completed(error) -> int:
            if error.value == 0:
                record["ended"] = self._now()
                self._pending.remove(record)
            elif error.value not in DISCONNECTED:
                self._failure = f"{record} failed: {os.strerror(error.value)}"
            return 1

        return completed

    def _now(self) -> list[int]:
        return [struct.unpack_from("<Q", os.pread(self._log, 24, 0), 16)[0], time.monotonic_ns()]


def main(words: list[str]) -> None:
    uri, log, out = words[:3]
    *rest, per_second = [int(word) for word in words[3:]]
    writer = Writer(uri, log, *rest)
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], 0)[0]:
        writer.submit()
        due = max(due + 1 / per_second, time.monotonic() - 1)
        writer.pause(due)
    writer.drain()
    with open(out, "w") as file:
        for record in writer.records:
            file.write(json.dumps(record) + "\n")


main(sys.argv[1:])
