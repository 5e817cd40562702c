"""vDisks: the volumes of a vPool."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

from openvstorage.client.caller import Caller
from openvstorage.client.errors import (
    HasClones,
    InvalidRequest,
    NotFound,
    NotSupported,
    OpenvStorageError,
    Unavailable,
    UnexpectedAnswer,
)
from openvstorage.client.fields import flag, integer, mapping, optional_text, text
from openvstorage.client.names import devicename, edge_name, segment
from openvstorage.client.page import objects, pages
from openvstorage.client.qos import Qos
from openvstorage.client.snapshot import Snapshots
from openvstorage.client.storagerouter import EdgeAddress, StorageRouters
from openvstorage.client.task import TASK_SECONDS, Tasks
from openvstorage.contract.durability import Durability

__all__ = ["VDisk", "VDisks"]

LOG = logging.getLogger(__name__)

# Open vStorage waits up to five minutes for the cloned snapshot to reach the backend, rollback likewise.
_BACKEND_SECONDS = 600.0
_NO_DURABILITY = "what it keeps when a process dies cannot be chosen there"
# Relations and dynamics that a VDisk needs; without "contents" a cluster computes all of them, which is slow.
_CONTENTS = "vpool,parent_vdisk,storagedriver_id,storagerouter_guid,is_vtemplate"


@dataclass(frozen=True, slots=True)
class VDisk:
    """A volume.

    :ivar name: as given at creation.
    :ivar devicename: its key within the vPool, derived from the name.
    :ivar size: bytes.
    :ivar parent_vdisk_guid: what it was cloned from, None if nothing or if that is gone.
    :ivar parentsnapshot: guid of the snapshot it was cloned from, None likewise.
    :ivar storagedriver_id: the StorageDriver that serves it now, None if the cluster cannot say.
    :ivar qos: its limits, None where the cluster has no QoS.
    :ivar durability: what is kept when what serves it dies, None where the cluster does not say.
    """

    guid: str
    name: str
    devicename: str
    size: int
    vpool_guid: str | None = None
    volume_id: str | None = None
    parent_vdisk_guid: str | None = None
    parentsnapshot: str | None = None
    storagedriver_id: str | None = None
    storagerouter_guid: str | None = None
    is_vtemplate: bool = False
    qos: Qos | None = None
    durability: Durability | None = None

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read the API's object; keys that are not known are ignored. :raises UnexpectedAnswer: if one is missing."""
        qos = data.get("qos")
        return cls(
            guid=text(data, "guid"),
            name=optional_text(data, "name") or "",
            devicename=text(data, "devicename"),
            size=integer(data, "size"),
            vpool_guid=optional_text(data, "vpool_guid"),
            volume_id=optional_text(data, "volume_id"),
            parent_vdisk_guid=optional_text(data, "parent_vdisk_guid"),
            parentsnapshot=optional_text(data, "parentsnapshot"),
            storagedriver_id=optional_text(data, "storagedriver_id"),
            storagerouter_guid=optional_text(data, "storagerouter_guid"),
            is_vtemplate=flag(data, "is_vtemplate"),
            qos=Qos.from_api(qos) if isinstance(qos, dict) else None,
            durability=_durability(data),
        )


