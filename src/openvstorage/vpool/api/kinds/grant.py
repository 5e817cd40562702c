"""Grants as the API shows them: with everything a client needs to connect."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openvstorage.vpool.api.context import ApiContext
from openvstorage.vpool.api.kinds.vdisk import VDISK
from openvstorage.vpool.api.objects import Kind, Relation, each
from openvstorage.vpool.model.export import Grant
from openvstorage.vpool.operations.grants import describe_grant

__all__ = ["GRANT"]


async def _described(context: ApiContext, rows: Sequence[Grant]) -> list[Any]:
    """The same words as the result of the task that made the grant; one session, so its rows are of one instant."""
    async with context.db.read() as session:
        return [await describe_grant(session, row) for row in rows]


GRANT = Kind(
    name="grant",
    model=Grant,
    order=(Grant.created_at, Grant.guid),
    columns={"guid": Grant.guid, "vdisk_guid": Grant.vdisk_guid, "export_name": Grant.export_name},
    properties={
        "vdisk_guid": lambda row: row.vdisk_guid,
        "snapshot_guid": lambda row: row.snapshot_guid,
        "client": lambda row: row.client,
        "certificate_name": lambda row: row.certificate_name,
        "consumer": lambda row: row.consumer,
        "mode": lambda row: row.mode,
        "state": lambda row: row.state,
        "export_name": lambda row: row.export_name,
        "deadline": lambda row: row.deadline,
        "cut_off_at": lambda row: row.cut_off_at,
    },
    described=_described,
    relations={"vdisk": Relation("vdisk_guid", each(lambda row: row.vdisk_guid), lambda: VDISK)},
)
