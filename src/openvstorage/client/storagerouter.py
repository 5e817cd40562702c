"""StorageRouters and StorageDrivers: the nodes of a cluster, and which of them a vDisk goes to or lives on."""

import random
from dataclasses import dataclass
from urllib.parse import urlsplit

from openvstorage.client.caller import Caller
from openvstorage.client.errors import Unavailable, UnexpectedAnswer
from openvstorage.client.fields import mapping, text
from openvstorage.client.names import segment
from openvstorage.client.page import objects

__all__ = ["EdgeAddress", "StorageRouters"]

# What a node says of itself, best first. A node that says FAILURE is not chosen.
_RANKS = {"OK": 0, None: 0, "WARNING": 1}


@dataclass(frozen=True, slots=True)
class EdgeAddress:
    """Where the edge of a cluster without NBD serves a vDisk, for hosts with the patched QEMU.

    :ivar transport: ``tcp`` or ``rdma``.
    :ivar host: the node's address in the storage network.
    :ivar port: TCP port.
    :ivar volume: the vDisk's name at the edge.
    """

    transport: str
    host: str
    port: int
    volume: str


class StorageRouters:
    """The nodes that serve vPools; thread-safe. All calls block."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def choose(self, vpool_guid: str) -> str:
        """Give the guid of the node of a vPool that a new vDisk should go to.

        The healthy ones come first, of those the one with room for most vDisks; equals are drawn.

        :raises Unavailable: if no node of the vPool works. :raises NotFound: if there is no such vPool.
        """
        path = f"vpools/{segment(vpool_guid)}/"
        routers = objects(self._caller, path + "storagerouters/", {"contents": "status"})
        potentials = mapping(self._caller.get(path, {"contents": "volume_potentials"}), path).get("volume_potentials")
        room = potentials if isinstance(potentials, dict) else {}
        usable = [
            (_RANKS[router.get("status")], text(router, "guid")) for router in routers if router.get("status") in _RANKS
        ]
        # A potential of -1 means that the node could not say, 0 that it is full.
        usable = [(rank, guid) for rank, guid in usable if room.get(guid, -1) != 0]
        if not usable:
            raise Unavailable(description=f"no StorageRouter of vPool {vpool_guid} works and has room")
        random.shuffle(usable)
        return min(usable, key=lambda entry: (entry[0], -room.get(entry[1], -1)))[1]

    def edge(self, vpool_guid: str, storagedriver_id: str, volume: str) -> EdgeAddress:
        """Give where a StorageDriver's edge serves a volume. Read anew at each call: nodes get new addresses.

        :raises Unavailable: if the vPool has no such StorageDriver (the node was removed).
        """
        drivers = objects(
            self._caller, "storagedrivers/", {"vpool_guid": vpool_guid, "contents": "cluster_node_config"}
        )
        for driver in drivers:
            if driver.get("storagedriver_id") == storagedriver_id:
                config = driver.get("cluster_node_config")
                uri = config.get("network_server_uri") if isinstance(config, dict) else None
                parts = urlsplit(str(uri))
                if parts.scheme not in ("tcp", "rdma") or not parts.hostname or not parts.port:
                    raise UnexpectedAnswer(where="storagedrivers/", reason=f"no edge address in {uri!r}")
                return EdgeAddress(parts.scheme, parts.hostname, parts.port, volume)
        raise Unavailable(description=f"vPool {vpool_guid} has no StorageDriver {storagedriver_id}")
