"""Objects that a request names: found, or 404."""

from __future__ import annotations

import re
from typing import Any

from pydantic import Field
from sqlalchemy import ColumnElement, exists, select

from openvstorage.vpool.api.context import ApiContext
from openvstorage.vpool.api.envelopes import not_found
from openvstorage.vpool.api.objects import Contents, Kind, load, serialise
from openvstorage.vpool.api.parameters import Parameters

__all__ = ["ShowParameters", "any_row", "find", "show"]

_GUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class ShowParameters(Parameters):
    """What a single object takes."""

    contents: str | None = Field(
        None, description="As for lists; without it everything is shown, with an empty one the properties only."
    )


async def find(context: ApiContext, kind: Kind, guid: str) -> Any:
    """:returns: the row.

    :raises ApiError: 404 ``object_not_found``; a text that is no guid never reaches the database.
    """
    if not _GUID.fullmatch(guid):
        raise not_found(kind.name)
    row = (await load(context, kind, [guid])).get(guid)
    if row is None:
        raise not_found(kind.name, guid)
    return row


async def show(context: ApiContext, kind: Kind, guid: str, contents: str | None) -> dict[str, Any]:
    """:returns: one object, everything of it if ``contents`` is None.

    :raises ApiError: 404 ``object_not_found``.
    """
    row = await find(context, kind, guid)
    return (await serialise(context, kind, [row], Contents.parse(contents) or Contents.everything()))[0]


async def any_row(context: ApiContext, *conditions: ColumnElement[bool]) -> bool:
    """:returns: whether some row meets all conditions."""
    async with context.db.read() as session:
        return bool(await session.scalar(select(exists().where(*conditions))))
