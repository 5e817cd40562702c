"""The layers backend as operations see it: rows by :mod:`lines`, bytes by :mod:`files`, graphs by :mod:`nodes`."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.backends.base import (
    BackendError,
    BlockGraph,
    ExportSpec,
    Merge,
    PoolFull,
    PoolStats,
)
from openvstorage.vpool.backends.layers import caches, lines
from openvstorage.vpool.backends.layers.depth import MAX_DEPTH, STRIDE, skip_target
from openvstorage.vpool.backends.layers.files import SUFFIX, LayerFiles
from openvstorage.vpool.backends.layers.nodes import (
    NodeOptions,
    format_node,
    is_layer_node,
    layer_nodes,
)
from openvstorage.vpool.backends.layers.space import Space
from openvstorage.vpool.exports.command import GUARD, guard_options
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.model.layer import Layer, LayerState
from openvstorage.vpool.model.vdisk import VDisk

STATS_AGE_SECONDS = 5.0
#: A layer of up to so many bytes is always merged.
CHEAP_MERGE = 1024**3
#: The search for merges looks at so many layers at a time.
PAGE = 500


class LayersBackend:
    """See :class:`openvstorage.vpool.backends.base.Backend`; a reference is a layer's guid.

    :param merge_subclusters: whether this QEMU can merge layers made with ``extended_l2``.
    """

    def __init__(
        self, db: Database, files: LayerFiles, space: Space, options: NodeOptions, *, merge_subclusters: bool
    ) -> None:
        self._merge_subclusters = merge_subclusters
        self.files = files
        self.space = space
        self._db = db
        self._options = options
        self.discards_in_place = options.discards_in_place
        self._opening: Counter[str] = Counter()
        #: Heads that nobody has looked at since they became one; their chains may have grown too deep.
        self._new_heads: set[str] = set()
        #: Guid of the layer at which the search for merges goes on.
        self._looked_at = ""
        self._sweeping = asyncio.Lock()
        self._stats: PoolStats | None = None

    # rows

    async def plan(self, session: AsyncSession, *, size: int, parent_ref: str | None) -> str:
        """Intend a layer of ``size`` bytes over ``parent_ref``."""
        return await lines.plan(session, size, parent_ref)

    async def activate(self, session: AsyncSession, ref: str) -> None:
        """The layer is there and becomes the head of a vDisk."""
        await lines.set_state(session, ref, LayerState.ACTIVE)
        self._new_heads.add(ref)

    async def freeze(self, session: AsyncSession, ref: str) -> None:
        """Nobody writes to the layer from here on."""
        await lines.set_state(session, ref, LayerState.FROZEN)

    async def set_size(self, session: AsyncSession, ref: str, size: int) -> None:
        """Record that the layer has grown to ``size`` bytes."""
        await lines.resize(session, ref, size)

    async def is_known(self, session: AsyncSession, ref: str) -> bool:
        """:returns: whether the layer has a row."""
        return await session.get(Layer, ref) is not None

    async def parent_of(self, session: AsyncSession, ref: str) -> str | None:
        """:returns: guid of the layer below."""
        return (await session.get_one(Layer, ref)).parent_guid

    async def release(self, session: AsyncSession, ref: str) -> None:
        """Turn the layer, and what lies below it, into trash as far as nothing needs it. Never refused."""
        await lines.release(session, ref)

    async def size_of(self, session: AsyncSession, ref: str) -> int:
        """:returns: virtual size of the layer in bytes."""
        return (await session.get_one(Layer, ref)).size

    async def require_below(self, session: AsyncSession, ref: str, base: str | None) -> None:
        """:raises BackendError: ``base`` is no longer in the line of ``ref``."""
        line = [link.guid for link in await lines.chain(session, ref)]
        if base is not None and base not in line[1:]:
            raise BackendError(f"layer {base} is not below {ref} any more")

    async def require_fold(self, session: AsyncSession, ref: str, below: str) -> None:
        """:raises BackendError: ``below`` has a name or another child by now."""
        if await lines.named(session, below) or await lines.children(session, below) != [ref]:
            raise BackendError(f"layer {below} is needed by others than {ref}")

    async def lie_on(self, session: AsyncSession, ref: str, base: str | None) -> None:
        """Lay ``ref`` on ``base`` and release what it lay on."""
        await lines.reparent(session, ref, base)

    async def forget(self, session: AsyncSession, ref: str) -> None:
        """Remove the row of a layer whose file has taken another's place."""
        await session.execute(delete(Layer).where(Layer.guid == ref))

    # bytes

    async def require_room(self) -> None:
        """:raises PoolFull: below the low-water mark."""
        self.space.tend()
        if self.space.low:
            raise PoolFull()

    def ease(self) -> None:
        """Give a slice of the ballast back when the disk is full."""
        self.space.ease()

    async def make(self, ref: str) -> None:
        """Make the file of a planned layer; starts over when repeated."""
        async with self._db.read() as session:
            layer = await session.get_one(Layer, ref)
        if layer.state != LayerState.CREATING:
            raise BackendError(f"layer {ref} is {layer.state}: its file is not made again")
        await self.files.create(ref, layer.size, layer.parent_guid)

    async def settle(self, ref: str) -> None:
        """All that was written to the layer's file is durable on return."""
        await self.files.settle(ref)

    async def seal(self, ref: str) -> None:
        """Take write permission from a frozen layer's file."""
        self.files.seal(ref)

    async def seal_all(self) -> None:
        """Take write permission from the file of every frozen layer, and give it to every head.

        A head has none when it comes from an older database, in which it was not frozen yet.
        """
        async with self._db.read() as session:
            frozen = await lines.in_state(session, LayerState.FROZEN)
            active = await lines.in_state(session, LayerState.ACTIVE)
        await asyncio.to_thread(self._set_permissions, frozen, active)

    def _set_permissions(self, frozen: Sequence[str], active: Sequence[str]) -> None:
        for guid in frozen:
            self.files.seal(guid)
        for guid in active:
            self.files.unseal(guid)

    async def grow(self, ref: str, size: int) -> None:
        """Grow a layer that nobody has open."""
        await self.files.grow(ref, size)

    async def real_size(self, ref: str) -> int:
        """:returns: virtual size that the image's header says."""
        return self.files.virtual_size(ref)

    async def sweep(self) -> int:
        """Unlink the files of trash layers, then forget their rows. Layers that a daemon is just opening wait."""
        removed = 0
        async with self._sweeping:
            while True:
                async with self._db.read() as session:
                    guids = [guid for guid in await lines.trash(session) if not self._opening[guid]]
                if not guids:
                    return removed
                await asyncio.to_thread(self._remove, guids)
                async with self._db.write() as session:
                    await session.execute(delete(Layer).where(Layer.guid.in_(guids)))
                removed += len(guids)

    def _remove(self, guids: Sequence[str]) -> None:
        for guid in guids:  # large files take their time
            self.files.remove(guid)
        self.files.sync_directory()

    async def end_leftovers(self) -> None:
        """End tools that an earlier service left running, and remove the unfinished files that they made."""
        await self.files.tools.end_leftovers()
        await asyncio.to_thread(self.files.drop_attempts)

    async def set_unknown_aside(self) -> Sequence[str]:
        """Move files that no row knows to lost+found; nothing there is ever removed by us."""
        present = {path.name.removesuffix(SUFFIX): path for path in self.files.present()}
        async with self._db.read() as session:
            known = await lines.known(session, list(present))
        return [str(self.files.set_aside(path)) for guid, path in sorted(present.items()) if guid not in known]

    async def switch(self, graph: BlockGraph, old: str, new: str) -> None:
        """Put ``new`` over ``old`` in a running daemon; QEMU flushes ``old`` on the way. Does nothing when done."""
        if await graph.head() == format_node(new):
            return
        async with self._db.read() as session:
            line = await lines.chain(session, new)
        cache = self._caches(line[0].size, line[1:])[0]
        nodes = self._nodes(line[0], None, read_only=False, cache=cache)
        for node in nodes:
            if not await graph.node_exists(str(node["node-name"])):
                await graph.execute("blockdev-add", node)
        try:
            await graph.execute("blockdev-snapshot", {"node": format_node(old), "overlay": format_node(new)})
        except Exception:
            for node in reversed(nodes):
                await graph.execute("blockdev-del", {"node-name": node["node-name"]})
            raise

    async def hand_over(self, graph: BlockGraph, old: str) -> None:
        """Open ``old`` read-only in a daemon that writes to a newer layer: others can not open it before.

        Its cache becomes what it would be in a daemon that opens the chain now, under a head of the same size.
        """
        async with self._db.read() as session:
            line = await lines.chain(session, old)
        below = format_node(line[1].guid) if len(line) > 1 else None
        _, node = self._nodes(line[0], below, read_only=True, cache=self._caches(line[0].size, line)[1])
        await graph.execute("blockdev-reopen", {"options": [node]})

    async def export_spec(self, ref: str, *, read_only: bool = False) -> ExportSpec:
        """:returns: the nodes of the whole line, bottom first; only the top one can be written to."""
        async with self._db.read() as session:
            links = await lines.chain(session, ref)
        if not links:
            raise BackendError(f"layer {ref} is not known")
        blockdevs: list[Mapping[str, Any]] = []
        below: str | None = None
        shares = self._caches(links[0].size, links[1:])
        for link, cache in reversed(list(zip(links, shares, strict=True))):
            frozen = read_only or link.guid != ref
            blockdevs += self._nodes(link, below, read_only=frozen, cache=cache)
            below = format_node(link.guid)
        top = format_node(ref)
        if self._options.guards_zeroes and not read_only:
            blockdevs.append(guard_options(top, self.files.granule(ref)))
            top = GUARD
        return ExportSpec(tuple(blockdevs), top, tuple(link.guid for link in links))

    def _nodes(
        self, layer: lines.Link, below: str | None, *, read_only: bool, cache: int
    ) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
        return layer_nodes(
            layer.guid,
            self.files.require_file(layer.guid),
            below,
            self._options,
            read_only=read_only,
            cache=cache,
            subclusters=self.files.has_subclusters(layer.guid),
        )

    def _caches(self, size: int, frozen: Sequence[lines.Link]) -> list[int]:
        """:returns: bytes for the metadata caches of a head of ``size`` bytes and of the frozen layers below it."""
        below = [caches.need(link.size, self.files.length(link.guid)) for link in frozen]
        return caches.shares([caches.need(size, None), *below], self._options.cache_budget)

    @asynccontextmanager
    async def opening(self, ref: str, *, read_only: bool = False) -> AsyncIterator[ExportSpec]:
        """The :meth:`export_spec` of a reference, with all its files kept in place while the block runs."""
        while True:
            spec = await self.export_spec(ref, read_only=read_only)
            self._opening.update(spec.refs)
            try:
                if await self.export_spec(ref, read_only=read_only) == spec:
                    yield spec
                    return
            finally:
                self._opening.subtract(spec.refs)
                self._opening += Counter()  # drops what has come down to zero

    def node_of(self, ref: str) -> str:
        """:returns: name of the layer's node."""
        return format_node(ref)

    def header_name(self, ref: str) -> str:
        """:returns: the file's name, relative to the directory that all layers are in."""
        return self.files.path(ref).name

    async def prune(self, graph: BlockGraph, ref: str) -> None:
        """Close layers that the line of ``ref`` bypasses by now; those that an export still reads stay open."""
        spec = await self.export_spec(ref)
        wanted = {str(node["node-name"]) for node in spec.blockdevs}
        names = [str(node["node-name"]) for node in await graph.execute("query-named-block-nodes", {"flat": True})]
        unwanted = [name for name in names if is_layer_node(name) and name not in wanted]
        closed = True
        while closed:  # a node can be closed once nothing lies over it any more
            left = [name for name in unwanted if not await graph.remove_node(name)]
            unwanted, closed = left, len(left) < len(unwanted)

    async def copy_file(self, source: str, target: str) -> None:
        """Copy a frozen layer's file to a planned layer."""
        await self.files.copy(source, target)

    async def replace_file(self, source: str, target: str) -> None:
        """Rename the file of ``source`` over that of ``target``.

        :raises BackendError: ``target`` was removed meanwhile; a file without a row must not come to be.
        """
        async with self._sweeping:
            async with self._db.read() as session:
                if await session.get(Layer, target) is None:
                    raise BackendError(f"layer {target} is not needed any more")
            await asyncio.to_thread(self.files.replace, source, target)

    async def overdue(self, session: AsyncSession, ref: str) -> Merge | None:
        """:returns: what makes a chain of ``MAX_DEPTH`` layers short again, if that does not take long."""
        line = await lines.chain(session, ref)
        merge = await self._skip(session, line) if len(line) >= MAX_DEPTH else None
        if merge is None:
            return None
        absorbed = itertools.takewhile(lambda link: link.guid != merge.base, line[1:])
        return merge if sum(self.files.allocated(link.guid) for link in absorbed) <= CHEAP_MERGE else None

    async def merges(self) -> Sequence[Merge]:
        """:returns: heads due to skip, then unnamed layers with one child, as far as a merge is worth its copying."""
        async with self._db.read() as session:
            found = await self._skips(session)
            return [*found, *await self._unnamed(session)]

    async def _unnamed(self, session: AsyncSession) -> list[Merge]:
        """Layers that nobody names. Many may never be worth a merge: the search goes on where the last one ended."""
        found: list[Merge] = []
        page = await lines.unnamed_with_one_child(session, self._looked_at, PAGE)
        self._looked_at = page[-1][0] if len(page) == PAGE else ""
        for below, base, guid in page:
            if not self._worth(guid, below):
                continue
            merge = Merge(guid, below, base, await lines.head_of(session, guid))
            if self._fits(merge, [below]):
                found.append(merge)
        return found

    async def _skips(self, session: AsyncSession) -> list[Merge]:
        """Heads at a stride, which the database finds after a restart too, and new heads over chains too deep."""
        found = []
        for guid in {*await lines.due_to_skip(session, STRIDE), *self._new_heads}:
            line = await lines.chain(session, guid)
            if line and line[0].state == LayerState.CREATING:
                continue  # that it became a head is not committed yet
            is_head = bool(line) and line[0].state == LayerState.ACTIVE
            merge = await self._skip(session, line) if is_head else None
            if merge is None:
                self._new_heads.discard(guid)
            else:
                found.append(merge)
        return found

    async def _skip(self, session: AsyncSession, line: Sequence[lines.Link]) -> Merge | None:
        """:returns: the merge that a head is due to; it stops above a layer that is too large to be copied."""
        head, *below = line
        target = skip_target([link.ordinal for link in line])
        if target is None:
            return None
        absorbed = list(itertools.takewhile(lambda guid: self._worth(head.guid, guid), [link.guid for link in below]))
        target = min(target, len(absorbed) + 1)
        if target <= 1:
            return None
        merge = Merge(head.guid, below[0].guid, line[target].guid, await lines.head_of(session, head.guid))
        return merge if self._fits(merge, absorbed[: target - 1]) else None

    def _worth(self, into: str, layer: str) -> bool:
        """A large layer is not copied into a small one: what that gains does not pay for it."""
        return self.files.allocated(layer) <= max(CHEAP_MERGE, 4 * self.files.allocated(into))

    def _fits(self, merge: Merge, absorbed: Sequence[str]) -> bool:
        """Whether this QEMU can merge the layers, and there is room for what is copied."""
        if not self._merge_subclusters and self.files.has_subclusters(merge.into):
            return False
        copied = sum(self.files.allocated(guid) for guid in absorbed)
        return copied < self.space.free() - self.files.allocated(merge.into) * (merge.vdisk is None)

    async def usage(self, ref: str) -> int:
        """:returns: bytes that the layer's own file takes."""
        return self.files.allocated(ref)

    async def pool_stats(self) -> PoolStats:
        """:returns: figures at most 5 s old."""
        if self._stats is None or time.time() - self._stats.measured_at > STATS_AGE_SECONDS:
            self._stats = await self._measure()
        return self._stats

    async def _measure(self) -> PoolStats:
        async with self._db.read() as session:
            row = (await session.execute(select(func.count(), func.coalesce(func.sum(VDisk.size), 0)))).one()
        total, free = self.space.total(), self.space.free()
        return PoolStats(total, free, total - free, int(row[1]), int(row[0]), time.time())

    async def check(self, refs: Sequence[str]) -> Mapping[str, str]:
        """Run ``qemu-img check`` over layers that nobody writes to."""
        found = {ref: await self.files.check(ref) for ref in refs}
        return {ref: text for ref, text in found.items() if text}
