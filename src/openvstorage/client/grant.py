"""Grants: who may open a vDisk, as what, and where. Only clusters with NBD have them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from openvstorage.client.caller import Caller
from openvstorage.client.errors import UnexpectedAnswer
from openvstorage.client.fields import flag, integer, mapping, optional_integer, optional_text, text
from openvstorage.client.names import segment
from openvstorage.client.page import objects, pages
from openvstorage.client.task import Tasks

__all__ = ["Grant", "Grants", "Mode"]

Mode = Literal["rw", "ro"]
_NO_GRANTS = "Open vStorage's edge cannot refuse anybody"


@dataclass(frozen=True, slots=True)
class Grant:
    """The right of one host to open one vDisk, or one snapshot of it, for one consumer.

    :ivar snapshot_guid: the snapshot that is served read-only, None for the vDisk itself.
    :ivar client: the host's name; with TLS the name of its certificate.
    :ivar certificate_name: the certificate name that the edge checks, None without TLS.
    :ivar consumer: what the host uses it for: an instance, a transfer.
    :ivar mode: ``rw`` or ``ro``.
    :ivar export_name: NBD export name.
    :ivar host: address of the edge. :ivar port: its TCP port. :ivar tls: whether the client must start TLS.
    :ivar size: bytes that the export offers.
    :ivar deadline: seconds since 1970 at which the grant ends on its own, None for never.
    :ivar uri: the same as an NBD URI.
    :ivar cut_off_at: seconds since 1970 at which the export got another name, because what serves the vDisk had died
        with acknowledged writes; None if that never happened.
    :ivar secret: with it the host asks where the grant is served (:mod:`openvstorage.client.resolve`); only known to
        whoever created the grant, else None.
    """

    guid: str
    vdisk_guid: str
    snapshot_guid: str | None
    client: str
    certificate_name: str | None
    consumer: str
    mode: str
    state: str
    export_name: str
    host: str
    port: int
    tls: bool
    size: int
    deadline: int | None
    uri: str
    secret: str | None = field(default=None, repr=False)
    cut_off_at: int | None = None

    @classmethod
    def from_api(cls, data: Mapping[str, Any]) -> Self:
        """Read the API's object; keys that are not known are ignored. :raises UnexpectedAnswer: if one is missing."""
        return cls(
            guid=text(data, "guid"),
            vdisk_guid=text(data, "vdisk_guid"),
            snapshot_guid=optional_text(data, "snapshot_guid"),
            client=text(data, "client"),
            certificate_name=optional_text(data, "certificate_name"),
            consumer=text(data, "consumer"),
            mode=text(data, "mode"),
            state=text(data, "state"),
            export_name=text(data, "export_name"),
            host=text(data, "host"),
            port=integer(data, "port"),
            tls=flag(data, "tls"),
            size=integer(data, "size"),
            deadline=optional_integer(data, "deadline"),
            uri=text(data, "uri"),
            secret=optional_text(data, "secret"),
            cut_off_at=optional_integer(data, "cut_off_at"),
        )


class Grants:
    """The grants of a cluster; thread-safe. All calls block, and raise NotSupported on a cluster without grants."""

    def __init__(self, caller: Caller, tasks: Tasks) -> None:
        self._caller = caller
        self._tasks = tasks

    def create(
        self,
        vdisk_guid: str,
        client: str,
        consumer: str,
        mode: Mode = "rw",
        snapshot_guid: str | None = None,
        deadline_seconds: int | None = None,
        shared: bool = False,
    ) -> Grant:
        """Let a host open a vDisk. Asking again for the same gives the same grant, with a new deadline.

        :param client: the host's name. :param consumer: what it uses it for, any text.
        :param snapshot_guid: serve this snapshot instead, read-only.
        :param deadline_seconds: after which the grant ends on its own; for transfers.
        :param shared: write beside other consumers that said so, too; for file systems and databases of clusters.
        :raises InUse: if another consumer holds a writable grant of the vDisk, and not both are shared.
        :raises NotFound: no such vDisk. :raises NotSupported: also if the cluster cannot share.
        """
        self._caller.require("grants", _NO_GRANTS)
        body = {
            "vdisk_guid": vdisk_guid,
            "client": client,
            "consumer": consumer,
            "mode": mode,
            "snapshot_guid": snapshot_guid,
            "deadline_seconds": deadline_seconds,
        }
        if shared:
            self._caller.require("shared_grants", "a vDisk has one writing consumer at a time")
            body["shared"] = True
        return Grant.from_api(mapping(self._tasks.run("grants/", body), "grants/"))

    def get(self, guid: str) -> Grant:
        """Give a grant. :raises NotFound: if there is none of that guid, for instance because it was revoked."""
        self._caller.require("grants", _NO_GRANTS)
        path = f"grants/{segment(guid)}/"
        return Grant.from_api(mapping(self._caller.get(path), path))

    def list(self, vdisk_guid: str) -> list[Grant]:
        """Give the grants of a vDisk and of its snapshots."""
        self._caller.require("grants", _NO_GRANTS)
        grants = [
            Grant.from_api(data)
            for data in objects(self._caller, "grants/", {"vdisk_guid": vdisk_guid, "contents": ""})
        ]
        if any(grant.vdisk_guid != vdisk_guid for grant in grants):
            raise UnexpectedAnswer(where="grants/", reason="grants of other vDisks came back")
        return grants

    def all(self) -> Iterator[Grant]:
        """Give the grants of all vDisks, a page at a time; those made or revoked meanwhile may be missing."""
        self._caller.require("grants", _NO_GRANTS)
        for data in pages(self._caller, "grants/", {"contents": "", "sort": "guid"}):
            yield Grant.from_api(data)

    def revoke(self, guid: str) -> None:
        """End a grant: when this returns, the host can no longer read or write through it.

        :raises NotFound: if there is no such grant (any more).
        """
        self._caller.require("grants", _NO_GRANTS)
        self._tasks.run(f"grants/{segment(guid)}/revoke/")
