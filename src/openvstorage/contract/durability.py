"""Durability: what of a vDisk's writes survives the death of what serves it."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Durability"]


class Durability(StrEnum):
    """What is kept when the storage daemon, the service or the machine dies.

    ``ACKNOWLEDGED``: each write is on disk before it is acknowledged, so whatever was acknowledged is kept.
    ``FLUSHED``: what the client flushed is kept, as by a disk with a cache. Where a storage daemon dies with the rest,
    the vDisk's exports change their names: no client goes on over lost writes without knowing.
    """

    ACKNOWLEDGED = "acknowledged"
    FLUSHED = "flushed"
