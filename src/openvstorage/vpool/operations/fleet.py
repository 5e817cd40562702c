"""The storage daemons of this node: who serves which vDisk right now.

The fleet knows processes and listening sockets, not why they run. The listening socket of an export is held here as
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
from openvstorage.vpool.exports.tls import ServerTls
from openvstorage.vpool.operations.errors import NotFenced

log = logging.getLogger(__name__)

#: It has ten seconds to end by itself, then it is killed; only one that waits for a hung disk outlives that.
STOP_TIMEOUT_SECONDS = 20.0
#: A machine that starts again has all its daemons to start: a few at a time start sooner than all at once.
STARTS_AT_ONCE = 8


class Fleet:
    """Storage daemons by vDisk guid.

    :param run_dir: short directory for QMP sockets and pid files.
    :param log_dir: where the daemons' output goes.
    :ivar tls: what daemons that serve clients are started with; None for plain NBD.
    """

    def __init__(self, build: QemuBuild, run_dir: Path, log_dir: Path) -> None:
        self.run_dir = run_dir
        self.tls: ServerTls | None = None
        self._build = build
        self._log_dir = log_dir
        self._daemons: dict[str, StorageDaemon] = {}
        self._listeners: dict[str, socket.socket] = {}
        self._watchers: dict[str, asyncio.Task[None]] = {}
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE)
        self.on_death: Callable[[str], None] = lambda _vdisk: None

    def get(self, vdisk: str) -> StorageDaemon | None:
        """:returns: the vDisk's daemon if it is alive."""
        daemon = self._daemons.get(vdisk)
        return daemon if daemon is not None and daemon.alive() else None

    def serving(self) -> dict[str, StorageDaemon]:
        """:returns: all living daemons by vDisk guid."""
        return {vdisk: daemon for vdisk, daemon in self._daemons.items() if daemon.alive()}

    async def launch(
        self,
        vdisk: str,
        *,
        epoch: int,
        blockdevs: Sequence[Mapping[str, Any]],
        top: str,
        limits: Limits,
        listens: bool = False,
        exports: Sequence[NbdExport] = (),
        admitted: Sequence[str] = (),
    ) -> StorageDaemon:
        """Start a daemon. Its exports are there before the first client is accepted.

        :param listens: whether it serves the port of :meth:`listen`; a daemon for a merge serves nobody.
        :param admitted: with TLS the distinguished names of the certificates that are let in.
        :raises ExportsError: it does not start.
        """
        async with self._starts:
            daemon = await StorageDaemon.launch(
                self._build.storage_daemon,
                self.run_dir,
                self._log_of(vdisk),
                vdisk=vdisk,
                epoch=epoch,
                listener=self._listeners[vdisk] if listens else None,
                blockdevs=blockdevs,
                top=top,
                limits=limits,
                exports=exports,
                tls=self.tls if listens else None,
                admitted=admitted,
            )
        self._keep(vdisk, daemon)
        return daemon

    def listen(self, vdisk: str, address: str, port: int) -> bool:
        """Have the listening socket of a vDisk's export. :returns: False if another process has the port."""
        held = self._listeners.get(vdisk)
        if held is not None and held.getsockname()[:2] == (address, port):
            return True
        try:
            opened = listen(address, port)
        except PortTaken:
            return False
        if held is not None:
            held.close()
        self._listeners[vdisk] = opened
        return True

    def with_old_certificate(self) -> list[str]:
        """:returns: the vDisks whose daemons serve with another certificate than the current one."""
        current = self.tls.certificate if self.tls is not None else None
        return [vdisk for vdisk, daemon in self.serving().items() if daemon.certificate not in (None, current)]

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

    async def adopt(self, vdisk: str, *, epoch: int, identity: Identity, serves: bool) -> StorageDaemon:
        """Take over a daemon that an earlier service process started.

        :raises NotOurs: something about it differs; it is left alone.
        :raises DaemonGone: it has died.
        """
        daemon = await StorageDaemon.adopt(self.run_dir, vdisk=vdisk, epoch=epoch, identity=identity)
        if serves:
            try:
                self._listeners[vdisk] = daemon.take_listener()
            except ListenerUnavailable as error:
                log.warning("vDisk %s: %s; clients will see one reconnect when its daemon dies", vdisk, error)
        self._keep(vdisk, daemon)
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

    async def stop(self, vdisk: str) -> None:
        """Stop the vDisk's daemon and close its listening socket; nothing to stop is fine. Returns when it is dead.

        :raises NotFenced: it does not die.
        """
        await self.stop_daemon(vdisk)
        listener = self._listeners.pop(vdisk, None)
        if listener is not None:
            listener.close()

    async def stop_daemon(self, vdisk: str, *, kill: bool = False) -> None:
        """The same, but clients may go on knocking: the listening socket stays open for the next daemon.

        :raises NotFenced: it does not even die when it is killed; it is still counted as alive then.
        """
        daemon = self._daemons.get(vdisk)
        if daemon is None:
            return
        watcher = self._watchers.pop(vdisk, None)
        if watcher is not None:
            watcher.cancel()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_SECONDS):
                await (daemon.kill() if kill else daemon.stop())
        except TimeoutError:
            raise NotFenced(vdisk=vdisk) from None
        finally:
            if daemon.alive():  # whoever gave up waiting must not take it for dead
                self._keep(vdisk, daemon)
            else:
                self._daemons.pop(vdisk, None)

    def drop_log(self, vdisk: str) -> None:
        """Remove what the daemons of a vDisk that is gone have printed; nothing happens while one of them lives."""
        if self.get(vdisk) is None:
            self._log_of(vdisk).unlink(missing_ok=True)

    def drop_logs_but(self, known: Collection[str]) -> None:
        """:meth:`drop_log` of every vDisk but these. Call while no daemons are started but for these."""
        for path in self._log_dir.glob(self._log_of("*").name):
            if path.stem not in known:
                self.drop_log(path.stem)

    def _log_of(self, vdisk: str) -> Path:
        return self._log_dir / f"{vdisk}.log"

    async def detach(self) -> None:
        """Let go of all daemons; they live on for the next service process."""
        for watcher in self._watchers.values():
            watcher.cancel()
        self._watchers.clear()
        for daemon in self._daemons.values():
            await daemon.detach()
        self._daemons.clear()
        for listener in self._listeners.values():
            listener.close()
        self._listeners.clear()

    def _keep(self, vdisk: str, daemon: StorageDaemon) -> None:
        self._daemons[vdisk] = daemon
        self._watchers[vdisk] = asyncio.create_task(self._watch(vdisk, daemon), name=f"watch-{vdisk}")

    async def _watch(self, vdisk: str, daemon: StorageDaemon) -> None:
        await daemon.exited().wait()
        log.warning("the storage daemon of vDisk %s (pid %d) has died", vdisk, daemon.identity.pid)
        if self._daemons.get(vdisk) is daemon:
            del self._daemons[vdisk]
            self._watchers.pop(vdisk, None)
            try:
                await daemon.detach()
            except ExportsError:
                log.debug("closing the monitor of a dead daemon", exc_info=True)
            self.on_death(vdisk)
