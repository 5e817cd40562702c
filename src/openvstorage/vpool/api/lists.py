"""Lists: filter, sort, cut into pages, and put into the contract's envelope."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastapi.responses import JSONResponse, Response
from pydantic import Field
from sqlalchemy import ColumnElement, func, select

from openvstorage.vpool.api.context import ApiContext
from openvstorage.vpool.api.fields import field_values, natural_key
from openvstorage.vpool.api.objects import BATCH, Contents, Kind, fetch, serialise
from openvstorage.vpool.api.parameters import Parameters
from openvstorage.vpool.api.query import Query, parse_query

__all__ = ["ListParameters", "empty_list", "list_of"]

DEFAULT_PAGE_SIZE = 10
LARGEST = 2**31


class ListParameters(Parameters):
    """What every list takes."""

    contents: str | None = Field(
        None,
        description="Comma list of what objects show besides their properties: names of dynamics and relations, "
        "`_dynamics`, `_relations`, `-name` to leave one out. Without it the list holds guids only.",
    )
    sort: str | None = Field(
        None, description="Comma list of fields, `-` in front for descending; `relation.field` and `field[key]` work."
    )
    page: Any = Field(
        None,
        description="Page to show, from 1; without it everything is shown.",
        json_schema_extra={"type": "integer"},
    )
    page_size: Any = Field(
        None,
        description=f"Objects on a page, {DEFAULT_PAGE_SIZE} unless told.",
        json_schema_extra={"type": "integer"},
    )
    query: Any = Field(
        None,
        description='JSON: `{"type": "AND"|"OR", "items": [[field, operator, value(, false to ignore case)], ...]}`; '
        "operators EQUALS, NOT_EQUALS, LT, GT, IN, CONTAINS.",
        json_schema_extra={"type": "string"},
    )


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is shown; ``number`` None for everything.

    A page beyond the end is the last one; page 0 is empty.
    """

    number: int | None
    size: int

    @classmethod
    def parse(cls, asked: ListParameters) -> Page:
        """Read ``page`` and ``page_size``; what is no number is ignored, as the contract says."""
        size = _number(asked.page_size)
        return cls(_number(asked.page), size if size is not None and size >= 1 else DEFAULT_PAGE_SIZE)

    def window(self, total: int) -> tuple[int, int]:
        """:returns: first (from 0) and one past the last of the objects shown, of ``total``."""
        if self.number is None:
            return 0, total
        if self.number < 1:
            return 0, 0
        start = (min(self.number, self.last(total)) - 1) * self.size
        return start, min(start + self.size, total)

    def last(self, total: int) -> int:
        """:returns: number of the last page."""
        return 1 if self.number is None else max(1, -(-total // self.size))

    def told(self, total: int) -> dict[str, int]:
        """:returns: the envelope's ``_paging``."""
        start, end = self.window(total)
        return {
            "total_items": total,
            "current_page": 1 if self.number is None else max(1, min(self.number, self.last(total))),
            "max_page": self.last(total),
            "page_size": total if self.number is None else self.size,
            "start_number": start + 1 if end > start else 0,
            "end_number": end,
        }


async def list_of(context: ApiContext, kind: Kind, asked: ListParameters, *conditions: ColumnElement[bool]) -> Response:
    """Answer a list.

    :param conditions: which rows the list is about, such as those of one vPool.
    :raises ApiError: 400, query or sort name what is not there.
    """
    page, contents = Page.parse(asked), Contents.parse(asked.contents)
    sort = asked.sort if asked.sort is not None else kind.default_sort
    query = Query("AND", ()) if asked.query is None else parse_query(asked.query)
    equal, rest = query.split(kind.columns)
    conditions = (*conditions, *(kind.columns[name] == value for name, value in equal.items()))
    if rest.items or sort:
        rows = await _rows(context, kind, conditions)
        rows = await _filtered(context, kind, rows, rest)
        rows = await _sorted(context, kind, rows, sort or "")
        total = len(rows)
        start, end = page.window(total)
        rows = rows[start:end]
        data = [row.guid for row in rows] if contents is None else await serialise(context, kind, rows, contents)
    else:
        data, total = await _page(context, kind, conditions, page, contents)
    return _envelope(data, page.told(total), contents, sort)


def empty_list(asked: ListParameters) -> Response:
    """Answer a list of a resource that this service has none of."""
    return _envelope([], Page.parse(asked).told(0), Contents.parse(asked.contents), asked.sort)


def _envelope(data: list[Any], paging: dict[str, int], contents: Contents | None, sort: str | None) -> Response:
    return JSONResponse(
        {
            "data": data,
            "_paging": paging,
            "_contents": None if contents is None else list(contents.parts),
            "_sorting": None if sort is None else sort.split(","),
        }
    )


async def _page(
    context: ApiContext,
    kind: Kind,
    conditions: Sequence[ColumnElement[bool]],
    page: Page,
    contents: Contents | None,
) -> tuple[list[Any], int]:
    """The page, cut by the database: nothing else is loaded."""
    chosen = kind.select(*conditions)
    async with context.db.read() as session:
        total = await session.scalar(select(func.count()).select_from(chosen.subquery())) or 0
        start, end = page.window(total)
        cut = chosen.order_by(*kind.order).offset(start).limit(end - start)
        if contents is None:
            guids = await session.scalars(cut.with_only_columns(kind.guid, maintain_column_froms=True))
            return list(guids), total
    rows = await fetch(context, cut)
    return await serialise(context, kind, rows, contents), total


async def _rows(context: ApiContext, kind: Kind, conditions: Sequence[ColumnElement[bool]]) -> list[Any]:
    return await fetch(context, kind.select(*conditions).order_by(*kind.order))


async def _filtered(context: ApiContext, kind: Kind, rows: list[Any], query: Query) -> list[Any]:
    if not query.items:
        return rows
    columns = {name: await field_values(context, kind, rows, name) for name in dict.fromkeys(query.fields())}
    kept = []
    for index, row in enumerate(rows):
        found = {name: column[index] for name, column in columns.items()}
        if query.matches(found.__getitem__):
            kept.append(row)
        if index % BATCH == 0:
            await asyncio.sleep(0)  # others have their turn
    return kept


async def _sorted(context: ApiContext, kind: Kind, rows: list[Any], sort: str) -> list[Any]:
    """Sort by the last field first: sorting is stable, so the first field decides."""
    for name in reversed([name for name in sort.split(",") if name][:16]):
        values = await field_values(context, kind, rows, name.removeprefix("-"))
        order = sorted(range(len(rows)), key=lambda index: natural_key(values[index]), reverse=name.startswith("-"))
        rows = [rows[index] for index in order]
    return rows


def _number(given: Any) -> int | None:
    try:
        return max(-LARGEST, min(int(given), LARGEST))
    except (TypeError, ValueError, OverflowError):
        return None
