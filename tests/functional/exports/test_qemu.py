"""Looking at the QEMU at hand."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from tests.support.qemus import bin_dirs

from openvstorage.vpool.exports.daemon import StorageDaemon
from openvstorage.vpool.exports.errors import QemuMissing
from openvstorage.vpool.exports.limits import Limits
from openvstorage.vpool.exports.qemu import QemuBuild


async def test_what_is_known_of_two_builds_is_found_out(build):
    """7.2 aborts in both scenarios, 10.0 in neither; builds in between are not known here."""
    if build.version[:2] == (7, 2):
        assert not build.extended_l2_safe
        assert not build.discards_in_place
    elif build.version >= (10, 0, 0):
        assert build.extended_l2_safe
        assert build.discards_in_place
    else:
        pytest.skip(f"nothing is known of QEMU {build.version}")


async def test_nothing_of_a_probe_is_left(tmp_path):
    await QemuBuild.probe(tmp_path)
    assert os.listdir(tmp_path) == []
    assert not [name for name in os.listdir("/proc") if name.isdigit() and _mentions(name, str(tmp_path))]


async def test_what_a_probe_left_that_was_killed_is_removed_by_the_next(tmp_path):
    (tmp_path / "probe-abc").mkdir()
    (tmp_path / "probe-abc" / "way.raw").write_bytes(bytes(512))
    await QemuBuild.probe(tmp_path)
    assert os.listdir(tmp_path) == []


def _mentions(pid: str, text: str) -> bool:
    try:
        return text.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


async def test_the_way_of_io_works_in_the_probed_directory(build, tmp_path, run_dir):
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    file = {"driver": "file", "filename": str(image), "aio": build.aio, "cache": {"direct": build.direct}}
    node = {"driver": "raw", "node-name": "image", "discard": "unmap", "file": file}
    daemon = await StorageDaemon.launch(
        build.storage_daemon,
        run_dir,
        tmp_path / "log",
        vdisk="vd",
        epoch=0,
        listener=None,
        blockdevs=[node],
        top="image",
        limits=Limits(),
    )
    await daemon.stop()
    assert daemon.status == 0


async def test_a_missing_program_is_told_with_its_package(tmp_path):
    with pytest.raises(QemuMissing, match="qemu-system-common") as caught:
        await QemuBuild.probe(tmp_path, tmp_path)
    assert caught.value.program == "qemu-storage-daemon"


async def test_a_program_that_does_not_work_is_told(tmp_path):
    for program in ("qemu-storage-daemon", "qemu-img"):
        path = tmp_path / program
        path.write_text("#!/bin/sh\necho cannot load libsomething >&2\nexit 127\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(QemuMissing, match="libsomething"):
        await QemuBuild.probe(tmp_path, tmp_path)


async def test_an_upgraded_program_is_looked_at_again(tmp_path):
    """The same path with another modification time is another program."""
    folder = tmp_path / "bin"
    folder.mkdir()
    real = next(iter(bin_dirs().values()))
    for program in ("qemu-storage-daemon", "qemu-img"):
        path = folder / program
        path.write_text(f'#!/bin/sh\necho run >>{tmp_path}/runs\nexec {real}/{program} "$@"\n')
        path.chmod(0o755)
    await QemuBuild.probe(tmp_path, folder)
    once = (tmp_path / "runs").read_text()
    await QemuBuild.probe(tmp_path, folder)
    assert (tmp_path / "runs").read_text() == once
    os.utime(folder / "qemu-img", ns=(1, 1))
    await QemuBuild.probe(tmp_path, folder)
    assert len((tmp_path / "runs").read_text()) > len(once)
