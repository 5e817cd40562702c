"""Running QEMU's short-lived programs while the QEMU at hand is looked at."""

from __future__ import annotations

import asyncio
from pathlib import Path

from openvstorage.vpool.exports.errors import ExportsError, QemuMissing
from openvstorage.vpool.exports.identity import Identity, Process
from openvstorage.vpool.exports.spawn import Output, reason_of, spawn

__all__ = ["ProbeFailed", "must", "run"]


class ProbeFailed(ExportsError):
    """A tool failed while a feature was tried. Attributes: program, reason."""

    template = "{program}: {reason}"
    program: str
    reason: str


async def must(scratch: Path, program: Path, *words: str) -> None:
    """Run a program to its end.

    :param scratch: what it says is written to a file there.
    :raise ProbeFailed: it failed.
    :raise QemuMissing: it does not start.
    """
    status, said = await run(scratch, program, *words)
    if status:
        raise ProbeFailed(program=program.name, reason=said.text())


async def run(scratch: Path, program: Path, *words: str) -> tuple[int, Output]:
    """Exit status and output of a program that ends soon; it is killed when the task is cancelled.

    :raise QemuMissing: it does not start.
    """
    try:
        pid, said = spawn([str(program), *words], scratch / "log", outlives=False)
    except OSError as error:
        raise QemuMissing(program=str(program), reason=reason_of(error)) from None
    ended = asyncio.Event()
    process = Process(Identity.of_child(pid), child=True, on_exit=ended.set)
    try:
        await ended.wait()
    except asyncio.CancelledError:
        process.kill()
        await ended.wait()
        raise
    return process.status or 0, said
