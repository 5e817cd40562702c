"""vPools: the storage pools of a cluster."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from openvstorage.client.caller import Caller
from openvstorage.client.fields import integer, mapping, optional_text, text
from openvstorage.client.names import segment
from openvstorage.client.page import objects

__all__ = ["Capacity", "VPool", "VPools"]


@dataclass(frozen=True, slots=True)
class VPool:
    """A storage pool.

    :ivar status: ``RUNNING`` in normal times; None where the cluster does not say.
    """

    guid: str
    name: str
    status: str | None = None

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read the API's object; keys that are not known are ignored. :raises UnexpectedAnswer: if one is missing."""
        return cls(guid=text(data, "guid"), name=text(data, "name"), status=optional_text(data, "status"))


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a vPool holds, in bytes.

    :ivar total_bytes: of the place that keeps its bytes.
    :ivar free_bytes: that vDisks can still take.
    :ivar used_bytes: that vDisks and snapshots occupy.
    :ivar provisioned_bytes: the sum of the vDisks' sizes; more than total_bytes is normal, they are thin.
    :ivar vdisk_count: number of vDisks.
    :ivar age_seconds: how old these figures are.
    """

    total_bytes: int
    free_bytes: int
    used_bytes: int
    provisioned_bytes: int
    vdisk_count: int
    age_seconds: float

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read the API's object; keys that are not known are ignored. :raises UnexpectedAnswer: if one is missing."""
        return cls(
            total_bytes=integer(data, "total_bytes"),
            free_bytes=integer(data, "free_bytes"),
            used_bytes=integer(data, "used_bytes"),
            provisioned_bytes=integer(data, "provisioned_bytes"),
            vdisk_count=integer(data, "vdisk_count"),
            age_seconds=float(data.get("age_seconds") or 0.0),
        )


class VPools:
    """The vPools of a cluster; thread-safe. All calls block, and raise TransportError, AuthenticationError and
    Refused as :mod:`openvstorage.client.errors` says."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def get(self, guid: str) -> VPool:
        """Give a vPool. :raises NotFound: if there is none of that guid."""
        path = f"vpools/{segment(guid)}/"
        return VPool.from_api(mapping(self._caller.get(path, {"contents": ""}), path))

    def find(self, name: str) -> VPool | None:
        """Give the vPool of that name, or None. Clusters up to 2.9 cannot search vPools, and have few: all are read."""
        return next((vpool for vpool in self.list() if vpool.name == name), None)

    def list(self) -> list[VPool]:
        """Give all vPools, by name."""
        return [VPool.from_api(data) for data in objects(self._caller, "vpools/", {"contents": ""})]

    def capacity(self, guid: str) -> Capacity | None:
        """Give what a vPool holds; None where the cluster cannot say, as Open vStorage cannot.

        :raises NotFound: if there is no vPool of that guid.
        """
        if "capacity" not in self._caller.features():
            return None
        path = f"vpools/{segment(guid)}/capacity/"
        return Capacity.from_api(mapping(self._caller.get(path), path))
