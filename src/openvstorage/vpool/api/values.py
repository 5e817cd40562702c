"""Values that parameters of several calls have in common, and what no text that is kept may hold."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from openvstorage.vpool.operations.errors import Refused
from openvstorage.vpool.operations.names import MAX_NAME_BYTES, devicename

__all__ = ["Label", "Name", "PageCacheRatio", "QosLimits", "Quota", "Text", "require_printable"]

LIMIT = 2**53  # larger ones are not exact in every JSON reader
#: Categories of Unicode that act on what they stand beside: controls, separators of lines and of paragraphs.
_ACTING = {"Cc", "Zl", "Zp"}
#: Marks, embeddings, overrides and isolates of direction.
_DIRECTIONS = {0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)}


def require_printable(value: Any) -> None:
    """Look through a value, keys included, for characters that are not shown but act on the text around them.

    Texts are shown in logs, in tables and on terminals, where such a character makes them look like something else.

    :raises ValueError: there is one.
    """
    match value:
        case str():
            found = next((each for each in value if _acts(each)), None)
            if found is not None:
                raise ValueError(f"a text holds the control character U+{ord(found):04X}")
        case dict():
            for key, item in value.items():
                require_printable(key)
                require_printable(item)
        case list():
            for item in value:
                require_printable(item)


def _acts(character: str) -> bool:
    return ord(character) in _DIRECTIONS or unicodedata.category(character) in _ACTING


def _printable(value: str) -> str:
    require_printable(value)
    return value


def _name(value: str) -> str:
    _printable(value)
    if len(value.encode()) > MAX_NAME_BYTES:
        raise ValueError(f"a name has at most {MAX_NAME_BYTES} bytes")
    try:
        devicename(value)
    except Refused as refusal:
        raise ValueError(str(refusal)) from None
    return value


#: Name of a new vDisk: 1 to 254 bytes, of which something usable remains as a device name within the pool.
Name = Annotated[str, Field(min_length=1, max_length=MAX_NAME_BYTES, examples=["volume-1"]), AfterValidator(_name)]
#: Label of a snapshot; may be empty and need not be unique.
Label = Annotated[str, Field(max_length=1024), AfterValidator(_printable)]
#: A text that identifies something to the caller.
Text = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_printable)]
PageCacheRatio = Annotated[float, Field(gt=0, le=1)]
#: Cache quota in bytes, ``{"fragment", "block"}``; kept and shown, nothing here caches by it.
Quota = dict[str, Any]
_Limit = Annotated[int, Field(ge=0, lt=LIMIT)]


class QosLimits(BaseModel):
    """Limits of a vDisk; 0 or absent is unlimited."""

    model_config = ConfigDict(extra="forbid")

    iops_total: _Limit = 0
    iops_read: _Limit = 0
    iops_write: _Limit = 0
    bps_total: _Limit = 0
    bps_read: _Limit = 0
    bps_write: _Limit = 0
