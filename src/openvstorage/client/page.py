"""Lists: the envelope in which a cluster gives several objects, whole or page by page."""

from collections.abc import Iterator, Mapping
from typing import Any

from openvstorage.client.caller import Caller
from openvstorage.client.errors import UnexpectedAnswer
from openvstorage.client.fields import mapping

__all__ = ["objects", "pages"]

# Clusters up to 2.9 know page sizes of 10, 25, 50 and 100, and take 10 for any other.
_PAGE_SIZE = 100


def objects(caller: Caller, path: str, params: Mapping[str, str]) -> list[Mapping[str, Any]]:
    """Give all objects of a list in one call. Blocks.

    :param params: must hold ``contents``, else the cluster gives guids only.
    """
    return _data(mapping(caller.get(path, params), path), path)


def pages(caller: Caller, path: str, params: Mapping[str, str]) -> Iterator[Mapping[str, Any]]:
    """Give the objects of a long list one after the other, reading a page at a time. Blocks.

    Objects made or deleted meanwhile may be left out or come twice, unless ``params`` sort by something stable.
    """
    number = 1
    while True:
        answer = mapping(caller.get(path, {**params, "page": str(number), "page_size": str(_PAGE_SIZE)}), path)
        yield from _data(answer, path)
        # Beyond the end a cluster gives the last page again, so only its own count says where to stop.
        if number >= int(mapping(answer.get("_paging"), path).get("max_page") or 1):
            return
        number += 1


def _data(answer: Mapping[str, Any], path: str) -> list[Mapping[str, Any]]:
    data = answer.get("data")
    if not isinstance(data, list) or not all(isinstance(entry, dict) for entry in data):
        raise UnexpectedAnswer(where=path, reason="a list of objects was expected")
    return data
