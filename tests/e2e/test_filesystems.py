"""A real guest's file systems on vDisks, trimmed and made anew beside writes, while storage daemons are killed."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import filesystem_guest
from tests.support.qemus import bin_dirs
from tests.support.vpool_service import VpoolService, storage_daemons

from openvstorage.client import Client

MIB = 1024**2
SIZE = 512 * MIB
ROUNDS = int(os.environ.get("GUEST_ROUNDS", "6"))
#: An emulated processor on a busy machine takes its time.
PATIENCE_SECONDS = 1500
BETWEEN_KILLS_SECONDS = 7


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Path]]:
    if reason := filesystem_guest.missing():
        pytest.skip(reason)
    scratch = tmp_path_factory.mktemp("guest")
    yield filesystem_guest.make(scratch)
    shutil.rmtree(scratch)


@pytest.mark.timeout(PATIENCE_SECONDS + 300)
@pytest.mark.parametrize("qemu", bin_dirs().values(), ids=bin_dirs().keys())
def test_file_systems_keep_what_they_have(guest: tuple[Path, Path], tmp_path: Path, qemu: Path) -> None:
    console = tmp_path / "console"
    service = VpoolService(tmp_path / "data", options=("--qemu-dir", str(qemu)))
    with service, Client.from_status(service.status) as client:
        disks = []
        for name in ("ext4", "xfs", "zeroes", "makes"):
            vdisk = client.vdisks.create(name, SIZE, service.status["vpool_guid"])
            grant = client.grants.create(vdisk, "compute1", "guest")
            disks.append((grant.host, grant.port, grant.export_name))
        process = filesystem_guest.boot(*guest, disks, ROUNDS, console)
        try:
            kills = _kill_until_the_end(process, service)
        finally:
            process.kill()
            process.wait()
    said = console.read_text(errors="replace")
    assert filesystem_guest.DONE in said, said[-3000:]
    assert [line for line in said.splitlines() if filesystem_guest.WRONG in line] == []
    assert kills > 0
    layers = list((tmp_path / "data" / "layers").iterdir())
    for layer in layers:
        # 3: clusters that nobody has, which a kill leaves behind
        assert subprocess.run([qemu / "qemu-img", "check", "-q", layer], check=False).returncode in (0, 3)
    shutil.rmtree(tmp_path / "data")


def _kill_until_the_end(process: subprocess.Popen[bytes], service: VpoolService) -> int:
    """Kill the storage daemons in turn, until the guest has ended. :returns: how often."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    for kills in itertools.count():
        try:
            process.wait(BETWEEN_KILLS_SECONDS)
        except subprocess.TimeoutExpired:
            assert time.monotonic() < deadline, "the guest does not come to its end"
            daemons = list(storage_daemons(service.data))
            os.kill(daemons[kills % len(daemons)], signal.SIGKILL)
        else:
            return kills
    raise AssertionError
