"""The vPool service of the harness: the command that users start it by, begun in a tenth of the time.

A run starts it some hundred times. So each start is a fork of a process that has imported it, not a new Python; what is
executed from there on is the command's own ``main``.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.vpool_service import end_storage_daemons

__all__ = ["NotServed", "PowerService"]

_START_SECONDS = 300.0
_STOP_SECONDS = 120.0
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.power.service", "openvstorage.commands"])


class NotServed(Exception):
    """The service did not start, or did not stop; the text has the end of what it printed."""


class PowerService:
    """``openvstorage serve`` on a data directory, on loopback. Use it by ``with``.

    :param data: the directory.
    :param log: file for what it prints.
    :param options: more words for the command.
    :ivar status: what it tells clients: what ``openvstorage status --json`` says, without asking whether it answers.
    """

    def __init__(self, data: Path, log: Path, options: Sequence[str] = ()) -> None:
        self.data = data
        self.status: dict[str, Any] = {}
        self._log, self._options = log, list(options)
        self._port = _free_port()
        self._process: ForkServerProcess | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and wait until it listens. :raises NotServed: it does not."""
        words = ["serve", "--data", str(self.data), "--listen", f"127.0.0.1:{self._port}", "--token-calls", "0"]
        process = self._process = _FORKS.Process(target=_serve, args=([*words, *self._options], self._log))
        process.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._serves(process):
            if not process.is_alive() or time.monotonic() > deadline:
                raise NotServed(f"the service does not start: {self._last_words()}")
            time.sleep(0.05)

    def end(self, how: signal.Signals) -> None:
        """End it by a signal; its storage daemons live on. :raises NotServed: it does not end."""
        if self._process is None or self._process.pid is None:
            return
        os.kill(self._process.pid, how)
        self._process.join(_STOP_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            raise NotServed(f"the service does not stop: {self._last_words()}")
        self._process = None

    def stop(self) -> None:
        """End it and its storage daemons; nothing happens when it has ended."""
        try:
            self.end(signal.SIGTERM)
        finally:
            end_storage_daemons(self.data)

    def _serves(self, process: ForkServerProcess) -> bool:
        """Its state file is written when it listens; one of an earlier start names another process."""
        try:
            self.status = json.loads((self.data / "service.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return False
        return self.status["pid"] == process.pid

    def _last_words(self) -> str:
        return self._log.read_text()[-1500:] if self._log.exists() else "it printed nothing"


def _serve(words: list[str], log: Path) -> None:
    """In the new process: be the command."""
    from openvstorage.cli import main

    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    sys.argv = ["openvstorage", *words]
    main()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
