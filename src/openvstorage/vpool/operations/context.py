"""What every operation works with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from openvstorage.contract.durability import Durability
from openvstorage.vpool.backends.base import Backend
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.operations.locks import VDiskLocks

if TYPE_CHECKING:
    from openvstorage.vpool.operations.fleet import Fleet
    from openvstorage.vpool.operations.journal import Journal


@dataclass(frozen=True, slots=True)
class Node:
    """This StorageRouter, as operations need it.

    :ivar address: where exports listen.
    :ivar first_port: with ``last_port`` the range of export ports.
    :ivar strict_compat: refuse what Open vStorage refused: deleting what has children.
    :ivar durability: of vDisks that have none of their own.
    """

    guid: str
    vpool_guid: str
    address: str
    first_port: int
    last_port: int
    strict_compat: bool = False
    durability: Durability = Durability.ACKNOWLEDGED


@dataclass(frozen=True, slots=True)
class Upkeep:
    """What an operator should know of.

    :ivar outdated_daemons: storage daemons that still treat writes as an older version or an older choice had it.
    :ivar cut_off_grants: grants whose clients must start anew, since writes were lost that had been acknowledged.
    """

    outdated_daemons: int
    cut_off_grants: int


async def _nowhere(_operation: str, _boundary: str) -> None:
    """Nothing happens at a boundary, unless a test says otherwise."""


async def _no_heartbeat() -> None:
    """Nothing has to be told that time has passed."""


async def _no_report(_upkeep: Upkeep) -> None:
    """Nobody is told."""


async def _no_certificate() -> bool:
    """There is none to renew."""
    return False


@dataclass(slots=True)
class Context:
    """The parts that operations are made of.

    :ivar boundary: awaited between any two steps with the operation's type and the boundary's name. Tests stop the
        process there.
    :ivar heartbeat: awaited every few seconds of service and once at its end.
    :ivar renew_certificate: awaited as often; tells whether the server has another certificate now.
    :ivar report: awaited every few seconds with what is left to be done.
    :ivar tidy: asks the housekeeping to look for trash and merges soon.
    :ivar respawn: asks for a new daemon for a vDisk whose clients wait for one.
    """

    db: Database
    backend: Backend
    fleet: Fleet
    node: Node
    locks: VDiskLocks = field(default_factory=VDiskLocks)
    boundary: Callable[[str, str], Awaitable[None]] = _nowhere
    heartbeat: Callable[[], Awaitable[None]] = _no_heartbeat
    renew_certificate: Callable[[], Awaitable[bool]] = _no_certificate
    report: Callable[[Upkeep], Awaitable[None]] = _no_report
    tidy: Callable[[], None] = lambda: None
    respawn: Callable[[str], None] = lambda _vdisk: None
    _journal: Journal | None = None

    @property
    def journal(self) -> Journal:
        """The journal, for operations that begin others."""
        if self._journal is None:
            raise RuntimeError("the journal is set once, when the service starts")
        return self._journal

    @journal.setter
    def journal(self, journal: Journal) -> None:
        self._journal = journal
