"""Merging layers under a living daemon."""

from __future__ import annotations

import asyncio

import pytest

from openvstorage.vpool.exports.command import Export
from openvstorage.vpool.exports.errors import JobFailed, QmpError, UnknownNode
from openvstorage.vpool.exports.limits import Limits

MIB = 1 << 20
E = Export("e", True)
_STEP = 64 * 1024


async def _write(bench, *names: str, letter: bytes, offsets: range) -> None:
    """Write through a daemon of its own and end it."""
    daemon = await bench.launch(*names, exports=(E,))
    client = await bench.client()
    for offset in offsets:
        await client.write(offset, letter * 4096)
    await client.close()
    await daemon.stop()


async def _content(bench, *names: str) -> list[bytes]:
    """First byte of each step of a vDisk."""
    daemon = await bench.launch(*names, exports=(Export("ro", False),), epoch=9)
    client = await bench.client("ro")
    data = await client.read(0, 8 * MIB)
    await client.close()
    await daemon.stop()
    return [data[at : at + 1] for at in range(0, len(data), _STEP)]


async def _three_layers(bench) -> None:
    await bench.layer("base")
    await _write(bench, "base", letter=b"b", offsets=range(0, 8 * MIB, _STEP))
    await bench.layer("lower", below="base")
    await _write(bench, "base", "lower", letter=b"l", offsets=range(0, 8 * MIB, 2 * _STEP))
    await bench.layer("upper", below="lower")
    await _write(bench, "base", "lower", "upper", letter=b"u", offsets=range(0, 8 * MIB, 4 * _STEP))


_MERGED = [b"u", b"b", b"l", b"b"] * 32


async def test_a_flushed_merge_survives_a_kill(bench):
    """Without the flush the tables of what was copied are only in the daemon's memory, and nothing tells so."""
    await _three_layers(bench)
    daemon = await bench.launch("base", "lower", "upper", exports=(E,))
    await daemon.run_stream(job="merge", head="upper", base="base")
    await daemon.flush()
    await daemon.kill()
    assert await _content(bench, "base", "upper") == _MERGED
    await bench.tool("check", "-q", "-f", "qcow2", str(bench.folder / "upper.qcow2"))


async def test_a_flush_goes_down_to_a_layer_without_any_export(bench):
    await _three_layers(bench)
    daemon = await bench.launch("base", "lower", "upper", listener=None)
    await daemon.run_stream(job="merge", head="upper", base=None)
    await daemon.flush()
    await daemon.kill()
    assert await _content(bench, "upper") == _MERGED


async def test_a_flush_covers_a_layer_that_was_switched_to(bench):
    await _three_layers(bench)
    daemon = await bench.launch("base", "lower", exports=(E,))
    await daemon.execute("blockdev-add", {**bench.node("upper"), "backing": None})
    await daemon.execute("blockdev-snapshot", node="lower", overlay="upper")
    await daemon.run_stream(job="merge", head="upper", base="base")
    await daemon.flush()
    await daemon.kill()
    assert await _content(bench, "base", "upper") == _MERGED


async def test_an_adopted_daemon_can_be_flushed(bench):
    await _three_layers(bench)
    first = await bench.launch("base", "lower", exports=(E,))
    await first.execute("blockdev-add", {**bench.node("upper"), "backing": None})
    await first.execute("blockdev-snapshot", node="lower", overlay="upper")
    await first.run_stream(job="merge", head="upper", base="base")
    await first.detach()
    adopt = {"vdisk": "vd-1", "epoch": 1, "identity": first.identity}
    second = await type(first).adopt(bench.run_dir, **adopt)
    with pytest.raises(UnknownNode):
        await second.flush()
    await second.detach()
    third = await type(first).adopt(bench.run_dir, **adopt, blockdevs=[bench.node("upper", "lower")])
    bench.daemons[bench.daemons.index(first)] = third
    await third.flush()
    await third.kill()
    assert await _content(bench, "base", "upper") == _MERGED


async def test_a_client_writes_on_during_a_merge(bench):
    await _three_layers(bench)
    daemon = await bench.launch("base", "lower", "upper", exports=(E,))
    client = await bench.client()
    merging = asyncio.create_task(daemon.run_stream(job="merge", head="upper", base="base"))
    for offset in range(0, 8 * MIB, _STEP):
        await client.write(offset, b"n" * 4096)
    await merging
    await daemon.flush()
    await client.close()
    await daemon.kill()
    assert await _content(bench, "base", "upper") == [b"n"] * 128


async def test_merged_layers_can_be_deleted_from_the_graph(bench):
    await _three_layers(bench)
    daemon = await bench.launch("base", "lower", "upper", exports=(E,))
    await daemon.run_stream(job="merge", head="upper", base="base")
    await daemon.execute("blockdev-del", {"node-name": "lower"})
    assert await daemon.graph_files() == [str(bench.folder / f"{name}.qcow2") for name in ("base", "upper")]
    await daemon.flush()


async def test_progress_is_told(bench):
    await bench.layer("upper")
    nodes = [_slow_base(20_000_000), bench.node("upper", "slow")]
    daemon = await bench.launch("upper", blockdevs=nodes)
    told: list[tuple[int, int]] = []
    await daemon.run_stream(job="merge", head="upper", base=None, on_progress=lambda *pair: told.append(pair))
    assert told == sorted(told)
    assert all(0 <= done <= total for done, total in told)
    assert any(0 < done < total for done, total in told)


