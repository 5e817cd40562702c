"""QoS limits as the daemon's throttle group understands them."""

from __future__ import annotations

from dataclasses import dataclass, fields

__all__ = ["Limits"]

#: QEMU refuses larger values.
_LARGEST = 10**15


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one vDisk; 0 means unlimited.

    :ivar iops_total: requests per second, reads and writes together.
    :ivar bps_total: bytes per second, reads and writes together.
    :raise ValueError: a value is negative, too large or no integer, or a total is given together with its read or
        write part, which QEMU cannot do.
    """

    iops_total: int = 0
    iops_read: int = 0
    iops_write: int = 0
    bps_total: int = 0
    bps_read: int = 0
    bps_write: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if type(value) is not int or not 0 <= value <= _LARGEST:
                raise ValueError(f"{field.name} must be an integer from 0 to {_LARGEST}")
        if self.iops_total and (self.iops_read or self.iops_write):
            raise ValueError("iops_total cannot be combined with iops_read or iops_write")
        if self.bps_total and (self.bps_read or self.bps_write):
            raise ValueError("bps_total cannot be combined with bps_read or bps_write")

    def as_qmp(self) -> dict[str, int]:
        """The ``limits`` property of a throttle group.

        Every limit is named, the unlimited ones as 0: what is left out keeps its old value in the daemon.
        """
        return {field.name.replace("_", "-"): getattr(self, field.name) for field in fields(self)}
