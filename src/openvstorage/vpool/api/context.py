"""What the API works with: the model, the operations, access, and its settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from fastapi import Request

from openvstorage import __version__
from openvstorage.contract.durability import Durability
from openvstorage.vpool.access.accounts import Accounts
from openvstorage.vpool.access.grant_secrets import GrantSecrets
from openvstorage.vpool.access.limits import RateLimit, RateLimiter
from openvstorage.vpool.access.tokens import Tokens
from openvstorage.vpool.model.database import Database
from openvstorage.vpool.model.task import Task
from openvstorage.vpool.model.vdisk import VDisk

if TYPE_CHECKING:
    from openvstorage.vpool.backends.base import PoolStats
    from openvstorage.vpool.operations import Idempotency

__all__ = ["ApiContext", "ApiSettings", "Runner", "context_of"]


class Runner(Protocol):
    """The part of :class:`openvstorage.vpool.operations.Operations` that the API calls."""

    async def submit(
        self,
        kind: str,
        args: dict[str, Any],
        *,
        vdisk_guid: str | None,
        idempotency: Idempotency | None,
        username: str | None,
    ) -> str:
        """Begin an operation and give its task's guid."""

    async def wait(self, task_guid: str, seconds: float) -> Task | None:
        """Give a task when it is ready, or as it is after so many seconds; None if there is none."""

    async def ensure_served(self, vdisk_guid: str) -> None:
        """Return when every client with a grant of a vDisk can connect."""

    async def edge_clients(self, export_guid: str) -> list[tuple[str, int]]:
        """Give address and port of whoever is connected to an export."""

    async def pool_stats(self) -> PoolStats:
        """Give the pool's capacity in bytes."""

    async def stored(self, vdisk: VDisk) -> int:
        """Give the bytes that a vDisk's head uses."""


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """What an operator may choose.

    :ivar release: name of the release that ``GET /api/`` tells.
    :ivar cluster_id: identity of the pool.
    :ivar strict_compat: refuse to delete what has children, as Open vStorage does.
    :ivar durability: of vDisks that have none of their own.
    :ivar token_limit: for the token endpoint; ``metadata_limit`` for ``GET /api/``; ``resolve_limit`` for hosts that
        ask where their grants are served, which a host that starts hundreds of guests at once must not reach.
    :ivar max_body: longest request body in bytes.
    """

    cluster_id: str
    release: str = __version__
    strict_compat: bool = False
    durability: Durability = Durability.ACKNOWLEDGED
    token_limit: RateLimit = field(default_factory=lambda: RateLimit(calls=5))
    metadata_limit: RateLimit = field(default_factory=lambda: RateLimit(calls=60))
    resolve_limit: RateLimit = field(default_factory=lambda: RateLimit(calls=3000, lockout=10.0))
    max_body: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ApiContext:
    """The parts of the service that the API calls.

    :ivar operations: whoever changes vDisks; the API itself only reads the model.
    """

    db: Database
    operations: Runner
    accounts: Accounts
    tokens: Tokens
    settings: ApiSettings
    token_limiter: RateLimiter = field(init=False)
    metadata_limiter: RateLimiter = field(init=False)
    resolve_limiter: RateLimiter = field(init=False)
    grant_secrets: GrantSecrets = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "token_limiter", RateLimiter(self.settings.token_limit))
        object.__setattr__(self, "metadata_limiter", RateLimiter(self.settings.metadata_limit))
        object.__setattr__(self, "resolve_limiter", RateLimiter(self.settings.resolve_limit))
        object.__setattr__(self, "grant_secrets", GrantSecrets(self.db))


def context_of(request: Request) -> ApiContext:
    """:returns: the context of the application that serves this request."""
    context: ApiContext = request.app.state.context
    return context