async def test_a_cancelled_merge_is_gone_and_can_be_begun_again(bench):
    await bench.layer("upper")
    nodes = [_slow_base(50_000_000), bench.node("upper", "slow")]
    daemon = await bench.launch("upper", blockdevs=nodes, exports=(E,))
    begun = asyncio.Event()
    for _ in range(2):
        begun.clear()
        merging = asyncio.create_task(
            daemon.run_stream(job="merge", head="upper", base=None, on_progress=lambda *_: begun.set())
        )
        await begun.wait()
        merging.cancel()
        await asyncio.sleep(0)
        merging.cancel()  # impatient: must not leave the job behind
        with pytest.raises(asyncio.CancelledError):
            await merging
        assert await daemon.execute("query-jobs") == []
    assert await daemon.head() == "upper"
    assert await daemon.node_exists("slow")
    client = await bench.client()
    await client.write(0, b"x" * 4096)
    await client.close()
    await daemon.flush()


async def test_a_failed_merge_tells_why_and_leaves_the_graph(bench):
    await bench.layer("upper")
    bad = {
        "driver": "blkdebug",
        "node-name": "bad",
        "read-only": True,
        "image": {"driver": "null-co", "size": 64 * MIB, "read-zeroes": True},
        "inject-error": [{"event": "none", "iotype": "read", "errno": 5}],
    }
    daemon = await bench.launch("upper", blockdevs=[bad, bench.node("upper", "bad")])
    with pytest.raises(JobFailed, match="Input/output error"):
        await daemon.run_stream(job="merge", head="upper", base=None)
    assert await daemon.execute("query-jobs") == []
    assert await daemon.node_exists("bad")
    with pytest.raises(QmpError):
        await daemon.run_stream(job="merge", head="nowhere", base=None)


async def test_a_hold_and_a_merge_do_not_disturb_each_other(bench):
    """The merge must not end meanwhile, which QEMU 7.2 does not survive; operations see to that by the vDisk's lock."""
    await bench.layer("upper")
    nodes = [_slow_base(200_000_000), bench.node("upper", "slow")]
    daemon = await bench.launch("upper", blockdevs=nodes, exports=(E,))
    begun = asyncio.Event()
    merging = asyncio.create_task(
        daemon.run_stream(job="merge", head="upper", base=None, on_progress=lambda *_: begun.set())
    )
    await begun.wait()
    client = await bench.client()
    await daemon.hold()
    held = asyncio.create_task(client.write(0, b"x" * 4096))
    await daemon.release(Limits())
    await held
    assert not merging.done()
    merging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await merging
    assert await daemon.execute("query-jobs") == []
    assert await client.read(0, 4096) == b"x" * 4096
    await client.close()


def _slow_base(nanoseconds: int) -> dict[str, object]:
    """Each read of it takes a while; the job reads half a MiB at a time."""
    return {
        "driver": "null-co",
        "node-name": "slow",
        "size": 64 * MIB,
        "latency-ns": nanoseconds,
        "read-zeroes": True,  # without it nothing counts as allocated, and nothing is copied
        "read-only": True,
    }


async def test_holds_and_limits_between_merges(bench):
    """A stream puts a node below the filter and takes it away: the filter must not be put back on what is gone.

    The vDisk's lock keeps holds and merges apart, as in operations: QEMU 7.2 does not survive a stream that ends while
    requests are moved from one throttle group to another.
    """
    await bench.layer("base")
    await _write(bench, "base", letter=b"b", offsets=range(0, 8 * MIB, _STEP))
    await bench.layer("upper0", below="base")
    daemon = await bench.launch("base", "upper0", exports=(E,))
    client = await bench.client()
    vdisk_lock = asyncio.Lock()
    stop = False

    async def write() -> int:
        count = 0
        while not stop:
            count += 1
            await client.write(0, count.to_bytes(8, "big") * 512)
        return count

    async def limit() -> None:
        while not stop:
            async with vdisk_lock:
                await daemon.set_limits(Limits())
                await daemon.hold()
                await daemon.release(Limits())

    writing, limiting = asyncio.create_task(write()), asyncio.create_task(limit())
    for turn in range(1, 31):
        await bench.layer(f"upper{turn}", below=f"upper{turn - 1}")
        async with vdisk_lock:
            await daemon.execute("blockdev-add", {**bench.node(f"upper{turn}"), "backing": None})
            await daemon.execute("blockdev-snapshot", node=f"upper{turn - 1}", overlay=f"upper{turn}")
            await daemon.run_stream(job="merge", head=f"upper{turn}", base="base")
            await daemon.execute("blockdev-del", {"node-name": f"upper{turn - 1}"})
    stop = True
    count = await writing
    await limiting
    assert await daemon.head() == await daemon.below_top() == "upper30"
    assert await client.read(0, 4096) == count.to_bytes(8, "big") * 512
    await daemon.flush()
    await client.close()
    await daemon.kill()
    assert (await _content(bench, "base", "upper30"))[1:] == [b"b"] * 127
