"""One storage daemon: started or adopted, asked through QMP, stopped or killed, watched until it ends.

A daemon outlives the service that started it. It belongs to one vDisk and one epoch; its throttle group's id says
which. All methods are coroutines of one event loop and may run side by side, but the caller keeps changes of one
vDisk's graph apart (its lock on the vDisk).
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from openvstorage.vpool.exports import command, graph, hold, jobs, nbd, sockets, tls
from openvstorage.vpool.exports.command import GUARD, TOP, Export
from openvstorage.vpool.exports.errors import (
    DaemonGone,
    ImageLocked,
    LaunchFailed,
    ListenerUnavailable,
    NotOurs,
    QmpError,
    QmpInterrupted,
    UnknownNode,
)
from openvstorage.vpool.exports.identity import Identity
from openvstorage.vpool.exports.limits import Limits
from openvstorage.vpool.exports.monitor import MonitorLost
from openvstorage.vpool.exports.run_files import RunFiles
from openvstorage.vpool.exports.session import DaemonSession
from openvstorage.vpool.exports.spawn import Output, reason_of, spawn
from openvstorage.vpool.exports.tls import ServerTls

__all__ = ["StorageDaemon"]

_START_TIMEOUT = 30.0
_ADOPT_TIMEOUT = 5.0
#: Between two looks whether the new process has made its monitor socket.
_START_POLL = 0.005
_LOCK_RETRY = 0.1


class StorageDaemon(DaemonSession):
    """A living storage daemon. Made by :meth:`launch` or :meth:`adopt`.

    :ivar certificate: name of the certificate that it serves with, see :class:`tls.ServerTls`; None without TLS.
    """

    certificate: str | None = None

    # -- starting and finding ------------------------------------------------------------------------------------

    @classmethod
    async def launch(
        cls,
        program: Path,
        run_dir: Path,
        log_file: Path,
        *,
        vdisk: str,
        epoch: int,
        listener: socket.socket | None,
        blockdevs: Sequence[Mapping[str, Any]],
        top: str,
        limits: Limits,
        exports: Sequence[Export] = (),
        tls: ServerTls | None = None,
        admitted: Sequence[str] = (),
        objects: Sequence[Mapping[str, Any]] = (),
        lock_patience: float = 5.0,
        outlives: bool = True,
    ) -> Self:
        """Start a daemon and wait until it serves. It runs in a session of its own.

        :param program: qemu-storage-daemon.
        :param run_dir: an existing directory with a short name, for the monitor socket and the pid file.
        :param log_file: its output is appended here; made with mode 0600.
        :param epoch: with ``vdisk`` names the daemon: no two of the same may live at once.
        :param listener: the NBD server's listening socket (see :func:`listener.listen`), which stays the caller's
            too; None for a daemon without a server.
        :param blockdevs: ``blockdev-add`` arguments, base first; each names its node, format and ``discard``.
        :param top: the node that the filter ``top`` is put on; it is read-only if that one is.
        :param exports: there before the first client is accepted, also one that waited in the listener's backlog.
        :param tls: what the NBD server proves itself with; None for plain NBD, which belongs on loopback only.
        :param admitted: with TLS the first value of :meth:`admit`.
        :param objects: ``object-add`` arguments that the block nodes need.
        :param lock_patience: seconds to try again while a file is locked: the lock of a killed daemon stays for some
            milliseconds.
        :param outlives: whether it lives on when this process ends.
        :raise ImageLocked: a file is still open for writing in another process.
        :raise LaunchFailed: anything else; then no process and no file is left behind.
        """
        below = next((options for options in blockdevs if options.get("node-name") == top), None)
        if below is None:
            raise LaunchFailed(vdisk=vdisk, reason=f"no block node is named {top}")
        group = command.group_id(vdisk, epoch)
        nodes = [*blockdevs, command.top_options(group, top, read_only=bool(below.get("read-only", False)))]
        fds = () if listener is None else (listener.fileno(),)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + lock_patience
        while True:
            files = _free_run_files(run_dir, vdisk, epoch)
            words = command.arguments(
                files,
                group=group,
                limits=limits,
                blockdevs=nodes,
                server_fds=fds,
                exports=exports,
                tls=tls,
                admitted=admitted,
                objects=objects,
            )
            try:
                pid, said = spawn([str(program), *words], log_file, fds, outlives=outlives)
            except OSError as error:
                raise LaunchFailed(vdisk=vdisk, reason=reason_of(error)) from None
            daemon = cls(files, vdisk=vdisk, epoch=epoch, identity=Identity.of_child(pid), child=True)
            try:
                await daemon._wait_until_up(said)
            except ImageLocked:
                if loop.time() >= deadline:
                    raise
                await asyncio.sleep(_LOCK_RETRY)
            except BaseException:
                await asyncio.shield(daemon.kill())
                raise
            else:
                daemon.remember(nodes)
                daemon.certificate = tls.certificate if tls is not None and fds else None
                return daemon

    async def _wait_until_up(self, said: Output) -> None:
        """Wait for the greeting, which comes after the whole command line was carried out."""
        deadline = asyncio.get_running_loop().time() + _START_TIMEOUT
        while not self._ended.is_set():
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                raise LaunchFailed(vdisk=self.vdisk, reason=f"no answer in {_START_TIMEOUT:g} s")
            try:
                if self._files.monitor.exists():
                    await self._monitor.open(left)
                    return
            except MonitorLost:
                pass  # not listening yet, or ending: the next turn tells
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._ended.wait(), _START_POLL)
        failure = ImageLocked if said.tells_of_a_lock() else LaunchFailed
        raise failure(vdisk=self.vdisk, reason=said.text())

    @classmethod
    async def adopt(
        cls,
        run_dir: Path,
        *,
        vdisk: str,
        epoch: int,
        identity: Identity,
        blockdevs: Sequence[Mapping[str, Any]] = (),
    ) -> Self:
        """Take over a living daemon that an earlier process started.

        Block jobs that were running are cancelled, or dismissed if they had ended: look at the graph. A hold stays
        until :meth:`release`.

        :param identity: as recorded at its launch.
        :param blockdevs: options of nodes that were added after its launch, as far as they are to be flushed.
        :raise DaemonGone: that process has ended (also when its pid is another's by now); nothing else was touched.
        :raise NotOurs: the process lives but is not the daemon of this vDisk and epoch, its monitor does not answer
            within 5 s, or it refuses what every daemon of ours does.
        """
        files = RunFiles.of(run_dir, vdisk, epoch)
        if not identity.alive():
            raise DaemonGone(vdisk=vdisk, pid=identity.pid)
        try:
            daemon = cls(files, vdisk=vdisk, epoch=epoch, identity=identity, child=False)
        except ProcessLookupError:
            raise DaemonGone(vdisk=vdisk, pid=identity.pid) from None
        try:
            await daemon._prove_ours()
            await jobs.clear(daemon)
            await hold.clear(daemon)
            daemon.remember([*command.blockdevs_of(identity.pid), *blockdevs])
        except ProcessLookupError:
            await daemon.detach()
            raise DaemonGone(vdisk=vdisk, pid=identity.pid) from None
        except (QmpError, QmpInterrupted) as error:
            await daemon.detach()
            raise NotOurs(vdisk=vdisk, pid=identity.pid, reason=str(error)) from None
        except BaseException:
            await daemon.detach()
            raise
        return daemon

    async def _prove_ours(self) -> None:
        def refuse(reason: str) -> NotOurs:
            return NotOurs(vdisk=self.vdisk, pid=self.identity.pid, reason=reason)

        if not self._files.held_by(self.identity.pid):
            raise refuse("it does not hold the pid file")
        try:
            await self._monitor.open(_ADOPT_TIMEOUT)
            objects = await self.execute("qom-list", path="/objects")
        except (MonitorLost, PermissionError, QmpInterrupted) as error:
            if self._ended.is_set():
                raise DaemonGone(vdisk=self.vdisk, pid=self.identity.pid) from None
            raise refuse(f"its monitor does not answer: {error}") from None
        names = [str(item["name"]) for item in objects]
        if self._group not in names:
            raise refuse(f"it has no throttle group {self._group}")
        self.certificate = tls.certificate_of(names)

    # -- asking --------------------------------------------------------------------------------------------------

    async def head(self) -> str:
        """Name of the active layer's node: the one below ``top`` and ``guard``, and below a running stream's."""
        answer = await self.execute("x-debug-query-block-graph")
        node = graph.child(answer, TOP, "file") or ""
        if node == GUARD:
            node = graph.child(answer, GUARD, "image") or ""
        if node.startswith(jobs.STREAM_FILTER):
            node = graph.child(answer, node, "file") or ""
        return node

    async def clients(self) -> list[tuple[str, int]]:
        """Address and port of each connected client of the NBD server; empty without one."""
        try:
            with self.take_listener() as socket_:
                port = socket_.getsockname()[1]
            return sockets.peers(self.identity.pid, port)
        except (ListenerUnavailable, OSError):
            return []

    # -- exports -------------------------------------------------------------------------------------------------

    async def exports(self) -> dict[str, Export]:
        """The exports by name, those being deleted included."""
        return await nbd.exports(self)

    async def add_export(self, export: Export) -> None:
        """Serve a node under a name. Idempotent.

        :raise ExportConflict: an export of that name is there in another mode, of another node, or being deleted.
        :raise QmpError: no such node, or it cannot be opened in that mode.
        """
        await nbd.add_export(self, export)

    async def drop_export(self, name: str, timeout: float) -> None:
        """Disconnect the clients of an export and wait until nothing of them can be written any more. Idempotent.

        Requests that had been accepted are carried out first, whatever the QoS limits.

        :param timeout: seconds.
        :raise NotFenced: it was not gone in time. Kill the daemon to be sure.
        """
        await nbd.drop_export(self, name, timeout)

    async def cut_clients(self, timeout: float) -> None:
        """Disconnect every client, whatever export it is at and however far it has come, and wait until nothing of
        them can be written any more. The exports stay: who is admitted may connect again at once.

        :param timeout: seconds.
        :raise NotFenced: one was not gone in time, or the kernel does not allow it. Kill the daemon to be sure.
        """
        await nbd.cut_clients(self, self._process.pidfd, timeout)

    async def admit(self, admitted: Sequence[str], timeout: float) -> None:
        """With TLS let in, from the next handshake on, who has a certificate of one of these distinguished names.

        Nobody is disconnected by this: drop the export. Without TLS it does nothing.

        :param timeout: seconds.
        :raise QmpError: the daemon refused it.
        :raise QmpInterrupted: it did not answer in time.
        """
        if self.certificate is None:
            return
        try:
            async with asyncio.timeout(timeout):
                path = f"/objects/{tls.LIST_ID}"
                await self.execute("qom-set", path=path, property="rules", value=tls.rules(admitted))
        except TimeoutError:
            raise QmpInterrupted(vdisk=self.vdisk, command="qom-set") from None

    async def resize(self, size: int) -> None:
        """Make the vDisk larger.

        :param size: bytes. The caller has dropped all exports: QEMU refuses to resize what is served.
        :raise QmpError: an export is there, or the size is not possible.
        """
        await self.execute("block_resize", {"node-name": TOP, "size": size})

    # -- QoS and holding -----------------------------------------------------------------------------------------

    async def set_limits(self, limits: Limits) -> None:
        """Set the QoS limits of the running daemon; they count at once, and what waits for old ones goes on."""
        await hold.set_limits(self, limits)

    async def hold(self) -> None:
        """Let no request of any client through from now on, until :meth:`release`. See :mod:`hold`.

        After the switch to a new layer send nothing that changes the graph before the release, a ``blockdev-reopen``
        of the old layer included: QEMU lets waiting requests through, and then the instant is lost.
        """
        await hold.hold(self)

    async def release(self, limits: Limits) -> None:
        """End a hold, if there is one, and set the QoS limits. Waiting requests go on at once."""
        await hold.release(self, limits)

    # -- contents ------------------------------------------------------------------------------------------------

    async def flush(self) -> None:
        """Put everything that was written, the image's own tables included, on the disk.

        :raise UnknownNode: the active layer was added by an earlier service and not told to :meth:`adopt`.
        """
        head = await self.head()
        known = self._nodes.get(head)
        if known is None:
            raise UnknownNode(vdisk=self.vdisk, node=head)
        options = dict(known)
        backing = await self._child(head, "backing")
        if backing is not None or "backing" in options:
            options["backing"] = backing
        # Reopening flushes a node, and its tables, before anything else; nothing changes by it here.
        await self.execute("blockdev-reopen", options=[options])

    async def run_stream(
        self,
        *,
        job: str,
        head: str,
        base: str | None,
        header: str | None = None,
        on_progress: jobs.Progress | None = None,
    ) -> None:
        """Copy into a layer what it has from those below it, down to ``base``, which becomes its parent.

        Not durable before :meth:`flush`. The nodes in between stay, for the caller to delete. When the task is
        cancelled, the job is cancelled and waited for; the graph is then as before and usable.

        :param job: a job id that is free.
        :param head: node name of the layer written to.
        :param base: node name of the layer that is left below, None to copy everything.
        :param header: what the image's header shall call the base. By default QEMU writes a description of all that
            is below, which is too long for the header (1023 bytes) from a few layers on.
        :param on_progress: called with bytes done and bytes in all, about twice a second.
        :raise JobFailed: with QEMU's text.
        :raise QmpError: it could not start.
        """
        await jobs.run_stream(self, job=job, head=head, base=base, header=header, on_progress=on_progress)

    # -- ending --------------------------------------------------------------------------------------------------

    async def stop(self, timeout: float = 10) -> bool:
        """End the daemon, everything written to disk; kill it if it does not within ``timeout`` seconds. Idempotent.

        :return: whether it ended in order: what it had acknowledged is on the disk.
        """
        in_order = False
        if not self._ended.is_set():
            with contextlib.suppress(DaemonGone, QmpError, QmpInterrupted, TimeoutError):
                async with asyncio.timeout(timeout):
                    await self._flush_last()
                    await self.execute("quit")
                    await self._ended.wait()
                    in_order = True
        await self.kill()
        return in_order or self.status == 0

    async def _flush_last(self) -> None:
        """Flush while the daemon can still tell of a disk that takes no more: at its end nobody hears of that.

        What is written after this is flushed by the end itself.
        """
        if not await self.read_only():
            with contextlib.suppress(UnknownNode):
                await self.flush()


def _free_run_files(run_dir: Path, vdisk: str, epoch: int) -> RunFiles:
    """The names for a new daemon's files, cleared of what a dead one left."""
    try:
        files = RunFiles.of(run_dir, vdisk, epoch)
    except ValueError as error:
        raise LaunchFailed(vdisk=vdisk, reason=str(error)) from None
    if files.holder() is not None:
        raise LaunchFailed(vdisk=vdisk, reason=f"one of epoch {epoch} is running already")
    files.remove()
    return files
