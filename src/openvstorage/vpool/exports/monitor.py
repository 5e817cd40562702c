"""The QMP session with one daemon, which can be lost and opened again.

A daemon talks to one QMP client at a time: a second one waits without an answer. Waiting for an event is therefore
always waiting with a deadline, and never on the event alone: an event is lost with the session.

The library below asserts and cancels its own tasks when a daemon dies at the wrong moment, and its client is of no use
after that. So whatever it raises means that the session is lost, and each session has a client of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from qemu.qmp import EventListener, ExecuteError, QMPClient, Runstate

from openvstorage.vpool.exports.errors import QmpError

__all__ = ["Monitor", "MonitorLost"]

# The library logs every session that ends as an error. Here daemons end all the time, and exceptions tell of it.
logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)

_UCRED = struct.Struct("3i")


class MonitorLost(Exception):
    """There is no session, or it broke before the answer came."""


class Monitor:
    """A QMP session.

    :param path: the daemon's monitor socket.
    :param pid: the process that must be behind it.
    """

    def __init__(self, path: Path, pid: int) -> None:
        self._path = path
        self._pid = pid
        # Without a name: a named client has a logger of its own, which stays for ever.
        self._client = QMPClient()
        self._listeners: list[EventListener] = []
        self._changing = asyncio.Lock()

    async def open(self, timeout: float) -> None:
        """Connect and negotiate; nothing happens if a session is open.

        :param timeout: seconds to wait for the greeting, which comes when the daemon has carried out its command line.
        :raise PermissionError: another process than ``pid`` answers on the socket.
        :raise MonitorLost: nobody listens, the process ended, or no greeting came in time.
        """
        async with self._changing:
            if self._client.runstate is Runstate.RUNNING:
                return
            await self._disconnect()
            with _lost_on_any_error():
                await self._connect(timeout)

    async def _connect(self, timeout: float) -> None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_connect(connection, str(self._path))
                peer = peer_pid(connection)
                if peer == 0:  # the kernel says "in progress" and means that its queue is full
                    raise MonitorLost("it does not accept another connection")
                if peer != self._pid:
                    raise PermissionError(f"process {peer} answers on {self._path}")
                await self._client.connect(connection)
        except BaseException as error:
            connection.close()
            await self._disconnect()
            if isinstance(error, TimeoutError):
                raise MonitorLost(f"no greeting in {timeout} s") from None
            raise

    async def execute(self, command: str, arguments: Mapping[str, Any]) -> Any:
        """Run a command and give what it returns.

        :raise QmpError: the daemon refused it.
        :raise MonitorLost: no session, or it broke before the answer.
        """
        with _lost_on_any_error():
            try:
                return await self._client.execute(command, dict(arguments))
            except ExecuteError as error:
                raise QmpError(class_=error.error_class, desc=str(error), command=command) from None

    @contextlib.contextmanager
    def events(self, *names: str) -> Iterator[Events]:
        """Events of these names from now on, also those of a session that is opened later."""
        listener = EventListener(names)
        self._listeners.append(listener)
        self._client.register_listener(listener)
        try:
            yield Events(listener)
        finally:
            self._listeners.remove(listener)
            self._client.remove_listener(listener)

    async def close(self) -> None:
        """End the session; the daemon lives on. Idempotent."""
        async with self._changing:
            await self._disconnect()

    async def _disconnect(self) -> None:
        client = self._client
        if client.runstate is Runstate.IDLE:
            return
        self._client = QMPClient()
        for listener in self._listeners:
            self._client.register_listener(listener)
        # A session that broke raises here what broke it, most often the end of file of a daemon that has ended.
        with contextlib.suppress(MonitorLost), _lost_on_any_error():
            await client.disconnect()


@contextlib.contextmanager
def _lost_on_any_error() -> Iterator[None]:
    """Turn everything but our own errors, and a cancellation that somebody asked for, into :class:`MonitorLost`."""
    try:
        yield
    except (MonitorLost, PermissionError, QmpError):
        raise
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is None or task.cancelling():
            raise
        raise MonitorLost("the session broke off") from None  # a task of the library's was cancelled, not ours
    except Exception as error:
        raise MonitorLost(str(error) or type(error).__name__) from error


class Events:
    """Events that have come in and were not looked at yet."""

    def __init__(self, listener: EventListener) -> None:
        self._listener = listener

    async def within(self, seconds: float) -> AsyncIterator[Mapping[str, Any]]:
        """Each event as it comes, until the time has passed."""
        deadline = asyncio.get_running_loop().time() + seconds
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    event = await self._listener.get()
            except TimeoutError:
                return
            yield cast(Mapping[str, Any], event)


def peer_pid(connection: socket.socket) -> int:
    """The process that listens at the other end of a connected Unix socket."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    return int(_UCRED.unpack(credentials)[0])
