"""Whether model, files, daemons and block graphs of a vPool agree, and nothing is left over.

To be asked of an engine that is running, has no task under way and has settled.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import select
from tests.support.crash import until
from tests.support.engine import Engine
from tests.support.patience import PATIENCE

from openvstorage.edge.nbd import NbdClient
from openvstorage.vpool.backends.layers import lines
from openvstorage.vpool.backends.layers.nodes import is_layer_node
from openvstorage.vpool.exports.command import TOP
from openvstorage.vpool.model.export import Export, ExportKind, Grant, GrantState
from openvstorage.vpool.model.layer import Layer, LayerState
from openvstorage.vpool.model.task import OperationRow, Task
from openvstorage.vpool.model.vdisk import Snapshot, State, VDisk
from openvstorage.vpool.operations.grants import describe_grant

__all__ = ["audit", "calm"]

#: How the kernel shows an open file that has no name any more.
DELETED = " (deleted)"


async def calm(engine: Engine) -> None:
    """Wait for tasks and respawns under way, then do what background work is due."""
    operations = engine.operations

    async def quiet() -> bool:
        return not operations._tasks._running and not operations._housekeeping._respawns

    await until(quiet, "tasks and respawns end")
    await engine.settle()
    await until(quiet, "tasks and respawns end")
    await engine.context.backend.sweep()


async def audit(engine: Engine, strangers: Mapping[str, bytes] | None = None) -> None:
    """Look at everything that should agree.

    :param strangers: files that a test put into ``layers/``, by name with their bytes; they and nothing else must be
        in lost+found, untouched.
    :raises AssertionError: something does not agree; the text says what.
    """
    await _audit_rows(engine)
    await _audit_files(engine, strangers or {})
    await _audit_daemons(engine)
    await _audit_grants(engine)


async def _audit_rows(engine: Engine) -> None:
    async with engine.db.read() as session:
        operations = [(row.type, row.phase, row.error) for row in await session.scalars(select(OperationRow))]
        assert not operations, f"operations are left in the journal: {operations}"
        tasks = [(task.kind, task.status) for task in await session.scalars(select(Task)) if task.finished_at is None]
        assert not tasks, f"tasks have not ended: {tasks}"
        for vdisk in await session.scalars(select(VDisk)):
            assert vdisk.state == State.READY, f"vDisk {vdisk.name} is {vdisk.state}"
            layer = await session.get_one(Layer, vdisk.backend_ref)
            wanted = LayerState.FROZEN if vdisk.is_vtemplate else LayerState.ACTIVE
            assert layer.state == wanted, f"the head of {vdisk.name} is {layer.state}"
            assert layer.size == vdisk.size, f"the head of {vdisk.name} has {layer.size} of {vdisk.size} bytes"
        for snapshot in await session.scalars(select(Snapshot)):
            assert snapshot.state == State.READY, f"snapshot {snapshot.label} is {snapshot.state}"
            layer = await session.get_one(Layer, snapshot.backend_ref)
            assert layer.state == LayerState.FROZEN, f"snapshot {snapshot.label} names a layer that is {layer.state}"
            assert layer.size == snapshot.size, f"snapshot {snapshot.label}: {layer.size} of {snapshot.size} bytes"
        heads = set(await session.scalars(select(VDisk.backend_ref)))
        for layer in await session.scalars(select(Layer)):
            assert layer.state in (LayerState.ACTIVE, LayerState.FROZEN), f"layer {layer.guid} is {layer.state}"
            assert layer.state == LayerState.FROZEN or layer.guid in heads, f"layer {layer.guid} is nobody's head"
            assert await lines.needed(session, layer.guid), f"layer {layer.guid} is needed by nobody"


async def _audit_files(engine: Engine, strangers: Mapping[str, bytes]) -> None:
    files = engine.context.backend.files
    async with engine.db.read() as session:
        layers = {layer.guid: layer for layer in await session.scalars(select(Layer))}
    present = {path.name for path in files.present()}
    assert present == {files.path(guid).name for guid in layers}, "files and rows of layers differ"
    lost = files.lost_and_found
    found = {path.name: path.read_bytes() for path in lost.iterdir()} if lost.exists() else {}
    assert found == dict(strangers), f"lost+found has {sorted(found)}"
    for guid, layer in layers.items():
        sealed = not files.path(guid).stat().st_mode & 0o222
        assert sealed == (layer.state == LayerState.FROZEN), f"the file of {guid}, {layer.state}: sealed is {sealed}"
    async with engine.db.read() as session:
        known = {*await session.scalars(select(VDisk.guid)), *await session.scalars(select(Export.guid))}
    logs = {path.stem for path in engine.directory.logs.iterdir()}
    assert logs <= known, f"logs are left of {logs - known}"
    idle = [ref for ref in layers if not await _open_for_writing(engine, ref)]
    damage = await engine.context.backend.check(idle)
    assert not damage, f"qemu-img check: {damage}"


async def _open_for_writing(engine: Engine, ref: str) -> bool:
    async with engine.db.read() as session:
        head_of = await lines.head_of(session, ref)
    return head_of is not None and engine.context.fleet.get(head_of) is not None


async def _audit_daemons(engine: Engine) -> None:
    fleet = engine.context.fleet
    async with engine.db.read() as session:
        exports = {row.guid: row for row in await session.scalars(select(Export))}
        grants = list(await session.scalars(select(Grant)))
    serving = fleet.serving()
    assert set(serving) == set(exports), f"daemons run for {sorted(serving)}, exports say {sorted(exports)}"
    needed = {grant.export_guid for grant in grants}
    needed |= {row.vdisk_guid for row in exports.values() if row.source_name is not None and row.vdisk_guid in exports}
    assert needed == set(exports), "an export without grants, or grants without one"
    pids = {left.identity.pid for left in await fleet.left_behind()}
    assert pids == {daemon.identity.pid for daemon in serving.values()}, "other daemons of this pool are running"
    names = {path for daemon in serving.values() for path in (daemon._files.monitor, daemon._files.pid_file)}
    stale = {path.name for path in Path(fleet.run_dir).iterdir() if path not in names}
    assert not stale, f"left in the run directory: {stale}"
    for guid, daemon in serving.items():
        row = exports[guid]
        assert (row.pid, row.epoch) == (daemon.identity.pid, daemon.epoch), "the export names another process"
        wanted = {grant.export_name for grant in grants if grant.export_guid == guid}
        wanted |= {each.source_name for each in exports.values() if each.source_name and each.vdisk_guid == guid}
        assert set(await daemon.exports()) == wanted, f"the daemon of {guid} serves other exports than were granted"
        await _audit_graph(engine, row, daemon)


async def _audit_graph(engine: Engine, export: Export, daemon: Any) -> None:
    """The daemon has the model's line open and nothing else, and no layer lies about in it that is not read.

    One exception: a fold replaces a layer by an equal one that has absorbed its parent. Whoever has the old one open
    goes on reading it and the parent, both without a name by now; who opened the new one over the parent, because the
    model did not know of the fold's end yet, goes on reading the parent.
    """
    vdisk = f"{export.kind} of {export.vdisk_guid}"
    opened, wanted = set(await daemon.graph_files()), await _chain_files(engine, export)
    assert wanted <= opened, f"the daemon of {vdisk} does not have open: {wanted - opened}"
    unnamed = {name.removesuffix(DELETED) for name in _open_files(daemon.identity.pid) if name.endswith(DELETED)}
    surplus = opened - wanted - unnamed
    assert not surplus, f"the daemon of {vdisk} has open, not in the model: {surplus}"
    unread = _unread(await daemon.execute("x-debug-query-block-graph"))
    assert not unread, f"the daemon of {vdisk} keeps layers open that nothing reads: {unread}"


def _unread(graph: dict[str, Any]) -> set[str]:
    """:returns: the layers' nodes that neither the filter on top nor an export leads to."""
    read = {item["id"] for item in graph["nodes"] if item["name"] == TOP or item["type"] != "block-driver"}
    while below := {edge["child"] for edge in graph["edges"] if edge["parent"] in read} - read:
        read |= below
    return {item["name"] for item in graph["nodes"] if is_layer_node(item["name"]) and item["id"] not in read}


