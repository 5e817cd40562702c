"""Fields: reading typed values out of the cluster's JSON objects, with a clear error when one is not there."""

from collections.abc import Mapping
from typing import Any

from openvstorage.client.errors import UnexpectedAnswer

__all__ = ["flag", "integer", "mapping", "optional_integer", "optional_text", "text"]


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """Give ``value`` as a mapping. :raises UnexpectedAnswer: if it is no JSON object."""
    if not isinstance(value, dict):
        raise UnexpectedAnswer(where=where, reason=f"an object was expected, not {type(value).__name__}")
    return value


def text(data: Mapping[str, Any], key: str) -> str:
    """Give a text that must be there. :raises UnexpectedAnswer: if it is missing or no text."""
    value = data.get(key)
    if not isinstance(value, str):
        raise UnexpectedAnswer(where="an object of the cluster", reason=f"{key!r} is missing or no text")
    return value


def optional_text(data: Mapping[str, Any], key: str) -> str | None:
    """Give a text, or None if it is null, empty or missing."""
    value = data.get(key)
    return str(value) if value not in (None, "") else None


def integer(data: Mapping[str, Any], key: str) -> int:
    """Give a whole number that must be there. :raises UnexpectedAnswer: if it is missing or no number."""
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnexpectedAnswer(where="an object of the cluster", reason=f"{key!r} is missing or no number")
    return int(value)


def optional_integer(data: Mapping[str, Any], key: str) -> int | None:
    """Give a whole number, or None if it is null or missing. :raises UnexpectedAnswer: if it is no number."""
    return None if data.get(key) is None else integer(data, key)


def flag(data: Mapping[str, Any], key: str, default: bool = False) -> bool:
    """Give a truth value, or ``default`` if it is null or missing."""
    value = data.get(key)
    return default if value is None else bool(value)
