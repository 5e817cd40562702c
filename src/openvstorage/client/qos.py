"""QoS: limits on what a vDisk may do a second."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

__all__ = ["Qos"]


@dataclass(frozen=True, slots=True)
class Qos:
    """Limits per second, operations or bytes; 0 means no limit."""

    iops_total: int = 0
    iops_read: int = 0
    iops_write: int = 0
    bps_total: int = 0
    bps_read: int = 0
    bps_write: int = 0

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read the API's object; absent and null mean no limit, unknown keys are ignored."""
        return cls(**{entry.name: int(data.get(entry.name) or 0) for entry in fields(cls)})

    def to_api(self) -> dict[str, int]:
        """Give the API's object."""
        return asdict(self)
