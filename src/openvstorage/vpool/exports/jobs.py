"""Block jobs of a daemon, waited for to their end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from openvstorage.vpool.exports.errors import DaemonGone, JobFailed, QmpError
from openvstorage.vpool.exports.session import DaemonSession

__all__ = ["STREAM_FILTER", "Progress", "clear", "finish", "paused", "run", "run_stream"]

#: Called with what a job has done and what it has to do in all.
Progress = Callable[[int, int], None]

#: How the names of the nodes begin that streams put above the layer they write to, while they run.
STREAM_FILTER = "stream-filter-"

#: Seconds between two looks at a job whose events may have been missed.
_LOOK = 0.5


async def run_stream(
    daemon: DaemonSession,
    *,
    job: str,
    head: str,
    base: str | None,
    header: str | None,
    on_progress: Progress | None,
) -> None:
    """See :meth:`StorageDaemon.run_stream`."""
    arguments: dict[str, Any] = {"job-id": job, "device": head, "auto-dismiss": False}
    arguments["filter-node-name"] = f"{STREAM_FILTER}{job}"
    if base is not None:
        arguments["base-node"] = base
        if header is not None:
            arguments["backing-file"] = header
    await run(daemon, "block-stream", arguments, on_progress)


async def run(daemon: DaemonSession, command: str, arguments: dict[str, Any], on_progress: Progress | None) -> None:
    """Start a job with ``auto-dismiss`` false and wait for its end.

    :raise JobFailed: it ended with an error.
    :raise QmpError: it could not start.
    """
    job = arguments["job-id"]
    try:
        async with daemon.graph_changes:
            await daemon.execute(command, arguments)
        await finish(daemon, job, on_progress)
    except asyncio.CancelledError:
        # The start may have been cancelled too, with or without a job. It has to be gone before anybody goes on.
        await _to_the_end(cancel(daemon, job))
        raise


async def finish(daemon: DaemonSession, job: str, on_progress: Progress | None = None) -> None:
    """Wait until a job has ended and dismiss it.

    :raise JobFailed: it ended with an error, or was cancelled.
    """
    with daemon.monitor.events("JOB_STATUS_CHANGE") as events:
        while True:
            info = await _info(daemon, job)
            if info is None:
                raise JobFailed(job=job, reason="there is no such job")
            if info["status"] == "concluded":
                break
            if on_progress is not None:
                on_progress(info["current-progress"], info["total-progress"])
            async for event in events.within(_LOOK):
                if event["data"] == {"id": job, "status": "concluded"}:
                    break
    await daemon.execute("job-dismiss", id=job)
    if "error" in info:
        raise JobFailed(job=job, reason=info["error"])


async def cancel(daemon: DaemonSession, job: str) -> None:
    """Cancel a job and wait until it is gone; nothing happens if there is none or the daemon has ended."""
    with contextlib.suppress(DaemonGone):
        if await _info(daemon, job) is None:
            return
        # Refused when it has just ended by itself.
        with contextlib.suppress(QmpError):
            await daemon.execute("job-cancel", id=job)
        with contextlib.suppress(JobFailed):
            await finish(daemon, job)


@contextlib.asynccontextmanager
async def paused(daemon: DaemonSession) -> AsyncIterator[None]:
    """No job begins, ends or fails meanwhile, so that none adds or removes a node above a layer.

    QEMU lets a command put back a node that a job has just removed, and the vDisk's requests fail there.
    """
    async with daemon.graph_changes:
        stopped = []
        try:
            for info in await daemon.execute("query-jobs"):
                # Refused by a job that has just ended.
                with contextlib.suppress(QmpError):
                    await daemon.execute("job-pause", id=info["id"])
                    stopped.append(info["id"])
                    await _at_rest(daemon, info["id"])
            yield
        finally:
            await _to_the_end(_resume(daemon, stopped))


async def clear(daemon: DaemonSession) -> None:
    """End all jobs that an earlier service has left, and those it has left paused."""
    for info in await daemon.execute("query-jobs"):
        await cancel(daemon, info["id"])


async def _at_rest(daemon: DaemonSession, job: str) -> None:
    """Wait until a job that was asked to pause does nothing any more."""
    with daemon.monitor.events("JOB_STATUS_CHANGE") as events:
        while True:
            info = await _info(daemon, job)
            if info is None or info["status"] in ("paused", "standby", "concluded"):
                return
            async for event in events.within(_LOOK):
                if event["data"]["id"] == job:
                    break


async def _resume(daemon: DaemonSession, paused_jobs: list[str]) -> None:
    for job in paused_jobs:
        with contextlib.suppress(QmpError, DaemonGone):
            await daemon.execute("job-resume", id=job)


async def _info(daemon: DaemonSession, job: str) -> dict[str, Any] | None:
    for info in await daemon.execute("query-jobs"):
        if info["id"] == job:
            return dict(info)
    return None


async def _to_the_end(work: Coroutine[Any, Any, None]) -> None:
    """Finish a coroutine although this task may be cancelled again meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    task.result()
