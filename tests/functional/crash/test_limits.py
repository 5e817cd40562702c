"""What a machine has only so much of: ports, processes, and room for a thousand exports at once.

``EXPORTS=1000`` in the environment makes the last one as many (3 GB of memory, minutes).
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.audit import audit, calm
from tests.support.crash import daemons, guest_writes, in_child, kill, until
from tests.support.crash_acts import disk, first, granted, vdisk
from tests.support.crash_world import Disk, World, fits, look
from tests.support.engine import MIB, Engine, TaskFailed, connect, engine
from tests.support.pids import Pids, few_pids

from openvstorage.vpool.model.export import Grant
from openvstorage.vpool.operations import housekeeping
from openvstorage.vpool.operations.grants import describe_grant
from openvstorage.vpool.service import allow_many_files

pytestmark = [pytest.mark.crash, pytest.mark.timeout(1800)]

PORTS = 10
EXPORTS = int(os.environ.get("EXPORTS", "40"))
#: What a user reads when no process can be started.
NO_PROCESS = r"Resource temporarily unavailable: .* has no process or memory to spare"


async def test_with_every_port_used_up_the_next_grant_is_refused_until_one_is_free(data: Path) -> None:
    start = 31000 + os.getpid() % 150 * PORTS
    async with engine(data, first_port=start, last_port=start + PORTS - 1) as vpool:
        guids = [await vpool.create(f"v{number}", MIB) for number in range(PORTS + 3)]
        grants = await asyncio.gather(*(vpool.grant(guid) for guid in guids), return_exceptions=True)
        refused = [each for each in grants if isinstance(each, BaseException)]
        served = [each for each in grants if isinstance(each, dict)]
        assert len(served) == PORTS
        assert len({grant["port"] for grant in served}) == PORTS
        for error in refused:
            sentence = f"no free port is left between {start} and {start + PORTS - 1}: revoke unused grants"
            assert isinstance(error, TaskFailed)
            assert str(error).startswith(sentence)
        late = next(guid for guid in guids if guid not in {grant["vdisk_guid"] for grant in served})
        # what needs no port goes on, and who has one may be told again
        await vpool.snapshot(served[0]["vdisk_guid"], "s")
        again = await vpool.grant(served[0]["vdisk_guid"], client=served[0]["client"], consumer=served[0]["consumer"])
        assert again["port"] == served[0]["port"]
        await vpool.revoke(served[1])
        assert (await vpool.grant(late))["port"] == served[1]["port"]
        await calm(vpool)
        await audit(vpool)


def test_without_a_process_to_spare_words_say_so_and_all_goes_on_when_there_is_one(data: Path) -> None:
    with few_pids() as pids:
        assert in_child(lambda: _run_out_of_pids(data, pids)) is False


async def _run_out_of_pids(data: Path, pids: Pids) -> None:
    pids.enter()
    async with engine(data) as vpool:
        await first(disk("a", "A..."), granted("a", "guest"), disk("b", "B..."))(vpool)
        [grant] = await _all_grants(vpool)
        pids.none_left()
        with pytest.raises(TaskFailed, match=NO_PROCESS):
            await vpool.create("new")
        b = await vdisk(vpool, "b")
        with pytest.raises(TaskFailed, match=NO_PROCESS):
            await vpool.grant(b, "late")
        with pytest.raises(TaskFailed, match=NO_PROCESS):
            await vpool.snapshot(b, "late")
        # QEMU ends itself when it can not have the thread that it needs for a flush
        wrote = await asyncio.to_thread(guest_writes, grant, 3)
        for daemon in vpool.context.fleet.serving().values():
            kill(daemon.identity.pid)
        pids.none_left()
        await asyncio.sleep(3 * housekeeping.RESPAWN_PAUSE_SECONDS)  # some attempts in vain
        assert not vpool.context.fleet.serving()
        pids.as_many_as_wanted()

        async def back() -> bool:
            return vpool.context.fleet.get(grant["vdisk_guid"]) is not None

        await until(back, "the daemon is started again")
        await vpool.create("new", 4 * 65536)
        await calm(vpool)
        await audit(vpool)
        world = World({"a": Disk("A..!"), "b": Disk("B..."), "new": Disk("....")}, frozenset({"a:guest"}))
        assert fits(await look(vpool), world, wrote)


def test_a_service_that_starts_adopts_as_many_daemons_as_there_are(data: Path) -> None:
    times: dict[str, float] = {}

    async def serve_many() -> None:
        allow_many_files()
        async with engine(data, stop_daemons=False) as vpool:
            began = time.monotonic()
            guids: list[str] = []
            for at in range(0, EXPORTS, 10):  # each has a minute
                names = (f"v{number}" for number in range(at, min(at + 10, EXPORTS)))
                guids += await asyncio.gather(*(vpool.create(name, MIB) for name in names))
            print(f"{EXPORTS} vDisks: {time.monotonic() - began:.1f} s", flush=True)
            began = time.monotonic()
            for at in range(0, EXPORTS, 10):
                await asyncio.gather(*(vpool.grant(guid) for guid in guids[at : at + 10]))
            print(f"{EXPORTS} grants: {time.monotonic() - began:.1f} s", flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

    async def come_back() -> None:
        allow_many_files()
        began = time.monotonic()
        async with engine(data) as vpool:
            times["start"] = time.monotonic() - began
            serving = vpool.context.fleet.serving()
            assert {daemon.identity.pid for daemon in serving.values()} == before, "all of them, and no other"
            await calm(vpool)
            for grant in await _all_grants(vpool):
                await asyncio.to_thread(_read, grant)
            times["audit"] = -time.monotonic()
            await audit(vpool)
            times["audit"] += time.monotonic()
            began = time.monotonic()
            for guid in list(serving):
                await vpool.do("vdisk.delete", guid, force=True)
            times["deleted"] = time.monotonic() - began
            assert not vpool.context.fleet.serving()
            await calm(vpool)
            await audit(vpool)

    assert in_child(serve_many, patience=1500)
    before = {left.identity.pid for left in daemons(data)}
    assert len(before) == EXPORTS
    asyncio.run(come_back())
    print({what: f"{seconds:.1f} s" for what, seconds in times.items()})


async def _all_grants(vpool: Engine) -> list[dict[str, Any]]:
    async with vpool.db.read() as session:
        return [dict(await describe_grant(session, grant)) for grant in await session.scalars(select(Grant))]


def _read(grant: dict[str, Any]) -> None:
    with connect(grant) as nbd:
        assert nbd.read(0, 4096) == bytes(4096)
