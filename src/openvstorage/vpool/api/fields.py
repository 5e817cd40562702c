"""Fields named by a client: ``name``, ``vpool.name``, ``info[stored]``, for queries and for sorting."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from openvstorage.vpool.api.context import ApiContext
from openvstorage.vpool.api.envelopes import invalid_query
from openvstorage.vpool.api.objects import Column, Kind, Relation, load
from openvstorage.vpool.api.query import MISSING

__all__ = ["field_values", "natural_key"]

MAX_PARTS = 8
_PART = re.compile(r"([A-Za-z0-9_]{1,64})((?:\[[^\[\]]{1,128}\])*)")
_DIGITS = re.compile(r"([0-9]+)")


async def field_values(context: ApiContext, kind: Kind, rows: Sequence[Any], path: str) -> list[Any]:
    """Give the value of a field for each row.

    :param path: a name; dots follow relations to one object, brackets look into a dictionary.
    :returns: values in the order of the rows; ``MISSING`` behind a relation that is null.
    :raises ApiError: 400, there is no such field.
    """
    parts = path.split(".")
    if len(parts) > MAX_PARTS:
        raise invalid_query(f"a field has at most {MAX_PARTS} parts")
    match = _PART.fullmatch(parts[0])
    if match is None:
        raise invalid_query("a field is a name, with dots between the names of relations")
    name, keys = match[1], re.findall(r"\[([^\]]*)\]", match[2])
    if len(parts) > 1 and name in kind.relations:
        return await _behind(context, kind.relations[name], rows, ".".join(parts[1:]))
    values = await _column(kind, name)(context, rows)
    for key in [*keys, *parts[1:]]:
        values = [value.get(key) if isinstance(value, dict) else None for value in values]
    return values


async def _behind(context: ApiContext, relation: Relation, rows: Sequence[Any], rest: str) -> list[Any]:
    if relation.many or relation.kind is None:
        raise invalid_query(f"a field can not go through {relation.key}")
    target = relation.kind()
    guids = await relation.column(context, rows)
    found = await load(context, target, [guid for guid in guids if guid])
    known = list(found.values())
    behind = dict(zip(found, await field_values(context, target, known, rest), strict=True))
    return [behind.get(guid, MISSING) for guid in guids]


def _column(kind: Kind, name: str) -> Column:
    if name == "guid":
        return _property(lambda row: row.guid)
    if name in kind.properties:
        return _property(kind.properties[name])
    if name in kind.dynamics:
        return kind.dynamics[name]
    for relation in kind.relations.values():
        if name == relation.key:
            return relation.column
    raise invalid_query(f"a {kind.name} has no field {name}")


def _property(value: Any) -> Column:
    async def column(_context: ApiContext, rows: Sequence[Any]) -> list[Any]:
        return [value(row) for row in rows]

    return column


def natural_key(value: Any) -> list[tuple[int, str]]:
    """Sort the way people do: runs of digits as numbers, letters without case, nothing before everything.

    >>> sorted(["disk10", "Disk9", None], key=natural_key)
    [None, 'Disk9', 'disk10']
    """
    text = "" if value is None or value is MISSING else str(value)
    # Texts and digits alternate, so like is compared with like; a number is its length, then its digits.
    return [
        (len(part.lstrip("0")), part.lstrip("0")) if index % 2 else (0, part.lower())
        for index, part in enumerate(_DIGITS.split(text))
    ]
