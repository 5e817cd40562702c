"""Block jobs of a daemon, waited for to their end."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from openvstorage.vpool.exports.errors import DaemonGone, JobFailed, QmpError

if TYPE_CHECKING:
    from openvstorage.vpool.exports.daemon import StorageDaemon

__all__ = ["Progress", "finish", "run_stream"]

#: Called with what a job has done and what it has to do in all.
Progress = Callable[[int, int], None]

#: Seconds between two looks at a job whose events may have been missed.
_LOOK = 0.5


async def run_stream(
    daemon: StorageDaemon,
    *,
    job: str,
    head: str,
    base: str | None,
    header: str | None,
    on_progress: Progress | None,
) -> None:
    """See :meth:`StorageDaemon.run_stream`."""
    arguments: dict[str, Any] = {"job-id": job, "device": head, "auto-dismiss": False}
    if base is not None:
        arguments["base-node"] = base
        if header is not None:
            arguments["backing-file"] = header
    await run(daemon, "block-stream", arguments, on_progress)


async def run(daemon: StorageDaemon, command: str, arguments: dict[str, Any], on_progress: Progress | None) -> None:
    """Start a job with ``auto-dismiss`` false and wait for its end.

    :raise JobFailed: it ended with an error.
    :raise QmpError: it could not start.
    """
    job = arguments["job-id"]
    try:
        await daemon.execute(command, arguments)
        await finish(daemon, job, on_progress)
    except asyncio.CancelledError:
        # The start may have been cancelled too, with or without a job. It has to be gone before anybody goes on.
        await _to_the_end(cancel(daemon, job))
        raise


async def finish(daemon: StorageDaemon, job: str, on_progress: Progress | None = None) -> None:
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


async def cancel(daemon: StorageDaemon, job: str) -> None:
    """Cancel a job and wait until it is gone; nothing happens if there is none or the daemon has ended."""
    with contextlib.suppress(DaemonGone):
        if await _info(daemon, job) is None:
            return
        # Refused when it has just ended by itself.
        with contextlib.suppress(QmpError):
            await daemon.execute("job-cancel", id=job)
        with contextlib.suppress(JobFailed):
            await finish(daemon, job)


async def _info(daemon: StorageDaemon, job: str) -> dict[str, Any] | None:
    for info in await daemon.execute("query-jobs"):
        if info["id"] == job:
            return dict(info)
    return None


async def _to_the_end(work: Any) -> None:
    """Finish a coroutine although this task may be cancelled again meanwhile."""
    task = asyncio.ensure_future(work)
    while not task.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait({task})
    task.result()
