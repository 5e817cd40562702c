"""What is done to a vPool before and while it is killed: looking up, parts of set-ups, and breaking its tools."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import select
from tests.support.crash import kill, until
from tests.support.crash_world import BLOCK, fill
from tests.support.engine import Engine

from openvstorage.vpool.exports.errors import LaunchFailed
from openvstorage.vpool.model.export import Grant
from openvstorage.vpool.model.vdisk import Snapshot, VDisk
from openvstorage.vpool.operations.grants import Respawn

Act = Callable[[Engine], Awaitable[Any]]


# -- looking up ------------------------------------------------------------------------------------------------------


async def vdisk(engine: Engine, name: str) -> str:
    """:returns: guid of a vDisk."""
    async with engine.db.read() as session:
        return str(await session.scalar(select(VDisk.guid).where(VDisk.name == name)))


async def snapshot(engine: Engine, name: str, label: str) -> str:
    """:returns: guid of a vDisk's snapshot."""
    guid = await vdisk(engine, name)
    async with engine.db.read() as session:
        return str(
            await session.scalar(select(Snapshot.guid).where(Snapshot.vdisk_guid == guid, Snapshot.label == label))
        )


async def grant(engine: Engine, consumer: str) -> dict[str, Any]:
    """:returns: guids of the grant of a consumer, enough to revoke it."""
    async with engine.db.read() as session:
        found = (await session.scalars(select(Grant).where(Grant.consumer == consumer))).one()
        return {"guid": found.guid, "vdisk_guid": found.vdisk_guid}


# -- parts of set-ups ------------------------------------------------------------------------------------------------


def disk(name: str, pattern: str) -> Act:
    """A vDisk with this content."""

    async def make(engine: Engine) -> None:
        guid = await engine.create(name, len(pattern) * BLOCK)
        for number, character in enumerate(pattern):
            if character != ".":
                await engine.write(guid, number * BLOCK, fill(character))

    return make


def written(name: str, block: int, character: str) -> Act:
    """One more block written."""

    async def make(engine: Engine) -> None:
        await engine.write(await vdisk(engine, name), block * BLOCK, fill(character))

    return make


def snapped(name: str, label: str) -> Act:
    """A snapshot."""

    async def make(engine: Engine) -> None:
        await engine.snapshot(await vdisk(engine, name), label)

    return make


def cloned(name: str, clone: str, label: str | None = None) -> Act:
    """A clone, of a snapshot or of the vDisk."""

    async def make(engine: Engine) -> None:
        source = await snapshot(engine, name, label) if label else None
        await engine.clone(await vdisk(engine, name), clone, source)

    return make


def granted(name: str, consumer: str, mode: str = "rw", label: str | None = None) -> Act:
    """A grant, of the vDisk or of a snapshot."""

    async def make(engine: Engine) -> None:
        source = await snapshot(engine, name, label) if label else None
        await engine.grant(await vdisk(engine, name), consumer, mode, snapshot_guid=source)

    return make


def done(kind: str, name: str | None = None, /, **args: Any) -> Act:
    """Any task. An argument that is itself an awaitable look-up is given as a function of the engine."""

    async def make(engine: Engine) -> None:
        resolved = {key: await value(engine) if callable(value) else value for key, value in args.items()}
        await engine.do(kind, await vdisk(engine, name) if name else None, **resolved)

    return make


def dropped(name: str, label: str) -> Act:
    """A snapshot removed, its bytes not merged yet."""
    return done("snapshot.delete", name, snapshot_guid=lambda engine: snapshot(engine, name, label))


def revoked(name: str, consumer: str) -> Act:
    """A grant revoked."""

    async def make(engine: Engine) -> None:
        found = await grant(engine, consumer)
        await engine.do("grant.revoke", await vdisk(engine, name), grant_guid=found["guid"])

    return make


def first(*parts: Act) -> Act:
    """One thing after the other."""

    async def make(engine: Engine) -> None:
        for part in parts:
            await part(engine)

    return make


async def settled(engine: Engine) -> None:
    """All background work done."""
    await engine.settle()


async def daemon_killed(engine: Engine) -> None:
    """The storage daemon of vDisk ``a`` killed, and the next one there."""
    guid = await vdisk(engine, "a")
    old = engine.context.fleet.get(guid)
    kill(old.identity.pid)

    async def back() -> bool:
        return engine.context.fleet.get(guid) not in (None, old) and not engine.operations._housekeeping._respawns

    await until(back, "a new daemon serves the vDisk")


async def respawn_refused(engine: Engine) -> None:
    """The storage daemon of vDisk ``a`` killed, and one attempt to start the next that fails."""
    guid = await vdisk(engine, "a")
    engine.context.fleet.on_death = lambda _guid: None
    kill(engine.context.fleet.get(guid).identity.pid)

    async def gone() -> bool:
        return engine.context.fleet.get(guid) is None

    await until(gone, "the daemon's end is noticed")
    with contextlib.suppress(LaunchFailed):
        await engine.context.journal.run(Respawn(engine.context, {"vdisk_guid": guid}))


def break_tool(engine: Engine, tool: str) -> None:
    """Make ``qemu-img`` or the storage daemon fail from now on."""
    if tool == "qemu-img":
        engine.context.backend.files._image_tool = Path("/bin/false")
    else:
        fleet = engine.context.fleet
        fleet._build = replace(fleet._build, storage_daemon=Path("/bin/false"))
