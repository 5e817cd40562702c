"""Holding clients' requests, and limits that change under them."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from tests.support.nbd import NbdClient
from tests.support.patience import PATIENCE

from openvstorage.vpool.exports import hold
from openvstorage.vpool.exports.command import Export
from openvstorage.vpool.exports.limits import Limits
from openvstorage.vpool.exports.listener import listen

MIB = 1 << 20
E = Export("e", True)
#: Long against a request (under a millisecond), short against what a hold or a limit below makes it wait.
A_WHILE = 0.4
#: What is over by then did not wait for a hold or a limit to run out: with `_LONG` they last more than twice as long.
SOON = 45.0
#: Bytes a second of a hold, of which it pays off 1 MiB.
_LONG = 10_000


@pytest.fixture
def long_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Holds last longer than a busy machine takes for anything here."""
    monkeypatch.setattr(hold, "_RATE", _LONG)


@pytest.mark.usefixtures("long_holds")
async def test_nothing_is_served_during_a_hold_and_everything_after_it(bench):
    await bench.layer("a")
    daemon = await bench.launch("a", exports=(E,))
    client, other = await bench.client(), await bench.client()
    await client.write(0, b"1" * 4096)
    await daemon.hold()
    waiting = [
        asyncio.create_task(client.write(0, b"2" * 4096)),
        asyncio.create_task(client.write(MIB, b"2" * MIB)),
        asyncio.create_task(other.read(0, 4096)),
    ]
    done, _ = await asyncio.wait(waiting, timeout=A_WHILE)
    assert not done
    await daemon.release(Limits())
    async with asyncio.timeout(SOON):
        await asyncio.gather(*waiting)
        assert await client.read(0, 4096) == b"2" * 4096
    await client.close()
    await other.close()


@pytest.mark.usefixtures("long_holds")
async def test_a_busy_client_cannot_slip_into_a_hold(bench):
    """Large requests all the time: none of them may be the one that pays the overdraft."""
    await bench.layer("a")
    daemon = await bench.launch("a", exports=(E,))
    client = await bench.client()
    served = 0

    async def write() -> None:
        nonlocal served
        with contextlib.suppress(ConnectionError):
            while True:
                await client.write(0, b"x" * MIB)
                served += 1

    writers = [asyncio.create_task(write()) for _ in range(4)]
    for _ in range(2):
        while served < 4:
            await asyncio.sleep(0.01)
        await daemon.hold()
        served = 0
        async with asyncio.timeout(SOON):
            last = -1
            while served != last:
                last = served
                await asyncio.sleep(A_WHILE)
        assert served <= len(writers), "more than the answers that were on their way when the hold began"
        served = 0
        async with asyncio.timeout(SOON):
            await daemon.release(Limits())
            while served < 4:
                await asyncio.sleep(0.01)
    await client.close()
    await asyncio.gather(*writers)


@pytest.mark.usefixtures("long_holds")
async def test_a_hold_begun_again_has_no_gap(bench):
    await bench.layer("a")
    daemon = await bench.launch("a", exports=(E,))
    client = await bench.client()
    await daemon.hold()
    await daemon.hold()
    waiting = asyncio.create_task(client.write(0, b"2" * 4096))
    assert not (await asyncio.wait({waiting}, timeout=A_WHILE))[0]
    await daemon.set_limits(Limits(iops_total=1000))
    assert not (await asyncio.wait({waiting}, timeout=A_WHILE))[0]
    await daemon.release(Limits())
    await daemon.release(Limits())
    async with asyncio.timeout(SOON):
        await waiting
    objects = await daemon.execute("qom-list", path="/objects")
    assert [item["name"] for item in objects if "hold" in item["name"]] == []
    nodes = await daemon.execute("query-named-block-nodes", flat=True)
    assert not [node for node in nodes if "hold" in node["node-name"]]
    await client.close()


async def test_a_hold_given_up_half_way_leaves_nothing(bench):
    await bench.layer("a")
    daemon = await bench.launch("a", exports=(E,))
    for milliseconds in range(0, 40, 2):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(milliseconds / 1000):
                await daemon.hold()
        await daemon.release(Limits())
    objects = await daemon.execute("qom-list", path="/objects")
    assert [item["name"] for item in objects if "hold" in item["name"]] == []
    nodes = await daemon.execute("query-named-block-nodes", flat=True)
    assert not [node for node in nodes if "hold" in node["node-name"]]


