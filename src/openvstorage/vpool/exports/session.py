"""The process of a storage daemon and the QMP session with it: asked, watched until it ends, killed, or left alone."""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
from collections.abc import Mapping, Sequence
from typing import Any

from openvstorage.vpool.exports import command, graph, listener
from openvstorage.vpool.exports.command import TOP
from openvstorage.vpool.exports.errors import DaemonGone, QmpError, QmpInterrupted
from openvstorage.vpool.exports.identity import Identity, Process
from openvstorage.vpool.exports.monitor import Monitor, MonitorLost
from openvstorage.vpool.exports.run_files import RunFiles

__all__ = ["DaemonSession"]

_RECONNECT_TIMEOUT = 5.0
#: For any command: what takes long is a job, but switching layers drains and flushes, and the disk may be slow.
_ANSWER_TIMEOUT = 60.0


class DaemonSession:
    """A storage daemon's process, and what it answers; what is done with it is the other modules' matter.

    :ivar identity: its process.
    :ivar vdisk: guid of the vDisk it serves.
    :ivar epoch: the epoch it was started in.
    :ivar graph_changes: held where nodes above a layer are added, removed or counted on.
    """

    def __init__(self, files: RunFiles, *, vdisk: str, epoch: int, identity: Identity, child: bool) -> None:
        self.identity = identity
        self.vdisk = vdisk
        self.epoch = epoch
        self._files = files
        self._group = command.group_id(vdisk, epoch)
        self._nodes: dict[str, dict[str, Any]] = {}
        self.graph_changes = asyncio.Lock()
        self._ended = asyncio.Event()
        self._detached = False
        self._ending: asyncio.Task[None] | None = None
        self._process = Process(identity, child=child, on_exit=self._process_ended)
        self._monitor = Monitor(files.monitor, identity.pid)

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None, /, **more: Any) -> Any:
        """Run a QMP command and give what it returns.

        :param arguments: its arguments; those without a ``-`` may be given as keywords instead.
        :raise QmpError: the daemon refused it.
        :raise DaemonGone: it has ended; the command may have been carried out before.
        :raise QmpInterrupted: the session broke while the process lives, and the next call opens it again; or it does
            not answer, as one whose disk hangs.
        """
        merged = {**(arguments or {}), **more}
        try:
            await self._monitor.open(_RECONNECT_TIMEOUT)
            async with asyncio.timeout(_ANSWER_TIMEOUT):
                result = await self._monitor.execute(command, merged)
        except TimeoutError:
            raise QmpInterrupted(vdisk=self.vdisk, command=command) from None
        except (MonitorLost, PermissionError):
            # An ending process closes its socket some moments before it is gone.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), 2.0)
            if self._ended.is_set():
                raise DaemonGone(vdisk=self.vdisk, pid=self.identity.pid) from None
            raise QmpInterrupted(vdisk=self.vdisk, command=command) from None
        if command == "blockdev-add":
            self.remember([merged])
        elif command == "blockdev-reopen":
            self.remember(merged["options"])
        elif command == "blockdev-del":
            self._nodes.pop(merged["node-name"], None)
        return result

    async def graph_files(self) -> list[str]:
        """The names of all image files the daemon has open, sorted."""
        return graph.files(await self.execute("query-named-block-nodes", flat=True))

    async def node_exists(self, name: str) -> bool:
        """Whether there is a block node of that name."""
        nodes = await self.execute("query-named-block-nodes", flat=True)
        return any(node["node-name"] == name for node in nodes)

    async def remove_node(self, name: str) -> bool:
        """Close a block node. Gives False when something still uses it; it stays then.

        :raise DaemonGone: the daemon has ended.
        """
        try:
            await self.execute("blockdev-del", {"node-name": name})
        except QmpError:
            return False
        return True

    def remember(self, blockdevs: Sequence[Mapping[str, Any]]) -> None:
        """Tell how nodes are opened that an earlier service added: who reopens one has to name all its options."""
        for node in blockdevs:
            if "node-name" in node:
                self._nodes[node["node-name"]] = dict(node)

    def options_of(self, name: str) -> dict[str, Any] | None:
        """How a block node was opened, None for one that is not known here."""
        return self._nodes.get(name)

    def alive(self) -> bool:
        """Whether the process lives, as far as the event loop has noticed."""
        return not self._ended.is_set()

    async def below_top(self) -> str:
        """Name of the node directly below ``top``; for this room's own modules."""
        return await self._child(TOP, "file") or ""

    async def read_only(self) -> bool:
        """Whether the filter ``top`` is read-only: a daemon that serves a frozen layer."""
        nodes = await self.execute("query-named-block-nodes", flat=True)
        return any(node["ro"] for node in nodes if node["node-name"] == TOP)

    async def _child(self, node: str, edge: str) -> str | None:
        return graph.child(await self.execute("x-debug-query-block-graph"), node, edge)

    def take_listener(self) -> socket.socket:
        """A handle of one's own on the daemon's listening socket, to be kept over its end.

        :raise ListenerUnavailable: it has none, or the kernel does not allow it.
        """
        return listener.take_listener(self.identity.pid, self._process.pidfd)

    @property
    def group(self) -> str:
        """Id of the throttle group that carries the QoS limits."""
        return self._group

    def exited(self) -> asyncio.Event:
        """Set when the process has ended and its files are removed, however it came to that."""
        return self._ended

    @property
    def status(self) -> int | None:
        """Exit status after the end (negative: killed by that signal); None before, and for an adopted daemon."""
        return self._process.status

    async def kill(self) -> None:
        """Kill the daemon and wait until it has ended. Idempotent. Flushed data is safe.

        :raise RuntimeError: it was detached before.
        """
        if self._detached:
            raise RuntimeError(f"process {self.identity.pid} was detached and is not ours to end")
        self._process.kill()
        await self._ended.wait()

    def forbid_core_dump(self) -> None:
        """No core file when the daemon dies; for one that is expected to."""
        resource.prlimit(self.identity.pid, resource.RLIMIT_CORE, (0, 0))

    async def detach(self) -> None:
        """Let the daemon live on without us. The object is of no use afterwards."""
        self._detached = not self._ended.is_set()
        self._process.let_go()
        await self._monitor.close()

    def _process_ended(self) -> None:
        self._ending = asyncio.create_task(self._clean_up())

    async def _clean_up(self) -> None:
        try:
            self._files.remove()
            await self._monitor.close()
        finally:
            self._ended.set()  # whatever became of its files, everybody who waits for its end has to learn of it

    @property
    def monitor(self) -> Monitor:
        """The QMP session, for this room's own modules."""
        return self._monitor
