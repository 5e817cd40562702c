"""Which QEMU is at hand and what it can be trusted with, found out by trying.

Versions do not tell: distributions carry fixes back. Each doubtful feature is used once, in a scratch directory, by a
process of its own that may die of it. docs/qemu-bugs.md tells what is doubtful.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from openvstorage.vpool.exports import command, discards, tools
from openvstorage.vpool.exports.daemon import StorageDaemon
from openvstorage.vpool.exports.errors import ExportsError, LaunchFailed, QemuMissing
from openvstorage.vpool.exports.limits import Limits

__all__ = ["QemuBuild"]

log = logging.getLogger(__name__)

_CLUSTER = 128 * 1024
#: Seconds for one scenario; one takes about 0.1.
_PATIENCE = 20.0
#: Best first.
_WAYS = (("io_uring", True), ("native", True), ("threads", True), ("io_uring", False), ("threads", False))

#: (program, its modification time, the same of the other one) -> features found.
_features: dict[tuple[object, ...], QemuBuild] = {}
_probing: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}


@dataclass(frozen=True, slots=True)
class QemuBuild:
    """A QEMU installation.

    :ivar storage_daemon: path of qemu-storage-daemon.
    :ivar image_tool: path of qemu-img.
    :ivar version: of the storage daemon.
    :ivar extended_l2_safe: block-stream survives images with extended_l2.
    :ivar discards_in_place: layers with sub-clusters can give discarded space back, see :mod:`discards`.
    :ivar guards_zeroes: it has the filter of :func:`command.guard_options`.
    :ivar aio: the best way of asynchronous I/O that works in the probed directory: io_uring, native or threads.
    :ivar direct: whether files there can be opened with O_DIRECT (not on tmpfs).
    """

    storage_daemon: Path
    image_tool: Path
    version: tuple[int, int, int]
    extended_l2_safe: bool
    discards_in_place: bool
    guards_zeroes: bool
    aio: str
    direct: bool

    @classmethod
    async def probe(cls, scratch: Path, bin_dir: Path | None = None) -> Self:
        """Look at an installation; about half a second, nothing when it was looked at before.

        :param scratch: a directory on the file system that will hold the images; what is made in it is removed.
        :param bin_dir: where the programs are, None for the PATH.
        :raise QemuMissing: a program is not there or does not start.
        :raise OSError: nothing can be written in ``scratch``.
        """
        daemon, tool = _find("qemu-storage-daemon", bin_dir), _find("qemu-img", bin_dir)
        io_tool = _look_for("qemu-io", bin_dir)
        programs = [program for program in (daemon, tool, io_tool) if program is not None]
        key = (*((program, program.stat().st_mtime_ns) for program in programs), scratch.stat().st_dev)
        loop = asyncio.get_running_loop()
        async with _probing.setdefault(loop, asyncio.Lock()):
            for left in scratch.glob("probe-*"):  # by a process that died while it probed
                shutil.rmtree(left, ignore_errors=True)
            if key not in _features:
                with tempfile.TemporaryDirectory(prefix="probe-", dir=scratch) as name:
                    _features[key] = await _probe(daemon, tool, io_tool, Path(name))
        found = _features[key]
        return cls(*(getattr(found, field) for field in cls.__dataclass_fields__))


async def _probe(daemon: Path, tool: Path, io_tool: Path | None, scratch: Path) -> QemuBuild:
    aio, direct = await _way(tool, scratch)
    build = QemuBuild(daemon, tool, await _version(daemon, scratch), False, False, False, aio, direct)
    # Sockets need a short name, which a data directory need not have.
    with tempfile.TemporaryDirectory(prefix="ovs-probe-") as run_dir:
        return replace(
            build,
            extended_l2_safe=await _stream_survives_extended_l2(build, scratch, Path(run_dir)),
            guards_zeroes=await _has_guard(build, scratch, Path(run_dir)),
            discards_in_place=await _discards_in_place(build, io_tool, scratch),
        )


async def _way(tool: Path, scratch: Path) -> tuple[str, bool]:
    """The first way in which a real write works here."""
    image = scratch / "way.raw"
    image.write_bytes(bytes(1 << 20))
    for aio, direct in _WAYS:
        cache = "none" if direct else "writeback"
        words = ["bench", "-q", "-f", "raw", "-w", "-c", "1", "-d", "1", "-s", "4096", "-i", aio, "-t", cache]
        status, said = await tools.run(scratch, tool, *words, str(image))
        if status == 0:
            return aio, direct
    raise QemuMissing(program=str(tool), reason=f"it cannot write in {scratch}: {said.text()}")


async def _stream_survives_extended_l2(build: QemuBuild, scratch: Path, run_dir: Path) -> bool:
    """Stream one layer into another, each with a part of the same cluster: QEMU 7.2 aborts."""
    layers = [scratch / f"{name}.qcow2" for name in ("base", "lower", "upper")]
    below: list[str] = []
    for layer in layers:
        options = f"extended_l2=on,cluster_size={_CLUSTER}"
        await tools.must(
            scratch, build.image_tool, "create", "-q", "-f", "qcow2", "-o", options, *below, str(layer), "1M"
        )
        below = ["-F", "qcow2", "-b", str(layer)]
    for layer, offset in ((layers[1], _CLUSTER // 2), (layers[2], 0)):
        words = ["bench", "-q", "-f", "qcow2", "-w", "-c", "1", "-d", "1", "-s", "4096", "-o", str(offset)]
        await tools.must(scratch, build.image_tool, *words, str(layer))
    nodes: list[dict[str, Any]] = []
    for layer in layers:
        file = {"driver": "file", "filename": str(layer), "aio": build.aio, "cache": {"direct": build.direct}}
        node: dict[str, Any] = {"driver": "qcow2", "node-name": layer.stem, "discard": "unmap", "file": file}
        node["read-only"] = layer is not layers[-1]
        node["backing"] = nodes[-1]["node-name"] if nodes else None
        nodes.append(node)

    async def scenario(daemon: StorageDaemon) -> None:
        await daemon.run_stream(job="probe", head="upper", base="base")

    return await _survives(build, scratch, run_dir, nodes, "upper", scenario)


async def _has_guard(build: QemuBuild, scratch: Path, run_dir: Path) -> bool:
    """Whether the filter is built in; distributions choose."""
    null = {"driver": "null-co", "node-name": "null", "size": 1 << 20, "read-zeroes": True}
    nodes = [null, command.guard_options("null", _CLUSTER)]

    async def scenario(daemon: StorageDaemon) -> None:
        await daemon.head()

    try:
        return await _survives(build, scratch, run_dir, nodes, command.GUARD, scenario)
    except LaunchFailed as error:
        log.warning("this QEMU lacks a filter that keeps zero requests from getting lost: %s", error)
        return False


async def _discards_in_place(build: QemuBuild, io_tool: Path | None, scratch: Path) -> bool:
    """Whether the trial of :mod:`discards` goes well; what can not be tried is not trusted."""
    if io_tool is None:
        log.warning("there is no qemu-io beside %s: discards give no space back", build.image_tool)
        return False
    try:
        async with asyncio.timeout(_PATIENCE):
            return await discards.stay_in_place(build.image_tool, io_tool, scratch)
    except TimeoutError:
        return False


async def _survives(
    build: QemuBuild,
    scratch: Path,
    run_dir: Path,
    nodes: list[dict[str, Any]],
    top: str,
    scenario: Callable[[StorageDaemon], Coroutine[Any, Any, None]],
) -> bool:
    """Whether a daemon carries a scenario out and ends in order afterwards."""
    daemon = await StorageDaemon.launch(
        build.storage_daemon,
        run_dir,
        scratch / "log",
        vdisk="probe",
        epoch=0,
        listener=None,
        blockdevs=nodes,
        top=top,
        limits=Limits(),
        outlives=False,
    )
    daemon.forbid_core_dump()
    trying = asyncio.ensure_future(scenario(daemon))
    ended = asyncio.ensure_future(daemon.exited().wait())
    try:
        async with asyncio.timeout(_PATIENCE):
            await asyncio.wait({trying, ended}, return_when=asyncio.FIRST_COMPLETED)
        if ended.done():
            return False
        await trying
        await daemon.stop()
    except (ExportsError, TimeoutError):
        return False
    finally:
        trying.cancel()
        ended.cancel()
        await asyncio.gather(trying, ended, return_exceptions=True)
        await asyncio.shield(daemon.kill())
    return daemon.status == 0


async def _version(daemon: Path, scratch: Path) -> tuple[int, int, int]:
    status, said = await tools.run(scratch, daemon, "--version")
    match = re.search(r"version (\d+)\.(\d+)\.(\d+)", said.raw())
    if status or match is None:
        raise QemuMissing(program=str(daemon), reason=f"it does not tell its version: {said.text()}")
    major, minor, patch = (int(part) for part in match.groups())
    return major, minor, patch


def _find(program: str, bin_dir: Path | None) -> Path:
    found = _look_for(program, bin_dir)
    if found is None:
        raise QemuMissing(program=program, reason=f"not found in {bin_dir or 'the PATH'}")
    return found


def _look_for(program: str, bin_dir: Path | None) -> Path | None:
    found = shutil.which(program, path=None if bin_dir is None else str(bin_dir))
    return Path(found).absolute() if found is not None else None
