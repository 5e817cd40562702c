"""Objects as the API shows them: properties, dynamics and relations.

A :class:`Kind` says for one resource where its rows are and how each name is worked out. Values are worked out for
many rows at a time and only for the names asked for, so that a page of a list costs a handful of queries, whatever its
length.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Select, select
from sqlalchemy.orm import InstrumentedAttribute

from openvstorage.vpool.api.context import ApiContext

__all__ = ["Contents", "Kind", "Relation", "batches", "each", "fetch", "load", "serialise"]

#: How many rows are worked on at once, and how many guids one ``IN`` names; both databases have limits far above it.
BATCH = 500

#: Works out one value for each of the rows given, in their order.
Column = Callable[[ApiContext, Sequence[Any]], Awaitable[list[Any]]]


@dataclass(frozen=True, slots=True)
class Relation:
    """Objects that an object refers to.

    :ivar key: name under which their guids are shown: ``x_guid`` for one, ``x_guids`` for many.
    :ivar column: works the guids out.
    :ivar kind: gives what they are; None for things that have no resource here.
    """

    key: str
    column: Column
    kind: Callable[[], Kind] | None = None

    @property
    def many(self) -> bool:
        """Whether the value is a list."""
        return self.key.endswith("_guids")


@dataclass(frozen=True, slots=True)
class Kind:
    """What there is to know about the objects of one resource.

    :ivar name: what a person calls one of them.
    :ivar model: the table's class.
    :ivar properties: always shown; from the row alone.
    :ivar dynamics: shown when asked for.
    :ivar relations: by the name a client asks for.
    :ivar visible: which rows clients may see; None for all.
    :ivar order: of a list that is not sorted.
    :ivar default_sort: of a list, as a client would give it.
    :ivar described: gives a dictionary for each row, which is always shown too; for what a row alone cannot tell.
    :ivar columns: what a query can be answered from by the database: names and their columns.
    """

    name: str
    model: Any
    properties: Mapping[str, Callable[[Any], Any]]
    order: Sequence[InstrumentedAttribute[Any]]
    dynamics: Mapping[str, Column] = field(default_factory=dict)
    relations: Mapping[str, Relation] = field(default_factory=dict)
    visible: ColumnElement[bool] | None = None
    default_sort: str | None = None
    columns: Mapping[str, InstrumentedAttribute[Any]] = field(default_factory=dict)
    described: Column | None = None

    @property
    def guid(self) -> InstrumentedAttribute[Any]:
        """The column of the identifier."""
        column: InstrumentedAttribute[Any] = self.model.guid
        return column

    def select(self, *conditions: ColumnElement[bool]) -> Select[Any]:
        """:returns: a query for the visible rows that meet all conditions, in no order."""
        query = select(self.model).where(*conditions)
        return query if self.visible is None else query.where(self.visible)


@dataclass(frozen=True, slots=True)
class Contents:
    """The ``contents`` of a request: which dynamics and relations an object shows.

    :ivar parts: as the client gave them.
    """

    parts: tuple[str, ...]

    @classmethod
    def parse(cls, text: str | None) -> Contents | None:
        """Read a comma list; None stays None."""
        return None if text is None else cls(tuple(text.split(",")))

    @classmethod
    def everything(cls) -> Contents:
        """:returns: all there is: what a single object shows when nothing is asked for."""
        return cls(("_dynamics", "_relations"))

    def of(self, kind: Kind) -> tuple[set[str], set[str]]:
        """:returns: names of the dynamics and of the relations to show; unknown parts are ignored."""
        dynamics = set(kind.dynamics) if "_dynamics" in self.parts else set()
        relations = set(kind.relations) if "_relations" in self.parts else set()
        dynamics.update(part for part in self.parts if part in kind.dynamics)
        relations.update(part for part in self.parts if part in kind.relations)
        unwanted = {part[1:] for part in self.parts if part.startswith("-")}
        return dynamics - unwanted, relations - unwanted


def each(function: Callable[[Any], Any]) -> Column:
    """Make a column from a function of one row that needs nothing else."""

    async def column(_context: ApiContext, rows: Sequence[Any]) -> list[Any]:
        return [function(row) for row in rows]

    return column


def batches(guids: Iterable[str]) -> Iterator[list[str]]:
    """Split identifiers into lists short enough for an ``IN``; duplicates are dropped."""
    unique = list(dict.fromkeys(guids))
    for start in range(0, len(unique), BATCH):
        yield unique[start : start + BATCH]


async def load(context: ApiContext, kind: Kind, guids: Collection[str]) -> dict[str, Any]:
    """Load rows by their guids; what does not exist or is not visible is absent."""
    found: dict[str, Any] = {}
    for batch in batches(guids):
        async with context.db.read() as session:
            for row in await session.scalars(kind.select(kind.guid.in_(batch))):
                found[row.guid] = row
    return found


async def fetch(context: ApiContext, query: Select[Any]) -> list[Any]:
    """Load the rows of a query, some at a time, so that thousands of them do not hold up other requests."""
    found: list[Any] = []
    async with context.db.read() as session:
        async for rows in (await session.stream_scalars(query)).partitions(BATCH):
            found.extend(rows)
    return found


async def serialise(context: ApiContext, kind: Kind, rows: Sequence[Any], contents: Contents) -> list[dict[str, Any]]:
    """Show rows: guid, properties, and the dynamics and relations asked for.

    Sessions are short and never nested, so that many requests cannot wait for each other's connection.
    """
    shown: list[dict[str, Any]] = []
    for start in range(0, len(rows), BATCH):
        shown += await _serialise(context, kind, rows[start : start + BATCH], contents)
        await asyncio.sleep(0)  # others have their turn
    return shown


async def _serialise(context: ApiContext, kind: Kind, rows: Sequence[Any], contents: Contents) -> list[dict[str, Any]]:
    dynamics, relations = contents.of(kind)
    shown = [{name: value(row) for name, value in kind.properties.items()} for row in rows]
    for item, row in zip(shown, rows, strict=True):
        item["guid"] = row.guid
    if kind.described is not None:
        for item, more in zip(shown, await kind.described(context, rows), strict=True):
            item.update(more)
    columns = {name: kind.dynamics[name] for name in dynamics}
    columns |= {kind.relations[name].key: kind.relations[name].column for name in relations}
    for name, column in columns.items():
        for item, value in zip(shown, await column(context, rows), strict=True):
            item[name] = value
    return shown
