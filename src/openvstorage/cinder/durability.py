"""Durability: what a volume type says about writes that were acknowledged and not flushed when the storage dies."""

from __future__ import annotations

from typing import Any

from cinder.volume import volume_types

from openvstorage.cinder.refusal import TypeRefused
from openvstorage.client import Durability

__all__ = ["EXTRA_SPEC", "FEATURE", "HELP", "durability"]

EXTRA_SPEC = "openvstorage:durability"
FEATURE = "durability"
"""What a cluster announces that keeps a durability for each vDisk."""

HELP = (
    "acknowledged: what a guest was told to be written survives the death of the storage process and of the machine. "
    "flushed: only what it has flushed does, as on a disk with a cache, for more speed; when the storage process dies "
    "the guest stays paused until it is hard rebooted. Without it the vPool's own default counts."
)


def durability(volume_type_id: str | None) -> Durability | None:
    """Give the durability that a volume type asks for, or None where it leaves that to the vPool.

    :raises TypeRefused: there is no such durability.
    """
    if volume_type_id is None:
        return None
    specs: dict[str, Any] = volume_types.get_volume_type_extra_specs(volume_type_id)
    wanted = specs.get(EXTRA_SPEC)
    if wanted is None:
        return None
    try:
        return Durability(wanted)
    except ValueError as error:
        words = f"its extra spec {EXTRA_SPEC} is '{wanted}', it may be {' or '.join(Durability)}"
        raise TypeRefused(reason=words) from error
