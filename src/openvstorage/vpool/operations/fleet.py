"""The storage daemons of this node: who serves what right now.

A daemon goes by the guid of its export, which for the head of a vDisk is the vDisk's. The fleet knows processes and
listening sockets, not why they run. The listening socket of an export is held here as
well as in its daemon: a client that connects while the daemon is dead waits in the backlog and is greeted by the next.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from openvstorage.vpool.exports import leftovers
from openvstorage.vpool.exports.command import Export as NbdExport
from openvstorage.vpool.exports.daemon import StorageDaemon
from openvstorage.vpool.exports.errors import ExportsError, ListenerUnavailable, NotOurs, PortTaken
from openvstorage.vpool.exports.identity import Identity, Process
from openvstorage.vpool.exports.limits import Limits
from openvstorage.vpool.exports.listener import listen
from openvstorage.vpool.exports.qemu import QemuBuild
from openvstorage.vpool.exports.tls import ClientTls, ServerTls
from openvstorage.vpool.operations.errors import NotFenced

log = logging.getLogger(__name__)

#: It has ten seconds to end by itself, then it is killed; only one that waits for a hung disk outlives that.
STOP_TIMEOUT_SECONDS = 20.0
#: A machine that starts again has all its daemons to start: a few at a time start sooner than all at once.
STARTS_AT_ONCE = 8


class Fleet:
    """Storage daemons by the guid of what they serve.

    :param run_dir: short directory for QMP sockets and pid files.
    :param log_dir: where the daemons' output goes.
    :ivar tls: what daemons that serve clients are started with; None for plain NBD.
    :ivar source_tls: by what a daemon for readers opens what another one serves with TLS.
    :ivar on_death: called with the guid of the vDisk when a daemon has died by itself.
    """

    def __init__(self, build: QemuBuild, run_dir: Path, log_dir: Path) -> None:
        self.run_dir = run_dir
        self.tls: ServerTls | None = None
        self.source_tls: ClientTls | None = None
        self._build = build
        self._log_dir = log_dir
        self._daemons: dict[str, StorageDaemon] = {}
        self._vdisks: dict[str, str] = {}
        self._listeners: dict[str, socket.socket] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE)
        self.on_death: Callable[[str], None] = lambda _vdisk: None

    def get(self, guid: str) -> StorageDaemon | None:
        """:returns: the daemon that serves it, if it is alive."""
        daemon = self._daemons.get(guid)
        return daemon if daemon is not None and daemon.alive() else None

    def serving(self) -> dict[str, StorageDaemon]:
        """:returns: all living daemons by the guid of what they serve."""
        return {guid: daemon for guid, daemon in self._daemons.items() if daemon.alive()}

    async def launch(
        self,
        guid: str,
        *,
        vdisk: str,
        epoch: int,
        blockdevs: Sequence[Mapping[str, Any]],
        top: str,
        limits: Limits,
        listens: bool = False,
        exports: Sequence[NbdExport] = (),
        admitted: Sequence[str] = (),
        objects: Sequence[Mapping[str, Any]] = (),
    ) -> StorageDaemon:
        """Start a daemon. Its exports are there before the first client is accepted.

        :param vdisk: guid of the vDisk that what it serves belongs to.
        :param listens: whether it serves the port of :meth:`listen`; a daemon for a merge serves nobody.
        :param admitted: with TLS the distinguished names of the certificates that are let in.
        :param objects: ``object-add`` arguments that the block nodes need.
        :raises ExportsError: it does not start.
        """
        async with self._starts:
            daemon = await StorageDaemon.launch(
                self._build.storage_daemon,
                self.run_dir,
                self._log_of(guid),
                vdisk=guid,
                epoch=epoch,
                listener=self._listeners[guid] if listens else None,
                blockdevs=blockdevs,
                top=top,
                limits=limits,
                exports=exports,
                tls=self.tls if listens else None,
                admitted=admitted,
                objects=objects,
            )
        self._keep(guid, vdisk, daemon)
        return daemon

    def listen(self, guid: str, address: str, port: int) -> bool:
        """Have the listening socket of an export. :returns: False if another process has the port."""
        held = self._listeners.get(guid)
        if held is not None and held.getsockname()[:2] == (address, port):
            return True
        try:
            opened = listen(address, port)
        except PortTaken:
            return False
        if held is not None:
            held.close()
        self._listeners[guid] = opened
        return True

    def with_old_certificate(self) -> list[str]:
        """:returns: what is served with another certificate than the current one, by guid."""
        current = self.tls.certificate if self.tls is not None else None
        return [guid for guid, daemon in self.serving().items() if daemon.certificate not in (None, current)]

    async def left_behind(self) -> list[leftovers.Leftover]:
        """:returns: daemons that an earlier service process seems to have left running; waits for those that it was
        just starting.
        """
        try:
            await leftovers.wait_for_starting(self.run_dir)
        except TimeoutError:
            log.error("a storage daemon that an earlier service has begun to start does not get on; its vDisk may wait")
        return leftovers.find(self.run_dir)

    def clear_run_dir(self) -> None:
        """Remove what daemons left that died while no service was there."""
        leftovers.clear(self.run_dir)

    async def adopt(self, guid: str, *, vdisk: str, epoch: int, identity: Identity, serves: bool) -> StorageDaemon:
        """Take over a daemon that an earlier service process started.

        :raises NotOurs: something about it differs; it is left alone.
        :raises DaemonGone: it has died.
        """
        daemon = await StorageDaemon.adopt(self.run_dir, vdisk=guid, epoch=epoch, identity=identity)
        if serves:
            try:
                self._listeners[guid] = daemon.take_listener()
            except ListenerUnavailable as error:
                log.warning("vDisk %s: %s; clients will see one reconnect when its daemon dies", vdisk, error)
        self._keep(guid, vdisk, daemon)
        return daemon

    async def end_process(self, vdisk: str, identity: Identity) -> None:
        """Kill a daemon that could not be adopted, by the identity that was recorded when it was started.

        :raises NotOurs: it does not end, so that nobody may take it for dead.
        """
        ended = asyncio.Event()
        try:
            process = Process(identity, child=False, on_exit=ended.set)
        except ProcessLookupError:
            return
        try:
            process.kill()
            async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                await ended.wait()
        except TimeoutError:
            raise NotOurs(vdisk=vdisk, pid=identity.pid, reason="it answers to nobody and can not be killed") from None
        finally:
            process.let_go()

    async def stop(self, guid: str) -> None:
        """Stop a daemon and close its listening socket; nothing to stop is fine. Returns when it is dead.

        :raises NotFenced: it does not die.
        """
        await self.stop_daemon(guid)
        listener = self._listeners.pop(guid, None)
        if listener is not None:
            listener.close()

    async def stop_daemon(self, guid: str, *, kill: bool = False) -> bool:
        """The same, but clients may go on knocking: the listening socket stays open for the next daemon.

        :returns: whether all that it had acknowledged is on the disk, because it ended in order.
        :raises NotFenced: it does not even die when it is killed; it is still counted as alive then.
        """
        daemon = self._daemons.get(guid)
        if daemon is None:
            return False
        vdisk = self._vdisks[guid]
        watcher = self._watchers.pop(guid, None)
        if watcher is not None:
            watcher.cancel()
        in_order = False
        try:
            async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                if kill:
                    await daemon.kill()
                else:
                    in_order = await daemon.stop()
        except TimeoutError:
            raise NotFenced(vdisk=vdisk) from None
        finally:
            if daemon.alive():  # whoever gave up waiting must not take it for dead
                self._keep(guid, vdisk, daemon)
            else:
                self._forget(guid)
        return in_order

    def drop_log(self, guid: str) -> None:
        """Remove what the daemons of something that is gone have printed; nothing happens while one of them lives."""
        if self.get(guid) is None:
            self._log_of(guid).unlink(missing_ok=True)

    def drop_logs_but(self, known: Collection[str]) -> None:
        """:meth:`drop_log` of everything but these. Call while no daemons are started but for these."""
        for path in self._log_dir.glob(self._log_of("*").name):
            if path.stem not in known:
                self.drop_log(path.stem)

    def _log_of(self, guid: str) -> Path:
        return self._log_dir / f"{guid}.log"

    async def detach(self) -> None:
        """Let go of all daemons; they live on for the next service process."""
        for watcher in self._watchers.values():
            watcher.cancel()
        self._watchers.clear()
        for daemon in self._daemons.values():
            await daemon.detach()
        self._daemons.clear()
        self._vdisks.clear()
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()

    def _keep(self, guid: str, vdisk: str, daemon: StorageDaemon) -> None:
        self._daemons[guid], self._vdisks[guid] = daemon, vdisk
        self._watchers[guid] = asyncio.create_task(self._watch(guid, vdisk, daemon), name=f"watch-{guid}")

    def _forget(self, guid: str) -> None:
        self._daemons.pop(guid, None)
        self._vdisks.pop(guid, None)

    async def _watch(self, guid: str, vdisk: str, daemon: StorageDaemon) -> None:
        await daemon.exited().wait()
        log.warning("a storage daemon of vDisk %s (pid %d) has died", vdisk, daemon.identity.pid)
        if self._daemons.get(guid) is daemon:
            self._forget(guid)
            self._watchers.pop(guid, None)
            try:
                await daemon.detach()
            except ExportsError:
                log.debug("closing the monitor of a dead daemon", exc_info=True)
            self.on_death(vdisk)
