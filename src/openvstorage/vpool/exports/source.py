"""The vDisk that another storage daemon serves, as a block node: how a daemon for readers opens a head.

Only one process can open a layer that is written to. So whoever may only read is served by a second daemon, which reads
from the first over NBD, with a certificate that no host can have.
"""

from __future__ import annotations

from typing import Any

from openvstorage.vpool.exports.tls import ClientTls

__all__ = ["SOURCE", "source_node"]

#: Name of the node.
SOURCE = "source"
#: Seconds that requests wait for the other daemon when it is replaced.
_RECONNECT_SECONDS = 60


def source_node(host: str, port: int, name: str, tls: ClientTls | None) -> dict[str, Any]:
    """``blockdev-add`` arguments.

    :param host: where the other daemon listens; ``port`` likewise.
    :param name: of the export there.
    :param tls: by what this daemon proves itself; None where the other one serves plainly. Its objects come first.
    """
    node: dict[str, Any] = {
        "driver": "nbd",
        "node-name": SOURCE,
        "server": {"type": "inet", "host": host, "port": str(port)},
        "export": name,
        "read-only": True,
        "reconnect-delay": _RECONNECT_SECONDS,
    }
    return node if tls is None else {**node, "tls-creds": tls.credentials_id, "tls-hostname": host}
