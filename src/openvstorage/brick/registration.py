"""Registration of the connector in the process at hand."""

from __future__ import annotations

from os_brick import initiator
from os_brick.initiator import connector as os_brick_connector

__all__ = ["PROTOCOL", "register"]

# os-brick looks connectors up by the upper-cased ``driver_volume_type``.
PROTOCOL = "OPENVSTORAGE_EDGE"

_CLASS = "openvstorage.brick.connector.OpenvStorageEdgeConnector"
_ARCHITECTURES = ("x86_64", initiator.S390X, initiator.PPC64LE)


def register() -> None:
    """Make os-brick find our connector in this process; may be called again. No I/O.

    os-brick keeps one table per kind of architecture, and hands the live one out.
    """
    for architecture in _ARCHITECTURES:
        os_brick_connector.get_connector_mapping(architecture)[PROTOCOL] = _CLASS