def _open_files(pid: int) -> set[str]:
    return {os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir()}


async def _chain_files(engine: Engine, export: Export) -> set[str]:
    """Every file that a daemon should have open: the line of what it serves. A reader's opens the head's daemon."""
    async with engine.db.read() as session:
        vdisk = await session.get_one(VDisk, export.vdisk_guid)
        top = vdisk.backend_ref
        if export.kind == ExportKind.SNAPSHOT:
            top = (await session.get_one(Snapshot, export.guid)).backend_ref
        elif export.kind == ExportKind.READER and not vdisk.is_vtemplate:
            return set()
        line = await lines.chain(session, str(top))
    return {str(engine.context.backend.files.path(link.guid)) for link in line}


async def _audit_grants(engine: Engine) -> None:
    async with engine.db.read() as session:
        grants = list(await session.scalars(select(Grant)))
        described = [await describe_grant(session, grant) for grant in grants]
    for grant in described:
        assert grant["state"] == GrantState.GRANTED, f"the grant of {grant['consumer']} is {grant['state']}"
        size = await asyncio.to_thread(_size_seen, grant)
        assert size == grant["size"], f"{grant['consumer']} sees {size} bytes, the grant says {grant['size']}"


def _size_seen(grant: Mapping[str, object]) -> int:
    place = (str(grant["host"]), int(str(grant["port"])), str(grant["export_name"]))
    with NbdClient.connect(*place, timeout=PATIENCE) as nbd:
        return nbd.size
