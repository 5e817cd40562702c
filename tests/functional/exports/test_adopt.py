"""Finding a daemon again that outlived the process which started it, and leaving everybody else's alone."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from tests.support.nbd import NbdClient
from tests.support.patience import PATIENCE

from openvstorage.vpool.exports.command import Export
from openvstorage.vpool.exports.daemon import StorageDaemon
from openvstorage.vpool.exports.errors import DaemonGone, NotOurs
from openvstorage.vpool.exports.identity import Identity
from openvstorage.vpool.exports.limits import Limits
from openvstorage.vpool.exports.run_files import RunFiles

_PARENT = textwrap.dedent("""
    import asyncio, dataclasses, json, sys
    from pathlib import Path
    from openvstorage.vpool.exports.command import Export
    from openvstorage.vpool.exports.daemon import StorageDaemon
    from openvstorage.vpool.exports.limits import Limits
    from openvstorage.vpool.exports.listener import listen
    from openvstorage.vpool.exports.qemu import QemuBuild

    async def main():
        asked = json.loads(sys.stdin.read())
        build = await QemuBuild.probe(Path(asked["folder"]), Path(asked["bin_dir"]))
        daemon = await StorageDaemon.launch(
            build.storage_daemon, Path(asked["run_dir"]), Path(asked["folder"], "log"), vdisk="vd-1", epoch=1,
            listener=listen("127.0.0.1", 0), blockdevs=asked["nodes"], top="a", limits=Limits(),
            exports=[Export("e", True)],
        )
        print(json.dumps(dataclasses.asdict(daemon.identity)), flush=True)
        await asyncio.sleep(1000)

    asyncio.run(main())
""")


def _orphan(bench) -> Identity:
    """Have a daemon launched by a process that is then killed."""
    asked = {
        "folder": str(bench.folder),
        "bin_dir": str(bench.build.storage_daemon.parent),
        "run_dir": str(bench.run_dir),
        "nodes": bench.chain("a"),
    }
    with subprocess.Popen([sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdin
        assert parent.stdout
        parent.stdin.write(json.dumps(asked).encode())
        parent.stdin.close()
        identity = Identity(**json.loads(parent.stdout.readline()))
        parent.kill()
    return identity


async def _adopt(bench, identity: Identity, **options) -> StorageDaemon:
    arguments = {"vdisk": "vd-1", "epoch": 1, "identity": identity, **options}
    daemon = await StorageDaemon.adopt(bench.run_dir, **arguments)
    bench.daemons.append(daemon)
    return daemon


async def test_a_daemon_is_adopted_after_its_parent_was_killed(bench):
    await bench.layer("a")
    identity = _orphan(bench)
    daemon = await _adopt(bench, identity)
    bench.listener = daemon.take_listener()
    client = await bench.client()
    await client.write(0, b"x" * 4096)
    assert list(await daemon.exports()) == ["e"]
    assert len(await daemon.clients()) == 1
    await daemon.flush()
    await client.close()
    await daemon.stop()
    assert not identity.alive()
    assert os.listdir(bench.run_dir) == []


async def test_the_death_of_an_adopted_daemon_is_noticed(bench):
    await bench.layer("a")
    daemon = await _adopt(bench, _orphan(bench))
    os.kill(daemon.identity.pid, 9)
    async with asyncio.timeout(PATIENCE):
        await daemon.exited().wait()
    assert daemon.status is None
    with pytest.raises(DaemonGone):
        await daemon.exports()


async def test_a_client_waits_from_the_death_to_the_respawn(bench):
    """The socket is taken out of the adopted daemon, and kept over its death."""
    await bench.layer("a")
    daemon = await _adopt(bench, _orphan(bench))
    bench.listener = daemon.take_listener()
    await daemon.kill()
    waiting = asyncio.create_task(NbdClient.connect(bench.port, "e"))
    await bench.a_client_waits()
    assert not waiting.done()
    again = await bench.launch("a", epoch=2)
    await again.add_export(Export("e", True))
    await asyncio.gather(waiting, return_exceptions=True)
    await (await bench.client()).close()


async def test_a_detached_daemon_is_adopted_again(bench):
    await bench.layer("a")
    first = await bench.launch("a")
    await first.detach()
    second = await _adopt(bench, first.identity)
    await second.add_export(Export("e", True))


async def test_a_strangers_process_is_refused_and_left_alone(bench):
    """Its pid was recorded by mistake, even with its right start time."""
    await bench.layer("a")
    ours = await bench.launch("a")
    with subprocess.Popen(["sleep", "1000"]) as stranger:
        identity = Identity.of(stranger.pid)
        with pytest.raises(NotOurs, match="pid file"):
            await _adopt(bench, identity)
        assert stranger.poll() is None
        stranger.kill()
    assert ours.identity.alive()


async def test_a_pid_that_is_anothers_by_now_means_gone(bench):
    await bench.layer("a")
    daemon = await bench.launch("a")
    recorded = dataclasses.replace(daemon.identity, start_time=daemon.identity.start_time - 1)
    with pytest.raises(DaemonGone):
        await _adopt(bench, recorded)
    with pytest.raises(DaemonGone):
        await _adopt(bench, dataclasses.replace(daemon.identity, boot_id="earlier"))
    assert daemon.identity.alive()


async def test_another_vdisks_or_epochs_daemon_is_refused(bench):
    await bench.layer("a")
    daemon = await bench.launch("a")
    await daemon.detach()
    with pytest.raises(NotOurs):
        await _adopt(bench, daemon.identity, epoch=2)
    with pytest.raises(NotOurs):
        await _adopt(bench, daemon.identity, vdisk="vd-2")
    await (await _adopt(bench, daemon.identity)).kill()


async def test_a_daemon_under_the_files_of_another_is_refused(bench):
    """Even when the run directory's files were mixed up, the throttle group tells whose it is."""
    await bench.layer("a")
    daemon = await bench.launch("a")
    await daemon.detach()
    mine, wrong = (RunFiles.of(bench.run_dir, vdisk, 1) for vdisk in ("vd-1", "vd-2"))
    mine.monitor.rename(wrong.monitor)
    mine.pid_file.rename(wrong.pid_file)
    with pytest.raises(NotOurs, match="throttle group"):
        await _adopt(bench, daemon.identity, vdisk="vd-2")
    assert daemon.identity.alive()
    wrong.monitor.rename(mine.monitor)
    wrong.pid_file.rename(mine.pid_file)
    await (await _adopt(bench, daemon.identity)).kill()


