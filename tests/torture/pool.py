"""The vPool under torture: its service, its client, its storage daemons, and what was last done to them."""

from __future__ import annotations

import os
import re
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.vpool_service import VpoolService
from tests.torture.breakage import broken_programs
from tests.torture.connection import Location, NotLetIn
from tests.torture.settings import Settings

from openvstorage.client import Client, Grant, NotFound, OpenvStorageError

__all__ = ["HOST", "Daemon", "Pool"]

HOST = "torture-host"
#: After a kill this long, what fails may fail because of it.
AFTERMATH_SECONDS = 30.0
#: How long a start of the service may take, on a machine that is busy with other things.
START_SECONDS = 240.0
_GROUP = re.compile(r"tg-(?P<vdisk>[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12})-\d+")


@dataclass(frozen=True)
class Daemon:
    """A storage daemon of the pool. :ivar serves: the guid that it was started for."""

    pid: int
    serves: str


class _Service(VpoolService):
    """With options of its own. :param options: of the command."""

    def __init__(self, data: Path, options: list[str]) -> None:
        super().__init__(data)
        self._options = options


class Pool:
    """See above. Use it by ``with``. Thread-safe.

    :param directory: for the data directory and what is beside it.
    :ivar vpool_guid: of the only vPool there is.
    """

    def __init__(self, settings: Settings, directory: Path) -> None:
        self.settings = settings
        self.data = directory / "data"
        self.tls = directory / "host-certificate" if settings.tls else None
        self.qemu_dir = settings.qemu_dir
        if settings.broken:
            self.qemu_dir = broken_programs(settings.broken, directory / "broken-qemu", settings.qemu_dir)
        options = ["--edge-tls" if settings.tls else "--no-edge-tls"]
        if self.qemu_dir is not None:
            options += ["--qemu-dir", str(self.qemu_dir)]
        self._service = _Service(self.data, options)
        self.vpool_guid = ""
        self._changing = threading.Lock()
        self._disturbed_at = -AFTERMATH_SECONDS
        self.client: Client

    def __enter__(self) -> Pool:
        self._service.start()
        if self.tls is not None:
            self._service.enroll(HOST, self.tls)
        self.vpool_guid = str(self._service.status["vpool_guid"])
        # longer than a start takes, so that only a service that does not come back fails a call
        self.client = Client.from_status(self._service.status, patience=2 * START_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._service.stop()

    def restart_service(self, how: signal.Signals) -> None:
        """End the service by a signal and start it again. Blocks until it is healthy."""
        with self._changing:
            self._disturbed_at = time.monotonic()
            self._service.restart(how)
            self._disturbed_at = time.monotonic()

    @contextmanager
    def stopped(self, *, again: bool) -> Iterator[None]:
        """The service is stopped. :param again: start it afterwards."""
        with self._changing:
            process = self._service._process
            assert process is not None
            process.terminate()
            process.wait(timeout=60)
            yield
            if again:
                self._service.start()

    def daemons(self) -> list[Daemon]:
        """:returns: the storage daemons that work in the data directory."""
        return [Daemon(pid, serves) for pid, words in self.processes() if (serves := _serves(words))]

    def processes(self) -> Iterator[tuple[int, str]]:
        """:returns: every process that names the data directory, with its command line; the service among them."""
        mark = str(self.data).encode()
        for entry in Path("/proc").iterdir():
            try:
                command = (entry / "cmdline").read_bytes() if entry.name.isdigit() else b""
            except OSError:
                continue
            if mark in command and int(entry.name) != os.getpid():
                yield int(entry.name), command.replace(b"\0", b" ").decode(errors="replace")

    def kill(self, daemon: Daemon, report: Callable[[bool], None]) -> bool:
        """SIGKILL a storage daemon, and wait until it is dead.

        :param report: told whether it was killed by this.
        """
        self._disturbed_at = time.monotonic()
        killed = False
        try:
            descriptor = os.pidfd_open(daemon.pid)
        except ProcessLookupError:
            report(False)
            return False
        try:
            if daemon in self.daemons():
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                killed = bool(select.select([descriptor], [], [], 30)[0])
        except ProcessLookupError:
            killed = True  # it has ended in between, by whatever
        finally:
            os.close(descriptor)
            report(killed)
        self._disturbed_at = time.monotonic()
        return killed

    def disturbed(self, since: float) -> bool:
        """:returns: whether something was killed so that what began at ``since`` may have failed because of it."""
        return self._disturbed_at > since - AFTERMATH_SECONDS

    def location(self, grant: Grant) -> Location:
        """:returns: where a grant is served, as it says itself."""
        return Location(grant.host, grant.port, grant.export_name, self.tls)

    def locate(self, grant: Grant) -> Callable[[bool], Location]:
        """:returns: what says where a grant is served; asked to look anew it asks the service."""
        known = [self.location(grant)]

        def where(anew: bool) -> Location:
            if anew:
                try:
                    known[0] = self.location(self.client.grants.get(grant.guid))
                except NotFound as error:
                    raise NotLetIn(f"the grant is gone: {error}") from error
                except OpenvStorageError as error:
                    raise NotLetIn(f"the service does not say where: {error}") from error
            return known[0]

        return where

    def keeps_acknowledged(self, vdisk: str) -> bool:
        """:returns: whether what was acknowledged of a vDisk survives a kill; else what was flushed."""
        return self.client.vdisks.get(vdisk).durability == "acknowledged"


def _serves(words: str) -> str | None:
    if "qemu-storage-daemon" not in words:
        return None
    found = _GROUP.search(words)
    return found["vdisk"] if found else None