class VDisks:
    """The vDisks of a cluster; thread-safe. All calls block, and raise TransportError, AuthenticationError, TaskError
    and Refused as :mod:`openvstorage.client.errors` says; below stand the refusals that a caller should expect."""

    def __init__(self, caller: Caller, tasks: Tasks, snapshots: Snapshots) -> None:
        self._caller = caller
        self._tasks = tasks
        self._snapshots = snapshots
        self._routers = StorageRouters(caller)

    def get(self, guid: str) -> VDisk:
        """Give a vDisk. :raises NotFound: if there is none of that guid."""
        path = _path(guid)
        return VDisk.from_api(mapping(self._caller.get(path, {"contents": _CONTENTS}), path))

    def find(self, name: str, vpool_guid: str) -> VDisk | None:
        """Give the vDisk of that name in that vPool, or None. One query, whatever the number of vDisks.

        :param name: as given at creation; the cluster's rule for device names is applied to it.
        :raises NotFound: if there is no such vPool; Open vStorage answers that with a ServerError.
        """
        wanted = devicename(name)
        query = {"type": "AND", "items": [["devicename", "EQUALS", wanted]]}
        params = {
            "vpoolguid": vpool_guid,
            "query": json.dumps(query, separators=(",", ":")),
            "contents": _CONTENTS,
        }
        found = (VDisk.from_api(data) for data in objects(self._caller, "vdisks/", params))
        # A cluster ignores parameters it does not know and would then give everything.
        return next((vdisk for vdisk in found if vdisk.devicename == wanted), None)

    def list(self, vpool_guid: str) -> Iterator[VDisk]:
        """Give the vDisks of a vPool, by device name, a page of 100 at a time. For inventories, not for look-ups."""
        params = {"vpoolguid": vpool_guid, "contents": _CONTENTS, "sort": "devicename"}
        return (VDisk.from_api(data) for data in pages(self._caller, "vdisks/", params))

    def create(
        self,
        name: str,
        size: int,
        vpool_guid: str,
        storagerouter_guid: str | None = None,
        durability: Durability | str | None = None,
    ) -> str:
        """Make an empty vDisk.

        :param size: bytes.
        :param storagerouter_guid: the node it should live on; None leaves the choice to the cluster, and on one that
            does not choose to this library.
        :param durability: what is kept when what serves it dies, see :class:`contract.durability.Durability`; None for
            the pool's default.
        :returns: its guid.
        :raises AlreadyExists: if its device name is taken in the vPool. :raises InvalidRequest: bad name or size.
        :raises Unavailable: if no node can take it. :raises NotSupported: the cluster knows no durability.
        """
        more = self._asked(durability)
        if storagerouter_guid is None and not self._caller.features():
            storagerouter_guid = self._routers.choose(vpool_guid)
        body = {"name": name, "size": size, "vpool_guid": vpool_guid, "storagerouter_guid": storagerouter_guid}
        body |= more
        guid = self._tasks.run("vdisks/", body)
        if not isinstance(guid, str):
            raise UnexpectedAnswer(where="vdisks/", reason="the guid of the new vDisk was expected")
        return guid

    def delete(self, guid: str, force: bool = False) -> None:
        """Delete a vDisk with its snapshots.

        :param force: revoke the grants it has, instead of refusing.
        :raises NotFound: if it does not exist. :raises InUse: if it has grants and ``force`` is False.
        :raises HasClones: if something was cloned from it and the cluster refuses for that.
        """
        try:
            self._tasks.run(f"{_path(guid)}delete/", {"force": True} if force else {})
        except InvalidRequest as error:
            if error.code != "impossible_request":
                raise
            # Open vStorage has no other reason to call a deletion impossible.
            raise HasClones(description=error.description, code=error.code, status=error.status) from error

    def extend(self, guid: str, size: int) -> None:
        """Grow a vDisk, attached or not.

        :param size: the new size in bytes; the present one is a success without effect.
        :raises InvalidRequest: if it is smaller than the present one, or too large. :raises NotFound: no such vDisk.
        """
        self._tasks.run(f"{_path(guid)}extend/", {"new_size": size})

    def clone(
        self,
        guid: str,
        name: str,
        snapshot_guid: str | None = None,
        size: int | None = None,
        durability: Durability | str | None = None,
    ) -> str:
        """Make a thin copy of a vDisk.

        :param name: of the copy.
        :param snapshot_guid: the state to copy; None copies the present one.
        :param size: bytes, at least the source's; None keeps the source's.
        :param durability: as for :meth:`create`; the source's is not inherited.
        :returns: the copy's guid.
        :raises AlreadyExists: if the name is taken. :raises NotFound: no such vDisk or snapshot.
        :raises InvalidRequest: if ``size`` is too small or too large; nothing is left behind then.
        :raises NotSupported: the cluster knows no durability.
        """
        body: dict[str, Any] = {"name": name, "storagerouter_guid": None, **self._asked(durability)}
        if snapshot_guid is not None:
            body["snapshot_id"] = snapshot_guid
        native = "clone_size" in self._caller.features()
        if native and size is not None:
            body["size"] = size
        elif size is not None and snapshot_guid is None:
            # Seen before anything is made: this cluster takes a snapshot of the source and keeps it.
            _check_size(size, self.get(guid).size)
        result = self._tasks.run(f"{_path(guid)}clone/", body, _BACKEND_SECONDS)
        clone_guid = text(mapping(result, "vdisks/clone/"), "vdisk_guid")
        if size is not None and not native:
            self._grow_clone(clone_guid, size)
        return clone_guid

    def rollback(self, guid: str, snapshot_guid: str, keep_newer: bool = False) -> None:
        """Put a vDisk back to a snapshot. Nobody may have it open for writing.

        :param keep_newer: keep the snapshots taken since; otherwise the cluster destroys them.
        :raises NotFound: no such vDisk or snapshot. :raises InUse: if somebody has it open.
        :raises NotSupported: if the cluster cannot keep newer snapshots and there are any, or cannot tell the
            snapshot from another one of the same second.
        """
        if "keep_newer" in self._caller.features():
            body: dict[str, Any] = {"snapshot_id": snapshot_guid, "keep_newer": keep_newer}
        else:
            body = {"timestamp": self._rollback_timestamp(guid, snapshot_guid, keep_newer)}
        self._tasks.run(f"{_path(guid)}rollback/", body, _BACKEND_SECONDS)

    def restart(self, guid: str) -> None:
        """Have a vDisk served by a new process, as after an upgrade of QEMU. Its clients lose their connections.

        :raises NotFound: no such vDisk.
        """
        self._tasks.run(f"{_path(guid)}restart/", {"force": True})

    def set_qos(self, guid: str, qos: Qos) -> None:
        """Limit a vDisk, attached or not. :raises NotSupported: where the cluster has no QoS."""
        self._caller.require("qos", "Open vStorage offers no QoS")
        self._tasks.run(f"{_path(guid)}set_qos/", {"qos": qos.to_api()}, TASK_SECONDS)

    def set_durability(self, guid: str, durability: Durability | str | None) -> None:
        """Change what is kept when what serves a vDisk dies, attached or not; its clients reconnect.

        :param durability: see :class:`contract.durability.Durability`; None for the pool's default.
        :raises NotFound: no such vDisk. :raises InvalidRequest: no such durability.
        :raises NotSupported: the cluster knows no durability.
        """
        self._caller.require("durability", _NO_DURABILITY)
        self._tasks.run(f"{_path(guid)}set_durability/", {"durability": durability}, TASK_SECONDS)

    def location(self, vdisk: VDisk) -> EdgeAddress:
        """Give where the edge of a cluster without NBD serves a vDisk now.

        :param vdisk: fetched just before: vDisks move, and nodes get new addresses.
        :raises Unavailable: if no StorageDriver serves it.
        """
        if vdisk.storagedriver_id is None or vdisk.vpool_guid is None:
            raise Unavailable(description=f"no StorageDriver serves vDisk {vdisk.guid} now")
        return self._routers.edge(vdisk.vpool_guid, vdisk.storagedriver_id, edge_name(vdisk.devicename))

    def _asked(self, durability: Durability | str | None) -> dict[str, Any]:
        if durability is None:
            return {}
        self._caller.require("durability", _NO_DURABILITY)
        return {"durability": str(durability)}

    def _grow_clone(self, guid: str, size: int) -> None:
        try:
            present = self.get(guid).size
            _check_size(size, present)
            if size > present:
                self.extend(guid, size)
        except OpenvStorageError:
            # The caller never learns this guid, so nobody else could remove it.
            try:
                self.delete(guid)
            except OpenvStorageError as error:
                LOG.warning("The clone %s could not be grown, and not be removed either: %s", guid, error)
            raise

    def _rollback_timestamp(self, guid: str, snapshot_guid: str, keep_newer: bool) -> str:
        snapshots = self._snapshots.list(guid)
        wanted = next((snapshot for snapshot in snapshots if snapshot.guid == snapshot_guid), None)
        if wanted is None:
            raise NotFound(description=f"snapshot {snapshot_guid} of vDisk {guid}")
        if keep_newer and snapshots[-1].guid != snapshot_guid:
            raise NotSupported(feature="keep_newer", reason="rolling back would destroy newer snapshots")
        # The cluster takes the first snapshot of that timestamp.
        first = next(snapshot for snapshot in snapshots if snapshot.timestamp == wanted.timestamp)
        if first.guid != snapshot_guid:
            raise NotSupported(feature="keep_newer", reason="two snapshots were taken in the same second")
        return wanted.timestamp


def _path(guid: str) -> str:
    return f"vdisks/{segment(guid)}/"


def _durability(data: Mapping[str, Any]) -> Durability | None:
    """What the answer says; None too for one that a later version has."""
    told = optional_text(data, "durability")
    return Durability(told) if told in list(Durability) else None


def _check_size(size: int, source: int) -> None:
    if size < source:
        raise InvalidRequest(description=f"a clone of {size} bytes cannot hold its source of {source} bytes")
