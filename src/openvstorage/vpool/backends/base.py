"""What a backend offers to operations.

A change has two halves that never mix: *rows*, made in the caller's transaction (methods that take a session), and
*bytes*, made outside any transaction (the others). Bytes methods can be repeated: they are named by a reference that
was committed before, so after a crash the same call finishes what was begun.

A *reference* is the backend's own name for the bytes of a vDisk or a snapshot; callers keep it and compare it, no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.contract.codes import ErrorCode


class BackendError(Exception):
    """The backend cannot do it; the text says why and what helps, ``code`` says it to programs."""

    code: ClassVar[ErrorCode] = ErrorCode.BACKEND_FAILED


class PoolFull(BackendError):
    """Too little room to take on new data; deleting still works."""

    code = ErrorCode.POOL_FULL

    def __init__(self) -> None:
        super().__init__("the pool has no room left: delete snapshots or vDisks, or add disk space")


@dataclass(frozen=True, slots=True)
class PoolStats:
    """How full a pool is, in bytes.

    :ivar provisioned_bytes: sum of the sizes of all vDisks, more than ``total_bytes`` when over-subscribed.
    :ivar measured_at: unix time of the measurement; the numbers may be a few seconds old.
    """

    total_bytes: int
    free_bytes: int
    used_bytes: int
    provisioned_bytes: int
    vdisk_count: int
    measured_at: float


@dataclass(frozen=True, slots=True)
class ExportSpec:
    """What a storage daemon must open to serve a reference.

    :ivar blockdevs: arguments of ``blockdev-add``, to be given in this order.
    :ivar top: node name of what is served.
    :ivar refs: every reference that is opened; they must not be removed until all of them are open.
    """

    blockdevs: tuple[Mapping[str, Any], ...]
    top: str
    refs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Merge:
    """A merge worth doing: ``into`` takes over what lies between it and ``base``.

    :ivar vdisk: the vDisk whose head ``into`` is; None when it is frozen.
    :ivar below: what ``into`` lies on now.
    """

    into: str
    below: str
    base: str | None
    vdisk: str | None


class BlockGraph(Protocol):
    """The block graph of a running storage daemon, as far as a backend works on it."""

    async def execute(self, command: str, arguments: Mapping[str, Any] | None = None, /, **kwargs: Any) -> Any:
        """Run one QMP command."""

    async def head(self) -> str:
        """:returns: name of the node that is written to."""

    async def node_exists(self, name: str) -> bool:
        """:returns: whether the daemon has this node."""

    async def remove_node(self, name: str) -> bool:
        """Close a node. :returns: False when something still uses it; it stays then."""


class Backend(Protocol):
    """See the module's text. References come from the ``plan`` methods.

    :ivar discards_in_place: whether discarded space is given back, where the bytes are laid out for it.
    """

    discards_in_place: bool

    # rows

    async def plan(self, session: AsyncSession, *, size: int, parent_ref: str | None) -> str:
        """Intend new bytes of ``size`` bytes over ``parent_ref`` (None: all zeroes). :returns: their reference."""

    async def activate(self, session: AsyncSession, ref: str) -> None:
        """The planned bytes are there and become what a vDisk writes to."""

    async def freeze(self, session: AsyncSession, ref: str) -> None:
        """Nobody writes to these bytes from here on."""

    async def set_size(self, session: AsyncSession, ref: str, size: int) -> None:
        """Record that the bytes have grown to ``size`` bytes."""

    async def is_known(self, session: AsyncSession, ref: str) -> bool:
        """:returns: whether there is such a reference; one whose bytes were removed is forgotten."""

    async def parent_of(self, session: AsyncSession, ref: str) -> str | None:
        """:returns: what ``ref`` was made over."""

    async def release(self, session: AsyncSession, ref: str) -> None:
        """No vDisk and no snapshot names ``ref`` any more: whatever is now unused becomes trash. Never refused."""

    async def size_of(self, session: AsyncSession, ref: str) -> int:
        """:returns: size in bytes of what ``ref`` serves."""

    async def require_below(self, session: AsyncSession, ref: str, base: str | None) -> None:
        """:raises BackendError: ``base`` is not below ``ref`` any more, so that a merge down to it makes no sense."""

    async def require_fold(self, session: AsyncSession, ref: str, below: str) -> None:
        """:raises BackendError: ``below`` is named again or has another child than ``ref``."""

    async def lie_on(self, session: AsyncSession, ref: str, base: str | None) -> None:
        """``ref`` holds all that was between it and ``base``; what nobody else needs becomes trash."""

    async def forget(self, session: AsyncSession, ref: str) -> None:
        """``ref`` has no bytes of its own any more."""

    # bytes

    async def require_room(self) -> None:
        """:raises PoolFull: when new data should not be taken on."""

    def ease(self) -> None:
        """Something is about to be deleted: see to it that on a full disk even that can be recorded."""

    async def make(self, ref: str) -> None:
        """Make the planned bytes; durable on return. Repeating it starts over."""

    async def settle(self, ref: str) -> None:
        """All that was written to ``ref`` is durable on return."""

    async def seal(self, ref: str) -> None:
        """Guard frozen bytes against accidental writes."""

    async def seal_all(self) -> None:
        """:meth:`seal` whatever is frozen; a crash may have come between the two."""

    async def grow(self, ref: str, size: int) -> None:
        """Grow bytes that nobody has open to ``size`` bytes; durable on return, does nothing when large enough."""

    async def real_size(self, ref: str) -> int:
        """:returns: size in bytes of what is there, whatever the rows say; also while a daemon has it open."""

    async def sweep(self) -> int:
        """Remove trash. :returns: how many references were removed."""

    async def end_leftovers(self) -> None:
        """End what processes of an earlier service still do to the bytes, storage daemons excepted. Call first.

        :raises BackendError: one does not end, so that no bytes are safe from it.
        """

    async def set_unknown_aside(self) -> Sequence[str]:
        """Put bytes that no row knows where they harm nobody; they are not removed. :returns: their new places."""

    async def switch(self, graph: BlockGraph, old: str, new: str) -> None:
        """Let a running daemon write to ``new`` (made over ``old``) from one request to the next; nothing else.

        What waits in the daemon at that moment is let through and lands in ``old``. Does nothing when done.
        """

    async def hand_over(self, graph: BlockGraph, old: str) -> None:
        """After :meth:`switch`: let the daemon give up its write lock on ``old``, so that others can read it too.

        What waits in the daemon at that moment is let through.
        """

    async def export_spec(self, ref: str, *, read_only: bool = False) -> ExportSpec:
        """:returns: what to open to serve ``ref``; no side effect."""

    def opening(self, ref: str, *, read_only: bool = False) -> AbstractAsyncContextManager[ExportSpec]:
        """The :meth:`export_spec` of ``ref``, with nothing of it removed while the block runs."""

    def node_of(self, ref: str) -> str:
        """:returns: name of the node that serves ``ref`` in a daemon which has it open."""

    def header_name(self, ref: str) -> str:
        """:returns: what an image that lies on ``ref`` calls it in its header."""

    async def prune(self, graph: BlockGraph, ref: str) -> None:
        """Let a running daemon close what it no longer needs to serve ``ref`` and its other exports."""

    async def copy_file(self, source: str, target: str) -> None:
        """Make the planned ``target`` a copy of ``source``. Durable on return."""

    async def replace_file(self, source: str, target: str) -> None:
        """Put the bytes of ``source`` in the place of ``target``, atomically and durably; repeating it is harmless."""

    async def overdue(self, session: AsyncSession, ref: str) -> Merge | None:
        """:returns: a merge into a head that a snapshot should wait for, None in all normal cases."""

    async def merges(self) -> Sequence[Merge]:
        """:returns: merges that are worth doing now, the most useful first."""

    async def usage(self, ref: str) -> int:
        """:returns: bytes that ``ref`` itself takes, without what it was made over."""

    async def pool_stats(self) -> PoolStats:
        """:returns: how full the pool is."""

    async def check(self, refs: Sequence[str]) -> Mapping[str, str]:
        """Look for damage. :returns: what is wrong, by reference; empty when all is well."""