async def test_a_socket_of_another_process_is_refused(bench):
    """The pid file is right, but the monitor's other end is another process."""
    await bench.layer("a")
    await bench.layer("b")
    daemon = await bench.launch("a")
    other = await bench.launch("b", vdisk="vd-2", listener=None)
    for one in (daemon, other):
        await one.detach()
    mine, others = (RunFiles.of(bench.run_dir, vdisk, 1) for vdisk in ("vd-1", "vd-2"))
    keep = Path(bench.run_dir, "keep")
    mine.monitor.rename(keep)
    others.monitor.rename(mine.monitor)
    with pytest.raises(NotOurs, match="answers on"):
        await _adopt(bench, daemon.identity)
    mine.monitor.rename(others.monitor)
    keep.rename(mine.monitor)
    for vdisk, one in (("vd-1", daemon), ("vd-2", other)):
        await (await _adopt(bench, one.identity, vdisk=vdisk)).kill()


async def test_limits_of_an_adopted_daemon_can_be_set(bench):
    await bench.layer("a")
    daemon = await _adopt(bench, _orphan(bench))
    await daemon.hold()
    await daemon.release(Limits(iops_total=5))
    group = f"/objects/{daemon.group}"
    assert (await daemon.execute("qom-get", path=group, property="limits"))["iops-total"] == 5


async def test_what_a_dead_service_was_doing_is_ended_at_adoption(bench):
    """A merge that stood still, one that ended unseen, and a hold: the graph can be changed, and the hold be ended."""
    await bench.layer("a")
    await bench.layer("b")
    slow = {"driver": "null-co", "node-name": "slow", "size": 64 << 20, "latency-ns": 50_000_000, "read-zeroes": True}
    nodes = [bench.node("b"), {**slow, "read-only": True}, bench.node("a", "slow")]
    first = await bench.launch("a", blockdevs=nodes, exports=(Export("e", True),))
    await first.hold()
    # As a service leaves it that dies in the middle of making a second hold.
    await first.execute("blockdev-add", {"driver": "null-co", "node-name": "hold-source", "size": 1 << 20})
    await first.execute("block-stream", {"job-id": "ran", "device": "a", "auto-dismiss": False})
    await first.execute("job-pause", id="ran")
    await first.execute("block-stream", {"job-id": "ended", "device": "b", "auto-dismiss": False})
    await first.detach()
    second = await _adopt(bench, first.identity)
    assert await second.execute("query-jobs") == []
    assert await second.head() == "a"
    client = await bench.client()
    waiting = asyncio.create_task(client.write(0, b"x" * 4096))
    assert not (await asyncio.wait({waiting}, timeout=0.3))[0]
    await second.release(Limits())
    async with asyncio.timeout(5):
        await waiting
    await second.hold()
    await second.release(Limits())
    await client.close()
