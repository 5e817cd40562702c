"""The query language of lists: ``{"type": "AND", "items": [["devicename", "EQUALS", "/a.raw"], ...]}``.

Items may be queries again. What the database can answer from an index (an ``EQUALS`` on a column, required by the whole
query) is taken out and left to it; the rest is evaluated here, on values worked out for the rows that remain.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from openvstorage.vpool.api.envelopes import invalid_query

__all__ = ["MISSING", "Filter", "Query", "parse_query"]

MAX_DEPTH = 16
MAX_FILTERS = 1000
MAX_TEXT = 65536

#: Value of a field behind a relation that is null: no filter matches it.
MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class Filter:
    """``[field, operator, value]``, with a fourth element false to ignore case."""

    field: str
    operator: str
    value: Any
    ignore_case: bool = False

    def matches(self, found: Any) -> bool:
        """:returns: whether an object with this value of the field is meant."""
        if found is MISSING:
            return False
        wanted = self.value
        if self.ignore_case:
            found, wanted = _lower(found), _lower(wanted)
        return OPERATORS[self.operator](found, wanted)


@dataclass(frozen=True, slots=True)
class Query:
    """Filters and queries, of which all (``AND``) or any (``OR``) have to match; none at all matches everything."""

    type: str
    items: tuple[Filter | Query, ...]

    def fields(self) -> Iterator[str]:
        """:returns: every field that is asked about."""
        for item in self.items:
            if isinstance(item, Filter):
                yield item.field
            else:
                yield from item.fields()

    def matches(self, value: Callable[[str], Any]) -> bool:
        """:param value: gives an object's value of a field."""
        if not self.items:
            return True
        results = (
            item.matches(value(item.field)) if isinstance(item, Filter) else item.matches(value) for item in self.items
        )
        return all(results) if self.type == "AND" else any(results)

    def split(self, columns: Mapping[str, Any]) -> tuple[dict[str, Any], Query]:
        """Take out what the database answers.

        :param columns: names of the fields that are columns.
        :returns: the values that these columns have to equal, and the query that is left.
        """
        equal: dict[str, Any] = {}
        left: list[Filter | Query] = []
        for item in self.items:
            direct = self.type == "AND" or len(self.items) == 1
            if direct and isinstance(item, Query):
                more, rest = item.split({name: column for name, column in columns.items() if name not in equal})
                equal |= more
                if rest.items:
                    left.append(rest)
            elif direct and isinstance(item, Filter) and _is_indexed(item, columns) and item.field not in equal:
                equal[item.field] = item.value
            else:
                left.append(item)
        return equal, Query(self.type, tuple(left))


def parse_query(given: Any) -> Query:
    """Read a query.

    :param given: JSON text, or the object itself when it came in a body.
    :raises ApiError: 400, with the part that can not be understood.
    """
    if isinstance(given, str):
        if len(given) > MAX_TEXT:
            raise invalid_query(f"query has more than {MAX_TEXT} characters")
        try:
            given = json.loads(given, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise invalid_query("query is not JSON") from None
    parsed = _query(given, 0)
    if sum(1 for _ in parsed.fields()) > MAX_FILTERS:
        raise invalid_query(f"query has more than {MAX_FILTERS} filters")
    return parsed


def _query(given: Any, depth: int) -> Query:
    if depth > MAX_DEPTH:
        raise invalid_query(f"query is nested more than {MAX_DEPTH} levels deep")
    if not isinstance(given, dict) or not {"type", "items"} <= given.keys():
        raise invalid_query('query has to be an object with "type" and "items"')
    if given["type"] not in ("AND", "OR"):
        raise invalid_query("the type of a query is AND or OR")
    if not isinstance(given["items"], list):
        raise invalid_query("the items of a query are a list")
    items = (_query(item, depth + 1) if isinstance(item, dict) else _filter(item) for item in given["items"])
    return Query(given["type"], tuple(items))


def _filter(given: Any) -> Filter:
    if not isinstance(given, list) or len(given) not in (3, 4):
        raise invalid_query("an item of a query is [field, operator, value], or a query")
    name, operator, value, *case = given
    if not isinstance(name, str):
        raise invalid_query("the field of a query's item is a text")
    if not isinstance(operator, str) or operator not in OPERATORS:
        raise invalid_query("the operator of a query's item is one of " + ", ".join(OPERATORS))
    return Filter(name, operator, value, ignore_case=case == [False])


def _no_constant(word: str) -> Any:
    raise ValueError(word)


def _is_indexed(item: Filter, columns: Mapping[str, Any]) -> bool:
    # A text that no database takes is equal to nothing; it is compared here.
    return (
        item.operator == "EQUALS"
        and not item.ignore_case
        and item.field in columns
        and isinstance(item.value, str)
        and "\0" not in item.value
        and not any(0xD800 <= ord(character) <= 0xDFFF for character in item.value)
    )


def _lower(value: Any) -> Any:
    if isinstance(value, str):
        return value.lower()
    if isinstance(value, list):
        return [_lower(item) for item in value]
    return value


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def matches(found: Any, wanted: Any) -> bool:
        try:
            return bool(compare(found, wanted))
        except TypeError:  # a text and a number have no order
            return False

    return matches


def _contains(whole: Any, part: Any) -> bool:
    if isinstance(whole, str):
        return isinstance(part, str) and part in whole
    if isinstance(whole, dict):
        return isinstance(part, str) and part in whole
    return isinstance(whole, list) and part in whole


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "EQUALS": lambda found, wanted: bool(found == wanted),
    "NOT_EQUALS": lambda found, wanted: bool(found != wanted),
    "LT": _ordered(lambda found, wanted: found < wanted),
    "GT": _ordered(lambda found, wanted: found > wanted),
    "IN": lambda found, wanted: _contains(wanted, found),
    "CONTAINS": _contains,
}
