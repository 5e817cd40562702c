"""Snapshots: states of vDisks that stay."""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from openvstorage.client.caller import Caller
from openvstorage.client.clock import growing
from openvstorage.client.errors import HasClones, NotYet, OpenvStorageError, Refused, TaskFailed, UnexpectedAnswer
from openvstorage.client.failures import from_task
from openvstorage.client.fields import flag, mapping, text
from openvstorage.client.names import segment
from openvstorage.client.task import Tasks

__all__ = ["Snapshot", "Snapshots"]

LOG = logging.getLogger(__name__)
_T = TypeVar("_T")

# How long a new snapshot is tried again because the one before has not reached the backend. A clone may wait for the
# same for five minutes.
_BACKEND_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A state of a vDisk.

    :ivar label: the name it was given; need not be unique.
    :ivar timestamp: seconds since 1970, as the cluster writes it: its key for a rollback there.
    :ivar is_consistent: whether whoever took it said that the file systems were at rest.
    :ivar is_automatic: whether the cluster's retention may remove it (unless it is sticky).
    :ivar in_backend: whether it can be cloned and rolled back to without waiting.
    :ivar stored: bytes that it occupies by itself.
    :ivar for_clone: nobody asked for it: the cluster took it for a clone and removes it with the last such one. An
        Open vStorage cluster does not say so.
    """

    guid: str
    label: str
    timestamp: str
    is_consistent: bool
    is_automatic: bool
    is_sticky: bool
    in_backend: bool
    stored: int
    for_clone: bool = False

    @property
    def taken_at(self) -> float:
        """The timestamp as seconds since 1970."""
        return float(self.timestamp)

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read the API's object; keys that are not known are ignored. :raises UnexpectedAnswer: if one is missing."""
        timestamp = data.get("timestamp")
        if isinstance(timestamp, bool) or not isinstance(timestamp, str | int | float):
            raise UnexpectedAnswer(where="a snapshot", reason="'timestamp' is missing or no number")
        return cls(
            guid=text(data, "guid"),
            label=str(data.get("label") or ""),
            timestamp=str(timestamp),
            is_consistent=flag(data, "is_consistent"),
            is_automatic=flag(data, "is_automatic", default=True),
            is_sticky=flag(data, "is_sticky"),
            in_backend=flag(data, "in_backend"),
            stored=int(data.get("stored") or 0),
            for_clone=flag(data, "for_clone"),
        )


class Snapshots:
    """The snapshots of vDisks; thread-safe. All calls block, and raise TransportError, AuthenticationError, TaskError
    and Refused as :mod:`openvstorage.client.errors` says; below stand the refusals that a caller should expect."""

    def __init__(self, caller: Caller, tasks: Tasks) -> None:
        self._caller = caller
        self._tasks = tasks

    def list(self, vdisk_guid: str) -> list[Snapshot]:
        """Give the snapshots of a vDisk, oldest first. :raises NotFound: if there is no such vDisk."""
        path = f"vdisks/{segment(vdisk_guid)}/"
        data = mapping(self._caller.get(path, {"contents": "snapshots"}), path).get("snapshots")
        if not isinstance(data, list):
            raise UnexpectedAnswer(where=path, reason="'snapshots' is missing or no list")
        return [Snapshot.from_api(mapping(entry, path)) for entry in data]

    def create(
        self,
        vdisk_guid: str,
        label: str,
        consistent: bool = False,
        automatic: bool = False,
        sticky: bool = False,
    ) -> str:
        """Take a snapshot; tried again for five minutes while the one before it has not reached the backend.

        :param consistent: the caller saw to it that the file systems are at rest.
        :param automatic: the cluster's retention may remove it, unless it is sticky.
        :returns: its guid.
        :raises NotFound: if there is no such vDisk. :raises NotYet: if five minutes were not enough.
        """
        body = {"name": label, "consistent": consistent, "automatic": automatic, "sticky": sticky}
        guid = self._when_in_backend(lambda: self._tasks.run(f"vdisks/{segment(vdisk_guid)}/create_snapshot/", body))
        if not isinstance(guid, str):
            raise UnexpectedAnswer(where="create_snapshot/", reason="the guid of the snapshot was expected")
        return guid

    def delete(self, vdisk_guid: str, snapshot_guid: str) -> None:
        """Remove a snapshot, the newest or any other.

        :raises NotFound: if the vDisk or the snapshot does not exist.
        :raises HasClones: if something was cloned from it and the cluster refuses for that.
        """
        try:
            self._tasks.run(f"vdisks/{segment(vdisk_guid)}/remove_snapshot/", {"snapshot_id": snapshot_guid})
        except TaskFailed as error:
            if error.description != "0":
                raise
            # Later Open vStorage releases stumble over the list of clones and say only its first key.
            raise HasClones(description=f"snapshot {snapshot_guid} has clones", task_id=error.task_id) from error

    def create_group(
        self, vpool_guid: str, vdisk_guids: Sequence[str], label: str, atomic: bool = True
    ) -> dict[str, str]:
        """Take a snapshot of each of several vDisks of one vPool: of all or of none.

        :param atomic: all of one instant; otherwise one shortly after the other.
        :returns: the snapshots' guids by vDisk guid.
        :raises NotSupported: if the cluster cannot take snapshots of one instant.
        :raises Refused: the first vDisk's reason if one of them failed; the others' snapshots are removed then.
        """
        body: dict[str, Any] = {"vdisk_guids": list(vdisk_guids), "name": label}
        if atomic:
            self._caller.require("atomic_group_snapshots", "snapshots would not be of one instant")
            body["atomic"] = True
        elif not self._caller.features():
            # Without it the cluster notes a number, by which its rollback cannot find the snapshot.
            body["timestamp"] = str(int(time.time()))
        return self._when_in_backend(lambda: self._group(vpool_guid, body))

    def _group(self, vpool_guid: str, body: Mapping[str, Any]) -> dict[str, str]:
        path = f"vpools/{segment(vpool_guid)}/create_snapshots/"
        result = mapping(self._tasks.run(path, body), path)
        done: dict[str, str] = {}
        failed: list[Refused] = []
        for vdisk_guid in body["vdisk_guids"]:
            entry = result.get(vdisk_guid)
            if not isinstance(entry, list) or len(entry) != 2:
                raise UnexpectedAnswer(where=path, reason=f"no result for vDisk {vdisk_guid}")
            if entry[0]:
                done[vdisk_guid] = str(entry[1])
            else:
                failed.append(from_task("create_snapshots", entry[1]))
        if failed:
            self._remove_all(done)
            raise failed[0]
        return done

    def _remove_all(self, snapshots: Mapping[str, str]) -> None:
        for vdisk_guid, snapshot_guid in snapshots.items():
            try:
                self.delete(vdisk_guid, snapshot_guid)
            except OpenvStorageError as error:
                LOG.warning(
                    "Snapshot %s of vDisk %s, of a failed group, is left over: %s", snapshot_guid, vdisk_guid, error
                )

    def _when_in_backend(self, take: Callable[[], _T]) -> _T:
        """Run ``take`` until it is not refused for data on its way to the backend. Each run is a call of its own."""
        clock = self._caller.clock
        deadline = clock.monotonic() + _BACKEND_SECONDS
        for pause in growing(0.2, 1.6, 5.0):
            try:
                return take()
            except NotYet:
                if clock.monotonic() + pause > deadline:
                    raise
            clock.sleep(pause)
        raise AssertionError("growing() has no end")
