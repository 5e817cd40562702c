"""Launching, serving and ending a storage daemon."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
from pathlib import Path

import pytest
from tests.support.nbd import NbdClient, NbdRefused
from tests.support.patience import PATIENCE

from openvstorage.vpool.exports.command import Export
from openvstorage.vpool.exports.errors import (
    DaemonGone,
    ExportConflict,
    ImageLocked,
    LaunchFailed,
    NotFenced,
    QmpError,
    QmpInterrupted,
)
from openvstorage.vpool.exports.limits import Limits

MIB = 1 << 20


async def _output(*words: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def test_what_a_client_wrote_is_in_the_image(bench):
    await bench.layer("a")
    daemon = await bench.launch("a")
    await daemon.add_export(Export("e", True))
    client = await bench.client()
    await client.write(5 * MIB, b"x" * 4096)
    assert await client.read(5 * MIB, 4096) == b"x" * 4096
    assert client.size == 64 * MIB
    await client.close()
    await daemon.stop()
    assert daemon.status == 0
    raw = bench.folder / "raw"
    await bench.tool("convert", "-f", "qcow2", "-O", "raw", str(bench.folder / "a.qcow2"), str(raw))
    assert raw.read_bytes()[5 * MIB : 5 * MIB + 4097] == b"x" * 4096 + b"\0"


@pytest.mark.skipif(not shutil.which("nbdinfo"), reason="needs libnbd's tools (libnbd-bin)")
async def test_other_peoples_clients_can_use_it(bench):
    await bench.layer("a")
    await bench.launch("a", exports=(Export("e", True),))
    source, back = bench.folder / "source", bench.folder / "back"
    source.write_bytes(os.urandom(3 * MIB) + bytes(61 * MIB))
    uri = f"nbd://127.0.0.1:{bench.port}/e"
    assert '"export-size": 67108864' in await _output("nbdinfo", "--json", uri)
    await _output("nbdcopy", str(source), uri)
    await _output("nbdcopy", uri, str(back))
    assert back.read_bytes() == source.read_bytes()


async def test_an_export_is_added_once(bench):
    await bench.layer("a")
    daemon = await bench.launch("a")
    await daemon.add_export(Export("e", True))
    await daemon.add_export(Export("e", True))
    assert await daemon.exports() == {"e": Export("e", True)}
    with pytest.raises(ExportConflict):
        await daemon.add_export(Export("e", False))


async def test_a_read_only_export_refuses_writes(bench):
    await bench.layer("a")
    daemon = await bench.launch("a")
    await daemon.add_export(Export("e", False))
    client = await bench.client()
    assert client.read_only
    with pytest.raises(NbdRefused):
        await client.write(0, b"x" * 512)
    await client.close()


async def test_a_frozen_layer_is_served_read_only_to_two_daemons(bench):
    await bench.layer("a")
    nodes = [bench.node("a", read_only=True)]
    first = await bench.launch("a", blockdevs=nodes)
    second = await bench.launch("a", blockdevs=nodes, vdisk="vd-2", listener=None)
    await first.add_export(Export("e", False))
    assert await second.read_only()
    with pytest.raises(QmpError):
        await first.add_export(Export("w", True))


async def test_a_discard_frees_space(bench):
    await bench.layer("a")
    await bench.launch("a", exports=(Export("e", True),))
    client = await bench.client()
    image = bench.folder / "a.qcow2"
    await client.write(0, b"x" * 8 * MIB)
    await client.flush()
    full = image.stat().st_blocks
    await client.trim(0, 8 * MIB)
    await client.flush()
    assert image.stat().st_blocks * 512 < full * 512 - 7 * MIB
    await client.close()


async def test_a_grown_vdisk_is_seen_by_the_next_client(bench):
    await bench.layer("a")
    daemon = await bench.launch("a", exports=(Export("e", True),))
    with pytest.raises(QmpError):
        await daemon.resize(128 * MIB)
    await daemon.drop_export("e", 5)
    await daemon.resize(128 * MIB)
    await daemon.add_export(Export("e", True))
    client = await bench.client()
    assert client.size == 128 * MIB
    await client.close()


async def test_the_graph_tells_files_and_head(bench):
    await bench.layer("a")
    await bench.layer("b", below="a")
    daemon = await bench.launch("a", "b")
    assert await daemon.head() == "b"
    assert await daemon.graph_files() == [str(bench.folder / "a.qcow2"), str(bench.folder / "b.qcow2")]
    assert await daemon.node_exists("a")
    assert not await daemon.node_exists("c")


async def test_the_backing_file_named_in_a_header_is_not_followed(bench):
    await bench.layer("a")
    await bench.layer("b", below="a")
    (bench.folder / "a.qcow2").rename(bench.folder / "moved.qcow2")
    daemon = await bench.launch("b", blockdevs=[bench.node("b")])
    assert await daemon.graph_files() == [str(bench.folder / "b.qcow2")]


async def test_clients_are_listed_while_they_are_connected(bench):
    await bench.layer("a")
    daemon = await bench.launch("a", exports=(Export("e", True),))
    assert await daemon.clients() == []
    client = await bench.client()
    assert [host for host, _ in await daemon.clients()] == ["127.0.0.1"]
    await client.close()


async def test_the_daemon_shows_no_environment_of_ours(bench, monkeypatch):
    monkeypatch.setenv("OS_PASSWORD", "very-secret")
    await bench.layer("a")
    daemon = await bench.launch("a")
    assert b"very-secret" not in Path(f"/proc/{daemon.identity.pid}/environ").read_bytes()
    assert os.getsid(daemon.identity.pid) == daemon.identity.pid


async def test_a_failed_launch_leaves_nothing(bench):
    before = set(os.listdir("/proc"))
    with pytest.raises(LaunchFailed, match="No such file or directory"):
        await bench.launch("missing")
    assert os.listdir(bench.run_dir) == []
    assert not [pid for pid in set(os.listdir("/proc")) - before if _is_storage_daemon(pid, bench.run_dir)]


async def test_a_cancelled_launch_leaves_nothing(bench):
    await bench.layer("a")
    launching = asyncio.create_task(bench.launch("a"))
    while not os.listdir(bench.run_dir):
        await asyncio.sleep(0)
    launching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await launching
    assert os.listdir(bench.run_dir) == []
    assert not [pid for pid in os.listdir("/proc") if _is_storage_daemon(pid, bench.run_dir)]


def _is_storage_daemon(pid: str, run_dir: Path) -> bool:
    try:
        return str(run_dir).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


async def test_a_run_directory_with_a_long_name_is_refused_in_words(bench):
    await bench.layer("a")
    bench.run_dir = bench.run_dir / ("long" * 30)
    with pytest.raises(LaunchFailed, match="shorter"):
        await bench.launch("a")
    bench.run_dir = bench.run_dir.parent


async def test_an_image_open_elsewhere_is_locked(bench):
    await bench.layer("a")
    first = await bench.launch("a")
    with pytest.raises(ImageLocked):
        await bench.launch("a", vdisk="vd-2", lock_patience=0.3)
    await first.kill()
    await bench.launch("a", vdisk="vd-2")


async def test_a_lock_that_goes_away_is_waited_for(bench):
    await bench.layer("a")
    first = await bench.launch("a")
    second = asyncio.create_task(bench.launch("a", vdisk="vd-2", lock_patience=30))
    log = bench.log
    while "lock" not in log.read_text():
        await asyncio.sleep(0.01)
    await first.kill()
    assert (await second).identity.alive()


async def test_a_second_daemon_of_the_same_epoch_is_refused(bench):
    await bench.layer("a")
    first = await bench.launch("a")
    with pytest.raises(LaunchFailed, match="running already"):
        await bench.launch("a")
    await first.add_export(Export("e", True))


async def test_a_killed_daemon_is_noticed_and_cleaned_up(bench):
    await bench.layer("a")
    daemon = await bench.launch("a")
    os.kill(daemon.identity.pid, 9)
    async with asyncio.timeout(PATIENCE):
        await daemon.exited().wait()
    assert daemon.status == -9
    assert os.listdir(bench.run_dir) == []
    assert not daemon.identity.alive()
    with pytest.raises(DaemonGone):
        await daemon.exports()
    await daemon.stop()
    await daemon.kill()


async def test_a_daemon_dying_under_a_command_is_told_as_gone(bench):
    await bench.layer("a")
    daemon = await bench.launch("a")
    os.kill(daemon.identity.pid, 19)
    asking = asyncio.create_task(daemon.execute("query-version"))
    await asyncio.sleep(0)
    os.kill(daemon.identity.pid, 9)
    with pytest.raises(DaemonGone):
        await asking


async def test_a_lost_session_is_opened_again(bench):
    await bench.layer("a")
    daemon = await bench.launch("a")
    await daemon.monitor.close()
    await daemon.add_export(Export("e", True))
    await daemon.monitor.close()
    await daemon.drop_export("e", 5)


async def test_a_session_that_breaks_under_a_command_leaves_its_outcome_open(bench):
    await bench.layer("a")
    daemon = await bench.launch("a")
    os.kill(daemon.identity.pid, 19)
    asking = asyncio.create_task(daemon.execute("query-version"))
    await asyncio.sleep(0.05)
    await daemon.monitor.close()
    with pytest.raises(QmpInterrupted):
        await asking
    os.kill(daemon.identity.pid, 18)
    assert (await daemon.execute("query-version"))["qemu"]["major"] == bench.build.version[0]


async def test_a_daemon_that_hangs_is_killed_by_stop(bench):
    await bench.layer("a")
    daemon = await bench.launch("a")
    os.kill(daemon.identity.pid, 19)
    await daemon.stop(0.2)
    assert daemon.status == -9


async def test_an_end_makes_no_noise_in_our_log(bench, caplog):
    await bench.layer("a")
    daemon = await bench.launch("a")
    await daemon.kill()
    with pytest.raises(LaunchFailed):
        await bench.launch("missing")
    assert caplog.records == []


async def test_the_output_is_appended_to_the_log(bench):
    bench.log.write_text("earlier\n")
    with pytest.raises(LaunchFailed):
        await bench.launch("missing")
    assert bench.log.read_text().startswith("earlier\n")
    assert "missing.qcow2" in bench.log.read_text()


@pytest.mark.parametrize("limits", [Limits(), Limits(iops_total=1)], ids=["unlimited", "throttled"])
async def test_a_dropped_client_writes_nothing_more(bench, limits):
    """Under load the drop waits for what was accepted, also when the limits would keep that waiting for long."""
    await bench.layer("a")
    daemon = await bench.launch("a", exports=(Export("old", True), Export("new", True)), limits=limits)
    old = await bench.client("old")
    writes = [asyncio.create_task(old.write(n * 4096, b"o" * 4096)) for n in range(400)]
    await asyncio.wait(writes, return_when=asyncio.FIRST_COMPLETED)
    await daemon.drop_export("old", 10)
    assert set(await daemon.exports()) == {"new"}
    await daemon.set_limits(Limits())
    new = await bench.client("new")
    seen = await new.read(0, 400 * 4096)
    with pytest.raises(ConnectionError):
        await old.write(0, b"o" * 4096)
    await asyncio.gather(*writes, return_exceptions=True)
    assert await new.read(0, 400 * 4096) == seen
    with pytest.raises(NbdRefused):
        await bench.client("old")
    await old.close()
    await new.close()
    await daemon.drop_export("old", 1)


async def test_a_drop_that_cannot_be_shown_is_not_claimed(bench):
    """A null disk that answers late stands for one that hangs."""
    slow = {"driver": "null-co", "node-name": "slow", "size": MIB, "latency-ns": 3_000_000_000, "read-zeroes": True}
    daemon = await bench.launch("slow", blockdevs=[slow], exports=(Export("e", True),))
    client = await bench.client()
    waiting = asyncio.create_task(client.read(0, 512))
    # Answered at once, and only after the one before was taken up.
    with pytest.raises(NbdRefused):
        await client.read(client.size, 512)
    with pytest.raises(NotFenced):
        await daemon.drop_export("e", 0.3)
    await daemon.kill()
    await asyncio.gather(waiting, return_exceptions=True)
    await client.close()


async def test_exports_are_there_when_a_waiting_client_is_accepted(bench):
    """A client that connected while no daemon ran must not be told that there is no such export."""
    await bench.layer("a")
    first = await bench.launch("a", exports=(Export("e", True),))
    await first.kill()
    waiting = asyncio.create_task(NbdClient.connect(bench.port, "e"))
    await bench.a_client_waits()
    assert not waiting.done()
    await bench.launch("a", epoch=2, exports=(Export("e", True),))
    client = await waiting
    await client.write(0, b"x" * 512)
    await client.close()


async def test_the_listening_socket_survives_its_daemon(bench):
    await bench.layer("a")
    first = await bench.launch("a", exports=(Export("e", True),))
    port = bench.port
    bench.listener.close()
    bench.listener = first.take_listener()
    assert bench.port == port
    assert bench.listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    await first.kill()
    waiting = asyncio.create_task(NbdClient.connect(port, "e"))
    await bench.a_client_waits()
    await bench.launch("a", epoch=2, exports=(Export("e", True),))
    await (await waiting).close()
