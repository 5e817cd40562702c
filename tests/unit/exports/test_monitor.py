"""A monitor whose daemon dies, or talks nonsense, at any moment of a session."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from openvstorage.vpool.exports.errors import QmpError
from openvstorage.vpool.exports.monitor import Monitor, MonitorLost

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}, "capabilities": []}}
NONSENSE: list[bytes] = [
    b"\n",
    b"nonsense\n",
    b"[]\n",
    b"{}\n",
    b'{"QMP": {}}\n',
    b"\xff\xfe\n",
    b'{"QMP": {"version": {}, "capabilities": 3}}\n',
]
Answer = Callable[[str, Any], dict[str, Any] | bytes]


def well(command: str, id_: object) -> dict[str, Any] | bytes:
    """What a daemon in order answers."""
    return {"return": {"asked": command} if command != "qmp_capabilities" else {}, "id": id_}


class Daemon:
    """Speaks QMP until it has said so many bytes; then it hangs up."""

    def __init__(self) -> None:
        self.greeting: bytes = _line(GREETING)
        self.answer: Answer = well
        self.left: int | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._say(writer, self.greeting)
            async for asked in _asked(reader):
                answer = self.answer(asked["execute"], asked.get("id"))
                await self._say(writer, answer if isinstance(answer, bytes) else _line(answer))
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def _say(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        if self.left is not None:
            data, over = data[: self.left], len(data) >= self.left
            self.left -= len(data)
            writer.write(data)
            if over:
                raise ConnectionResetError
        else:
            writer.write(data)
        await writer.drain()


async def _asked(reader: asyncio.StreamReader) -> AsyncIterator[dict[str, Any]]:
    """Commands as they come, which nothing stands between."""
    text = ""
    while data := await reader.read(4096):
        text += data.decode()
        while text.strip():
            try:
                command, end = json.JSONDecoder().raw_decode(text.strip())
            except ValueError:
                break
            text = text.strip()[end:]
            yield command


def _line(message: object) -> bytes:
    return json.dumps(message).encode() + b"\n"


@asynccontextmanager
async def served(folder: Path, daemon: Daemon) -> AsyncIterator[Monitor]:
    server = await asyncio.start_unix_server(daemon.serve, folder / "qmp")
    monitor = Monitor(folder / "qmp", os.getpid())
    try:
        yield monitor
    finally:
        await monitor.close()
        server.close()


async def ask(monitor: Monitor) -> Any:
    await monitor.open(5)
    return await monitor.execute("query-version", {})


async def works_again(monitor: Monitor, daemon: Daemon) -> None:
    daemon.greeting, daemon.answer, daemon.left = _line(GREETING), well, None
    assert await ask(monitor) == {"asked": "query-version"}


async def test_a_daemon_that_dies_anywhere_in_a_session_is_a_lost_monitor_and_nothing_else(tmp_path: Path) -> None:
    daemon = Daemon()
    whole = len(daemon.greeting) + len(_line(well("qmp_capabilities", "__qmp#00000__")))
    async with served(tmp_path, daemon) as monitor:
        for said in range(whole + 20):
            daemon.left = said
            with pytest.raises(MonitorLost):
                await ask(monitor)
            await works_again(monitor, daemon)
            await monitor.close()


@pytest.mark.parametrize("greeting", NONSENSE)
async def test_a_greeting_that_is_none_is_a_lost_monitor(tmp_path: Path, greeting: bytes) -> None:
    daemon = Daemon()
    async with served(tmp_path, daemon) as monitor:
        daemon.greeting = greeting
        with pytest.raises(MonitorLost):
            await monitor.open(0.5)
        await works_again(monitor, daemon)


@pytest.mark.parametrize("at", ["qmp_capabilities", "query-version"])
@pytest.mark.parametrize(
    "answer",
    [*NONSENSE, b'{"error": {}}\n', b'{"return": {}, "id": "of another"}\n', b'{"id": "__qmp#00001__"}\n'],
)
async def test_an_answer_that_is_none_is_a_lost_monitor(tmp_path: Path, answer: bytes, at: str) -> None:
    daemon = Daemon()

    def last_words(command: str, id_: object) -> dict[str, Any] | bytes:
        if command != at:
            return well(command, id_)
        daemon.left = len(answer)
        return answer

    async with served(tmp_path, daemon) as monitor:
        daemon.answer = last_words
        with pytest.raises(MonitorLost):
            await ask(monitor)
        await works_again(monitor, daemon)


async def test_what_a_daemon_refuses_loses_nothing(tmp_path: Path) -> None:
    daemon = Daemon()

    def refuse(command: str, id_: object) -> dict[str, Any] | bytes:
        if command == "qmp_capabilities":
            return well(command, id_)
        return {"error": {"class": "GenericError", "desc": "no"}, "id": id_}

    async with served(tmp_path, daemon) as monitor:
        daemon.answer = refuse
        await monitor.open(5)
        with pytest.raises(QmpError, match="query-version: no"):
            await monitor.execute("query-version", {})


async def test_many_commands_under_way_all_learn_that_the_daemon_died(tmp_path: Path) -> None:
    daemon = Daemon()
    async with served(tmp_path, daemon) as monitor:
        await monitor.open(5)
        daemon.left = 300
        found = await asyncio.gather(*(monitor.execute("query-version", {}) for _ in range(50)), return_exceptions=True)
        lost = [each for each in found if not isinstance(each, dict)]
        assert lost
        assert all(isinstance(each, MonitorLost) for each in lost)
        await works_again(monitor, daemon)


async def test_who_waits_for_an_event_hears_it_in_the_next_session_too(tmp_path: Path) -> None:
    daemon = Daemon()

    def with_event(command: str, id_: object) -> dict[str, Any] | bytes:
        happened = {"event": "HAPPENED", "timestamp": {"seconds": 1, "microseconds": 0}}
        answered = well(command, id_)
        assert isinstance(answered, dict)
        return _line(answered) if command == "qmp_capabilities" else _line(happened) + _line(answered)

    async with served(tmp_path, daemon) as monitor:
        with monitor.events("HAPPENED") as events:
            daemon.left = 10
            with pytest.raises(MonitorLost):
                await monitor.open(5)
            daemon.left, daemon.answer = None, with_event
            await monitor.open(5)
            await monitor.execute("query-version", {})
            async for event in events.within(5):
                assert event["event"] == "HAPPENED"
                break
            else:
                pytest.fail("the event was lost")


async def test_who_gives_up_waiting_for_a_greeting_is_not_told_of_a_lost_monitor(tmp_path: Path) -> None:
    daemon = Daemon()
    daemon.greeting = b""
    async with served(tmp_path, daemon) as monitor:
        opening = asyncio.create_task(monitor.open(60))
        await asyncio.sleep(0.05)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        await works_again(monitor, daemon)
