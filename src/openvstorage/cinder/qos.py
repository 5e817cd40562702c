"""Back-end QoS: what a volume type's QoS specs mean for a vDisk. They reach a running guest at once.

The keys are those that Nova knows for front-end QoS, so that one set of specs serves either consumer.
"""

from __future__ import annotations

from typing import Any

from cinder.volume import volume_types

from openvstorage.client import Qos

__all__ = ["limits"]

# Cinder's key to the field of the vPool's limits.
_FIELDS = {
    f"{scope}_{kind}_sec": f"{field}_{scope}"
    for scope in ("total", "read", "write")
    for kind, field in (("iops", "iops"), ("bytes", "bps"))
}


def limits(volume_type_id: str | None, size: int) -> Qos | None:
    """Give the limits that a volume type puts on a vDisk, or None where it puts none.

    ``KEY_per_gb`` counts per GiB, at least ``KEY_per_gb_min`` and at most ``KEY_max``, as Cinder reckons for Nova.

    :param size: of the volume in GiB.
    """
    specs = _specs(volume_type_id)
    values = {field: _value(specs, key, size) for key, field in _FIELDS.items()}
    return Qos(**values) if any(values.values()) else None


def _specs(volume_type_id: str | None) -> dict[str, Any]:
    if volume_type_id is None:
        return {}
    found = volume_types.get_volume_type_qos_specs(volume_type_id)["qos_specs"]
    if not found or found["consumer"] not in ("back-end", "both"):
        return {}
    specs: dict[str, Any] = found["specs"]
    return specs


def _value(specs: dict[str, Any], key: str, size: int) -> int:
    per_gib = specs.get(f"{key}_per_gb")
    if per_gib is None:
        return int(specs.get(key, 0))
    value = max(int(per_gib) * size, int(specs.get(f"{key}_per_gb_min", 0)))
    return min(value, int(specs.get(f"{key}_max", value)))
