"""What the stand-in for an Open vStorage 2.9 cluster remembers, and what its tasks do to it.

Everything lives in memory. The texts of failures are those of the real cluster as far as clients recognise them.
"""

import re
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

GIB = 1024**3
_LARGEST = 64 * 1024**4
Object = dict[str, Any]


class TaskFailure(Exception):
    """What a task of the cluster raises; its text becomes the task's result."""


class Impossible(Exception):
    """A request that the API itself refuses with 406 impossible_request."""


class Missing(Exception):
    """An unknown guid in a path: 404 object_not_found."""


class Cluster:
    """One vPool on two nodes, and its vDisks.

    :ivar now: gives unix seconds; a test may replace it.
    :ivar syncs_needed: how many snapshot requests are refused before a new snapshot counts as in the backend.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.now: Callable[[], float] = time.time
        self.syncs_needed = 0
        self._syncs: dict[str, int] = {}
        self.vdisks: dict[str, Object] = {}
        self.snapshots: dict[str, list[Object]] = {}
        self.vpool_guid = str(uuid.uuid4())
        self.empty_vpool_guid = str(uuid.uuid4())
        self.routers = [self._router(number) for number in (1, 2)]
        self.drivers = [self._driver(number, router) for number, router in enumerate(self.routers, 1)]
        self.vpools = [self._vpool("myvpool01", self.vpool_guid), self._vpool("zempty", self.empty_vpool_guid)]

    def _router(self, number: int) -> Object:
        return {
            "guid": str(uuid.uuid4()),
            "name": f"node{number}",
            "ip": f"127.0.0.{number}",
            "machine_id": f"machine{number}",
            "node_type": "MASTER",
            "status": "OK",
            "vpools_guids": [self.vpool_guid],
        }

    def _driver(self, number: int, router: Object) -> Object:
        return {
            "guid": str(uuid.uuid4()),
            "name": f"myvpool01machine{number}",
            "storagedriver_id": f"myvpool01machine{number}",
            "storage_ip": f"127.0.1.{number}",
            "ports": {"management": 26200, "xmlrpc": 26201, "dtl": 26202, "edge": 26203},
            "vpool_guid": self.vpool_guid,
            "storagerouter_guid": router["guid"],
            "cluster_node_config": {"network_server_uri": f"tcp://127.0.1.{number}:26203"},
        }

    def _vpool(self, name: str, guid: str) -> Object:
        served = guid == self.vpool_guid
        return {
            "guid": guid,
            "name": name,
            "description": name,
            "status": "RUNNING",
            "rdma_enabled": False,
            "volume_potentials": {router["guid"]: 40 + n for n, router in enumerate(self.routers)} if served else {},
        }

    # Reading

    def vdisk(self, guid: str) -> Object:
        """Give a vDisk's persistent properties, or raise Missing."""
        try:
            return self.vdisks[guid]
        except KeyError:
            raise Missing(f"vDisk {guid} could not be found") from None

    def children(self, guid: str) -> list[Object]:
        """Give the clones of a vDisk."""
        return [vdisk for vdisk in self.vdisks.values() if vdisk["parent_vdisk_guid"] == guid]

    def dynamic(self, vdisk: Object, name: str) -> Any:
        """Give a dynamic or a relation of a vDisk under its wire name."""
        driver = next(d for d in self.drivers if d["storagerouter_guid"] == vdisk["_router"])
        values: dict[str, Callable[[], Any]] = {
            "snapshots": lambda: [dict(snapshot) for snapshot in self.snapshots[vdisk["guid"]]],
            "snapshot_ids": lambda: [snapshot["guid"] for snapshot in self.snapshots[vdisk["guid"]]],
            "storagedriver_id": lambda: driver["storagedriver_id"],
            "storagerouter_guid": lambda: vdisk["_router"],
            "is_vtemplate": lambda: vdisk["_template"],
            "edge_clients": list,
            "dtl_status": lambda: "disabled",
            "info": lambda: {"volume_size": vdisk["size"], "live_status": "RUNNING", "object_type": "BASE"},
        }
        return values[name]()

    # Tasks

    def create(self, name: Any, size: Any, vpool_guid: str, router_guid: str, parent: Object | None = None) -> str:
        """Make a vDisk; the steps that create, clone and create_from_template share."""
        device = _devicename(name)
        if any(v["devicename"] == device and v["vpool_guid"] == vpool_guid for v in self.vdisks.values()):
            raise TaskFailure(f"A vDisk with devicename {device} already exists on vPool myvpool01")
        if size > _LARGEST:
            raise TaskFailure("Maximum volume size of 64TiB exceeded")
        guid = str(uuid.uuid4())
        self.vdisks[guid] = {
            "guid": guid,
            "name": name,
            "description": name,
            "size": size,
            "devicename": device,
            "volume_id": str(uuid.uuid4()),
            "parentsnapshot": None,
            "cinder_id": None,
            "has_manual_dtl": False,
            "pagecache_ratio": 1.0,
            "metadata": {"lba_size": 512, "cluster_multiplier": 8},
            "cache_quota": None,
            "vpool_guid": vpool_guid,
            "parent_vdisk_guid": parent["guid"] if parent else None,
            "_router": router_guid,
            "_template": False,
            "_config": {
                "sco_size": 4,
                "dtl_mode": "no_sync",
                "dtl_target": [],
                "cache_quota": None,
                "write_buffer": 128,
                "pagecache_ratio": 1.0,
            },
        }
        self.snapshots[guid] = []
        return guid

    def clone(self, vdisk: Object, name: Any, router_guid: str | None, snapshot_id: str | None) -> Object:
        """Clone a vDisk from a snapshot, or from one that is made and kept."""
        if snapshot_id is None:
            snapshot_id = self.snapshot(vdisk, "", automatic=True)
        elif all(snapshot["guid"] != snapshot_id for snapshot in self.snapshots[vdisk["guid"]]):
            raise TaskFailure("Could not find created snapshot in time")
        guid = self.create(name, vdisk["size"], vdisk["vpool_guid"], router_guid or vdisk["_router"], vdisk)
        self.vdisks[guid]["parentsnapshot"] = snapshot_id
        return {"vdisk_guid": guid, "name": name, "backingdevice": self.vdisks[guid]["devicename"]}

    def delete(self, vdisk: Object) -> None:
        """Delete a vDisk and its snapshots."""
        if self.children(vdisk["guid"]):
            raise TaskFailure(f"vDisk {vdisk['name']} has clones")
        self.vdisks.pop(vdisk["guid"], None)
        self.snapshots.pop(vdisk["guid"], None)

    def extend(self, vdisk: Object, size: int) -> None:
        """Grow a vDisk."""
        if size < vdisk["size"]:
            raise TaskFailure("Shrinking is not possible")
        if size > _LARGEST:
            raise TaskFailure("Maximum volume size of 64TiB exceeded")
        vdisk["size"] = size

    def snapshot(
        self,
        vdisk: Object,
        label: Any,
        consistent: bool = False,
        automatic: bool = False,
        sticky: bool = False,
        timestamp: Any = None,
    ) -> str:
        """Take a snapshot; refused while the one before is on its way to the backend."""
        taken = self.snapshots[vdisk["guid"]]
        if taken and not taken[-1]["in_backend"]:
            last = taken[-1]
            self._syncs[last["guid"]] += 1
            last["in_backend"] = self._syncs[last["guid"]] >= self.syncs_needed
            raise TaskFailure(f"Previous snapshot {last['guid']} did not make it to the backend yet")
        guid = str(uuid.uuid4())
        self._syncs[guid] = 0
        taken.append(
            {
                "guid": guid,
                "timestamp": str(int(self.now())) if timestamp is None else timestamp,
                "label": label,
                "is_consistent": consistent,
                "is_automatic": automatic,
                "is_sticky": sticky,
                "in_backend": self.syncs_needed == 0,
                "stored": 0,
            }
        )
        return guid

    def remove_snapshot(self, vdisk: Object, snapshot_id: str) -> None:
        """Remove a snapshot."""
        taken = self.snapshots[vdisk["guid"]]
        if all(snapshot["guid"] != snapshot_id for snapshot in taken):
            raise TaskFailure(f"Snapshot {snapshot_id} does not belong to vDisk {vdisk['name']}")
        if any(child["parentsnapshot"] == snapshot_id for child in self.children(vdisk["guid"])):
            raise TaskFailure(f"Snapshot {snapshot_id} has 1 volume cloned from it, cannot remove")
        taken[:] = [snapshot for snapshot in taken if snapshot["guid"] != snapshot_id]

    def rollback(self, vdisk: Object, timestamp: Any) -> bool:
        """Roll back to the first snapshot of that timestamp; newer ones are destroyed."""
        taken = self.snapshots[vdisk["guid"]]
        for position, snapshot in enumerate(taken):
            if snapshot["timestamp"] == str(timestamp):
                del taken[position + 1 :]
                return True
        raise TaskFailure(f"No snapshot found for timestamp {timestamp}")

    def template(self, vdisk: Object) -> None:
        """Make a vDisk a template, for ever."""
        if vdisk["_template"]:
            return
        if self.children(vdisk["guid"]) or vdisk["parent_vdisk_guid"]:
            raise TaskFailure(f"vDisk {vdisk['name']} has clones or is one")
        vdisk["_template"] = True

    def from_template(self, vdisk: Object, name: Any, router_guid: str | None) -> Object:
        """Make a vDisk from a template."""
        if not vdisk["_template"]:
            raise TaskFailure("The given vDisk is not a vTemplate")
        guid = self.create(name, vdisk["size"], vdisk["vpool_guid"], router_guid or vdisk["_router"], vdisk)
        return {"vdisk_guid": guid, "name": name, "backingdevice": self.vdisks[guid]["devicename"]}

    def move(self, vdisk: Object, router_guid: str) -> None:
        """Move a vDisk to another node."""
        if all(driver["storagerouter_guid"] != router_guid for driver in self.drivers):
            raise TaskFailure(f"Failed to move vDisk {vdisk['name']}")
        vdisk["_router"] = router_guid

    def group(self, guids: list[str], arguments: dict[str, Any]) -> dict[str, list[Any]]:
        """Take snapshots of several vDisks, one after the other; success whatever becomes of each."""
        results: dict[str, list[Any]] = {}
        for guid in guids:
            try:
                results[guid] = [True, self.snapshot(self.vdisk(guid), **arguments)]
            except (TaskFailure, Missing) as error:
                results[guid] = [False, str(error)]
        return results


def _devicename(name: Any) -> str:
    if not isinstance(name, str):
        raise TaskFailure("expected string or buffer")
    kept = re.sub(r"[^A-Za-z0-9_/.-]", "", re.sub("/+", "/", name.strip("/").replace(" ", "_")))
    last = kept.split("/")[-1]
    return f"/{kept}" if len(last) > 4 and last.endswith(".raw") else f"/{kept}.raw"
