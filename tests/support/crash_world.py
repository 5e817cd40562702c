"""What a vPool shows to its users, written down so that two states can be compared at a glance.

Contents are patterns: one character for each block of 64 KiB, which is filled with that character; ``.`` is zeroes.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select
from tests.support.engine import Engine

from openvstorage.vpool.model.export import Grant
from openvstorage.vpool.model.vdisk import Snapshot, State, VDisk

BLOCK = 64 * 1024
#: In an expected pattern: what a guest wrote (and flushed) between the crash and the next start, if it could.
GUEST = "!"
#: The same where that write may lie before or after the instant: it is there or not.
MAYBE = "?"


@dataclass(frozen=True)
class Disk:
    """A vDisk: its content, and that of its snapshots by label."""

    content: str
    snapshots: Mapping[str, str] = field(default_factory=dict)
    template: bool = False
    qos: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """All vDisks by name, and all grants as ``vDisk:consumer``."""

    disks: Mapping[str, Disk] = field(default_factory=dict)
    grants: frozenset[str] = frozenset()


def fits(actual: World, expected: World, wrote: bool | None) -> bool:
    """:returns: whether a world is the expected one, where the guest has written, has not, or may have (None)."""
    return (
        actual.grants == expected.grants
        and set(actual.disks) == set(expected.disks)
        and all(_disk_fits(actual.disks[name], disk, wrote) for name, disk in expected.disks.items())
    )


def _disk_fits(actual: Disk, expected: Disk, wrote: bool | None) -> bool:
    return (
        actual.template == expected.template
        and dict(actual.qos) == dict(expected.qos)
        and _matches(actual.content, expected.content, wrote)
        and set(actual.snapshots) == set(expected.snapshots)
        and all(_matches(actual.snapshots[label], text, wrote) for label, text in expected.snapshots.items())
    )


def _matches(actual: str, expected: str, wrote: bool | None) -> bool:
    allowed = {GUEST: {True: "W", False: ".", None: "W."}[wrote], MAYBE: "." if wrote is False else "W."}
    return len(actual) == len(expected) and all(
        found in allowed.get(wanted, wanted) for found, wanted in zip(actual, expected, strict=True)
    )


async def look(engine: Engine) -> World:
    """Read everything: the model's rows and every byte, the bytes without our own daemons.

    Heads in use are read through a grant of their own, everything else by ``qemu-img`` over the chain that the
    database says, which is independent of how daemons are started.
    """
    async with engine.db.read() as session:
        vdisks = list(await session.scalars(select(VDisk).where(VDisk.state == State.READY)))
        snapshots = list(await session.scalars(select(Snapshot).where(Snapshot.state == State.READY)))
        grants = list(await session.scalars(select(Grant)))
    names = {vdisk.guid: vdisk.name for vdisk in vdisks}
    disks = {}
    for vdisk in vdisks:
        frozen = {
            # a snapshot that was only made for a clone has no label of its own
            snapshot.label or "(clone)": await read_reference(engine, str(snapshot.backend_ref), snapshot.size)
            for snapshot in snapshots
            if snapshot.vdisk_guid == vdisk.guid
        }
        disks[vdisk.name] = Disk(await _read_head(engine, vdisk), frozen, vdisk.is_vtemplate, vdisk.qos)
    return World(disks, frozenset(f"{names[grant.vdisk_guid]}:{grant.consumer}" for grant in grants))


async def _read_head(engine: Engine, vdisk: VDisk) -> str:
    if engine.context.fleet.get(vdisk.guid) is None:
        return await read_reference(engine, str(vdisk.backend_ref), vdisk.size)
    return pattern(await engine.read(vdisk.guid, 0, vdisk.size))


async def read_reference(engine: Engine, ref: str, size: int) -> str:
    """Read what nobody writes to. :returns: its pattern.

    :raises AssertionError: it has another size than ``size`` bytes, or cannot be read.
    """
    spec = await engine.context.backend.export_spec(ref, read_only=True)
    nodes: dict[str, dict[str, Any]] = {}
    for blockdev in spec.blockdevs:
        node = {key: value for key, value in blockdev.items() if key != "node-name"}
        for edge in ("file", "backing"):
            if isinstance(node.get(edge), str):
                node[edge] = nodes[node[edge]]
        nodes[str(blockdev["node-name"])] = node
    image = "json:" + json.dumps(nodes[spec.top])
    target = engine.directory.root / f"read-{ref}.raw"
    try:
        await run(engine.context.backend.files._image_tool, "convert", "-U", "-O", "raw", image, target)
        data = target.read_bytes()
    finally:
        target.unlink(missing_ok=True)
    assert len(data) == size, f"{ref} has {len(data)} bytes, the model says {size}"
    return pattern(data)


async def run(program: Path, *words: object) -> None:
    """Run a tool. :raises AssertionError: it fails; the text is what it says."""
    process = await asyncio.create_subprocess_exec(
        program, *map(str, words), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


def pattern(data: bytes) -> str:
    """:returns: the pattern of bytes; ``#`` for a block that is not of one character."""
    blocks = (data[at : at + BLOCK] for at in range(0, len(data), BLOCK))
    return "".join(_character(block) for block in blocks)


def _character(block: bytes) -> str:
    if block != block[:1] * len(block):
        return "#"
    return "." if block[0] == 0 else chr(block[0])


def fill(character: str) -> bytes:
    """:returns: the bytes of one block."""
    return (b"\0" if character == "." else character.encode()) * BLOCK
