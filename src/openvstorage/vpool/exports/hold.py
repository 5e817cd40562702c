"""Holding all requests of a vDisk for a moment, so that several vDisks can be snapshotted at one instant.

QMP transactions do not span processes. Instead each member's requests are made to wait in its throttle filter: the
filter is moved to a group with a low rate whose account is already overdrawn. The overdraft is made by a job of the
daemon itself, on nodes of its own, before the filter is moved: no client's request can slip in between.

A hold ends by itself: 1 MiB at 100 kB/s is paid off after about ten seconds, then requests pass at that rate, so a
service that died while holding does not hang a guest. QEMU lets waiting requests through when it drains a node, as
the switch to a new layer does; they land below the switch, and the ones after it wait again. Therefore: between the
switch and the release, no command that changes the graph.
"""

from __future__ import annotations

import itertools

from openvstorage.vpool.exports import jobs
from openvstorage.vpool.exports.command import top_options
from openvstorage.vpool.exports.limits import Limits
from openvstorage.vpool.exports.session import DaemonSession

__all__ = ["clear", "drain", "hold", "release", "set_limits"]

_RATE = 100_000
_OVERDRAFT = 1 << 20
_PREFIX = "hold-"
_SOURCE, _GATE, _SINK = "hold-source", "hold-gate", "hold-sink"


async def hold(daemon: DaemonSession) -> None:
    """See :meth:`StorageDaemon.hold`. A second hold begins anew, with no gap."""
    old = await _groups(daemon)
    group = next(name for number in itertools.count(1) if (name := f"{_PREFIX}{number}") not in old)
    await daemon.execute("object-add", {"qom-type": "throttle-group", "id": group, "limits": {"bps-total": _RATE}})
    await _overdraw(daemon, group)
    await _move(daemon, group)
    for name in old:
        await daemon.execute("object-del", id=name)


async def release(daemon: DaemonSession, limits: Limits) -> None:
    """See :meth:`StorageDaemon.release`."""
    await _write_limits(daemon, limits)
    # Also without a hold: what waits for the old limits goes on.
    await _move(daemon, daemon.group)
    await clear(daemon)
    for name in await _groups(daemon):
        await daemon.execute("object-del", id=name)


async def set_limits(daemon: DaemonSession, limits: Limits) -> None:
    """See :meth:`StorageDaemon.set_limits`. A hold stays."""
    await _write_limits(daemon, limits)
    # A request that waits would wait as long as the old limits made it, be that hours.
    if not await _groups(daemon):
        await _move(daemon, daemon.group)


async def clear(daemon: DaemonSession) -> None:
    """Remove what is left of making a hold that was given up half way; the hold itself, if it was complete, stays."""
    for node in (_GATE, _SOURCE, _SINK):
        if await daemon.node_exists(node):
            await daemon.execute("blockdev-del", {"node-name": node})


async def drain(daemon: DaemonSession) -> None:
    """Let everything through that waits in the filter now, whatever the limits."""
    held = await _groups(daemon)
    await _move(daemon, held[-1] if held else daemon.group)


async def _overdraw(daemon: DaemonSession, group: str) -> None:
    """Read 1 MiB, in one request, through a filter of the group; the first request of a group always passes."""
    for options in (
        # Not known to read as zeroes: the job would then not read at all.
        {"driver": "null-co", "node-name": _SOURCE, "size": _OVERDRAFT, "read-zeroes": False},
        {"driver": "throttle", "node-name": _GATE, "throttle-group": group, "file": _SOURCE},
        {"driver": "null-co", "node-name": _SINK, "size": _OVERDRAFT},
    ):
        await daemon.execute("blockdev-add", options)
    job = {"job-id": "hold", "device": _GATE, "target": _SINK, "sync": "full", "auto-dismiss": False}
    await jobs.run(daemon, "blockdev-backup", job, None)
    for node in (_GATE, _SOURCE, _SINK):
        await daemon.execute("blockdev-del", {"node-name": node})


async def _write_limits(daemon: DaemonSession, limits: Limits) -> None:
    await daemon.execute("qom-set", path=f"/objects/{daemon.group}", property="limits", value=limits.as_qmp())


async def _groups(daemon: DaemonSession) -> list[str]:
    """Ids of the groups that holds have made."""
    objects = await daemon.execute("qom-list", path="/objects")
    return sorted(item["name"] for item in objects if item["name"].startswith(_PREFIX))


async def _move(daemon: DaemonSession, group: str) -> None:
    """Put the filter into a group. This drains it, which restarts the requests that wait."""
    async with jobs.paused(daemon):
        below = await daemon.below_top()
        options = top_options(group, below, read_only=await daemon.read_only())
        await daemon.execute("blockdev-reopen", options=[options])