async def test_a_hold_ends_by_itself(bench):
    """The service may die while it holds: guests must not hang for ever."""
    await bench.layer("a")
    daemon = await bench.launch("a", exports=(E,))
    client = await bench.client()
    await daemon.hold()
    async with asyncio.timeout(PATIENCE):
        await client.write(0, b"x" * 4096)
    await client.close()


async def test_a_held_group_is_cut_at_one_instant(bench):
    """A is written twice, then B, and so on, each time with the next number: a cut must be a time in that history."""
    daemons, clients = [], []
    with listen("127.0.0.1", 0) as second:
        for number, (name, listener) in enumerate((("a0", None), ("b0", second))):
            await bench.layer(name)
            options = {} if listener is None else {"listener": listener}
            daemons.append(await bench.launch(name, exports=(E,), vdisk=f"vd-{number}", **options))
        clients = [await bench.client(), await NbdClient.connect(second.getsockname()[1], "e")]
        count = 0

        async def write() -> None:
            nonlocal count
            with contextlib.suppress(ConnectionError):
                while True:
                    # Twice to A: what passes at its switch is followed at once by what must not.
                    for client in (clients[0], *clients):
                        await client.write(0, count.to_bytes(8, "big") * 512)
                        count += 1

        writing = asyncio.create_task(write())
        for turn in range(1, 6):
            reached = count
            while count < reached + 20:
                await asyncio.sleep(0.005)
            for letter in "ab":
                await bench.layer(f"{letter}{turn}", below=f"{letter}{turn - 1}")
            await asyncio.gather(*(daemon.hold() for daemon in daemons))
            for letter, daemon in zip("ab", daemons, strict=True):
                new = {**bench.node(f"{letter}{turn}"), "backing": None}
                await daemon.execute("blockdev-add", new)
            # In the order that shows a missing hold: B goes on being written while A is cut already.
            for letter, daemon in zip("ab", daemons, strict=True):
                await daemon.execute("blockdev-snapshot", node=f"{letter}{turn - 1}", overlay=f"{letter}{turn}")
                await asyncio.sleep(0.05)
            await asyncio.gather(*(daemon.release(Limits()) for daemon in daemons))
            assert [await daemon.head() for daemon in daemons] == [f"a{turn}", f"b{turn}"]
        for client in clients:
            await client.close()
        await writing
        for daemon in daemons:
            await daemon.stop()
    for turn in range(5):
        a, b = [await _number_in(bench, f"{letter}{turn}") for letter in "ab"]
        # The numbers of A are 0, 1, 3, 4, 6, 7 and so on, those of B 2, 5, 8.
        assert b in ((a - 1,) if a % 3 == 0 else (a - 2, a + 1)), f"cut {turn}: A has {a}, B has {b}"


async def _number_in(bench, name: str) -> int:
    raw = bench.folder / f"{name}.raw"
    await bench.tool("convert", "-U", "-f", "qcow2", "-O", "raw", str(bench.folder / f"{name}.qcow2"), str(raw))
    with raw.open("rb") as file:
        return int.from_bytes(file.read(8), "big")


async def test_limits_count_and_can_be_lifted_under_a_waiting_client(bench):
    await bench.layer("a")
    daemon = await bench.launch("a", exports=(E,))
    client = await bench.client()
    await daemon.set_limits(Limits(bps_total=_LONG))
    await client.write(0, b"x" * MIB)
    waiting = asyncio.create_task(client.write(0, b"y" * MIB))
    assert not (await asyncio.wait({waiting}, timeout=A_WHILE))[0]
    async with asyncio.timeout(SOON):
        await daemon.set_limits(Limits())
        await waiting
        await asyncio.gather(*(client.write(0, b"z" * MIB) for _ in range(20)))
    await client.close()


@pytest.mark.parametrize("name", Limits.__dataclass_fields__)
async def test_every_limit_reaches_the_daemon_and_is_cleared_again(bench, name):
    await bench.layer("a")
    daemon = await bench.launch("a", limits=Limits(**{name: 7}))
    group = f"/objects/{daemon.group}"
    key = name.replace("_", "-")
    assert (await daemon.execute("qom-get", path=group, property="limits"))[key] == 7
    await daemon.set_limits(Limits())
    assert (await daemon.execute("qom-get", path=group, property="limits"))[key] == 0
