"""Values that parameters of several calls have in common."""

from __future__ import annotations

import unicodedata
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from openvstorage.vpool.operations.errors import Refused
from openvstorage.vpool.operations.names import MAX_NAME_BYTES, devicename

__all__ = ["Label", "Name", "PageCacheRatio", "QosLimits", "Quota", "Text"]

LIMIT = 2**53  # larger ones are not exact in every JSON reader


def _printable(value: str) -> str:
    # Such texts are shown in logs and on terminals, where a control character could pretend to be something else.
    if any(unicodedata.category(character) == "Cc" for character in value):
        raise ValueError("a text holds a control character")
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
Label = Annotated[str, Field(max_length=1024)]
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
