"""Back-end QoS: what a volume type's QoS specs mean for a vDisk. They reach a running guest at once.

The keys are those that Nova knows for front-end QoS, so that one set of specs serves either consumer.
"""

from __future__ import annotations

from typing import Any

from cinder.volume import volume_types

from openvstorage.cinder.refusal import TypeRefused
from openvstorage.client import Qos

__all__ = ["limits"]

# Cinder's key to the field of the vPool's limits.
_FIELDS = {
    f"{scope}_{kind}_sec": f"{field}_{scope}"
    for scope in ("total", "read", "write")
    for kind, field in (("iops", "iops"), ("bytes", "bps"))
}

# QEMU takes no larger ones, and so the vPool does not either.
_LARGEST = 10**15


def limits(volume_type_id: str | None, size: int) -> Qos | None:
    """Give the limits that a volume type puts on a vDisk, or None where it puts none.

    ``KEY_per_gb`` counts per GiB, at least ``KEY_per_gb_min`` and at most ``KEY_max``, as Cinder reckons for Nova.

    :param size: of the volume in GiB.
    :raises TypeRefused: its QoS specs hold what can be no limit; the text names the key.
    """
    specs = _specs(volume_type_id)
    values = {field: _value(specs, key, size) for key, field in _FIELDS.items()}
    for kind, key in (("iops", "iops"), ("bps", "bytes")):
        if values[f"{kind}_total"] and (values[f"{kind}_read"] or values[f"{kind}_write"]):
            raise TypeRefused(
                reason=f"its QoS specs limit total_{key}_sec beside reads or writes alone; give one or the others"
            )
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
    if f"{key}_per_gb" not in specs:
        return _number(specs, key)
    value = max(_number(specs, f"{key}_per_gb") * size, _number(specs, f"{key}_per_gb_min"))
    return min(value, _number(specs, f"{key}_max", value), _LARGEST)


def _number(specs: dict[str, Any], key: str, default: int = 0) -> int:
    """Read a limit. Cinder takes any text for one when the specs are made."""
    text = str(specs.get(key, default)).strip()
    if not (text.isascii() and text.isdigit() and int(text) <= _LARGEST):
        words = f"its QoS specs have {key} = '{text}', which is no whole number from 0 to {_LARGEST}"
        raise TypeRefused(reason=words)
    return int(text)
