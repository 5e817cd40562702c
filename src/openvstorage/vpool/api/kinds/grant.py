"""Grants as the API shows them: with everything a client needs to connect, to those who may make grants.

Whoever may only look does not see the export's name: without TLS it is all that a stranger lacks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from openvstorage.vpool.access.roles import Role
from openvstorage.vpool.access.tokens import Principal
from openvstorage.vpool.api.context import ApiContext
from openvstorage.vpool.api.kinds.vdisk import VDISK
from openvstorage.vpool.api.objects import Kind, Relation, each
from openvstorage.vpool.model.export import Grant
from openvstorage.vpool.operations.grants import describe_grant

__all__ = ["GRANT", "grants_for", "without_export"]


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


def without_export(described: dict[str, Any]) -> dict[str, Any]:
    """:returns: a grant that is shown, without what opens its export."""
    return {**described, "export_name": None, "uri": None}


async def _described_without_export(context: ApiContext, rows: Sequence[Grant]) -> list[Any]:
    return [without_export(described) for described in await _described(context, rows)]


#: Nor can the name be found out by asking for it bit by bit, in a query or by sorting.
_GRANT_TO_LOOK_AT = replace(
    GRANT,
    columns={name: column for name, column in GRANT.columns.items() if name != "export_name"},
    properties={name: value for name, value in GRANT.properties.items() if name != "export_name"},
    described=_described_without_export,
)


def grants_for(principal: Principal) -> Kind:
    """:returns: grants as this caller may see them."""
    return GRANT if Role.WRITE in principal.roles else _GRANT_TO_LOOK_AT
