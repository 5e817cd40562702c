"""Real storage daemons over real images, on every QEMU at hand."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.support.nbd import NbdClient
from tests.support.patience import PATIENCE
from tests.support.qemus import bin_dirs

from openvstorage.vpool.exports.command import Export
from openvstorage.vpool.exports.daemon import StorageDaemon
from openvstorage.vpool.exports.limits import Limits
from openvstorage.vpool.exports.listener import listen
from openvstorage.vpool.exports.qemu import QemuBuild
from openvstorage.vpool.exports.sockets import peers

MIB = 1 << 20


@pytest.fixture(params=bin_dirs().values(), ids=bin_dirs().keys())
async def build(request: pytest.FixtureRequest, tmp_path: Path) -> QemuBuild:
    return await QemuBuild.probe(tmp_path, request.param)


@pytest.fixture
def run_dir() -> Iterator[Path]:
    """A directory with a name short enough for sockets."""
    path = Path(tempfile.mkdtemp(prefix="ovs-"))
    yield path
    shutil.rmtree(path)


@dataclass
class Bench:
    """Launches daemons over layers in a directory and ends them all."""

    build: QemuBuild
    folder: Path
    run_dir: Path
    daemons: list[StorageDaemon] = field(default_factory=list)
    listener: Any = None

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    @property
    def log(self) -> Path:
        return self.folder / "log"

    async def tool(self, *words: str) -> str:
        process = await asyncio.create_subprocess_exec(
            self.build.image_tool,
            *words,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()
        return said.decode()

    async def layer(self, name: str, size: int = 64 * MIB, below: str | None = None) -> Path:
        path = self.folder / f"{name}.qcow2"
        backing = [] if below is None else ["-F", "qcow2", "-b", str(self.folder / f"{below}.qcow2")]
        await self.tool("create", "-q", "-f", "qcow2", *backing, str(path), str(size))
        return path

    def node(self, name: str, below: str | None = None, *, read_only: bool = False) -> dict[str, Any]:
        return {
            "driver": "qcow2",
            "node-name": name,
            "discard": "unmap",
            "read-only": read_only,
            "backing": below,
            "file": {
                "driver": "file",
                "filename": str(self.folder / f"{name}.qcow2"),
                "aio": self.build.aio,
                "cache": {"direct": self.build.direct},
                "discard": "unmap",
            },
        }

    def chain(self, *names: str) -> list[dict[str, Any]]:
        """Nodes of layers from base to active; all but the last are read-only."""
        below = (None, *names[:-1])
        return [self.node(name, under, read_only=name != names[-1]) for name, under in zip(names, below, strict=True)]

    async def launch(self, *names: str, exports: tuple[Export, ...] = (), **options: Any) -> StorageDaemon:
        if self.listener is None:
            self.listener = listen("127.0.0.1", 0)
        arguments: dict[str, Any] = {
            "vdisk": "vd-1",
            "epoch": 1,
            "listener": self.listener,
            "blockdevs": self.chain(*names),
            "top": names[-1],
            "limits": Limits(),
        }
        daemon = await StorageDaemon.launch(
            self.build.storage_daemon, self.run_dir, self.log, exports=exports, **{**arguments, **options}
        )
        self.daemons.append(daemon)
        return daemon

    async def a_client_waits(self) -> None:
        """Wait until a client has connected, whether or not anybody serves it."""
        async with asyncio.timeout(PATIENCE):
            while not peers(os.getpid(), self.port):
                await asyncio.sleep(0.01)

    async def client(self, export: str = "e") -> NbdClient:
        return await NbdClient.connect(self.port, export)


@pytest.fixture
async def bench(build: QemuBuild, tmp_path: Path, run_dir: Path) -> AsyncIterator[Bench]:
    bench = Bench(build, tmp_path, run_dir)
    yield bench
    for daemon in bench.daemons:
        # Not by its own means: the test may have failed with it detached.
        if daemon.identity.alive():
            os.kill(daemon.identity.pid, signal.SIGKILL)
        while daemon.identity.alive():
            await asyncio.sleep(0.01)
        await daemon.detach()
    if bench.listener is not None:
        bench.listener.close()
