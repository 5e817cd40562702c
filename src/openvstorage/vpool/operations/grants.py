"""Grant and revoke: who may open a vDisk, and the certainty that somebody no longer can."""

from __future__ import annotations

import hashlib
import time
from typing import Any

from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.export import Export, Grant, GrantMode, GrantState
from openvstorage.vpool.model.vdisk import Snapshot, VDisk
from openvstorage.vpool.operations import admission, lookups, placement, serving
from openvstorage.vpool.operations.errors import GrantEnding, GrantRefused, Refused
from openvstorage.vpool.operations.operation import Operation, Step


class CreateGrant(Operation):
    """Args: vdisk_guid, snapshot_guid, client, consumer, mode, shared, deadline_seconds. Result: the grant with its
    location.

    All writable grants of a vDisk have the same consumer, which allows a live migration and nothing else, unless each
    of them was asked for as shared. Asking again for the same gives the same grant.
    """

    type = "grant"
    steps = (Step("serve"),)

    async def begin(self, session: AsyncSession) -> None:
        vdisk = await lookups.ready_vdisk(session, self.vdisk)
        snapshot = self.args.get("snapshot_guid")
        if snapshot:
            await lookups.ready_snapshot(session, vdisk.guid, snapshot)
        mode = GrantMode(self.args["mode"])
        if mode is GrantMode.READ_WRITE:
            await self._require_writable(session, vdisk)
            vdisk.written = True
        writable = mode is GrantMode.READ_WRITE
        export = await placement.reserve(self.context, session, vdisk, writable=writable, snapshot_guid=snapshot)
        grant = await self._find(session) or self._new(session, export.guid)
        seconds = self.args.get("deadline_seconds")
        grant.deadline = time.time() + float(seconds) if seconds else None
        if grant.state == GrantState.REVOKING:
            raise GrantEnding()
        self.args |= {"grant_guid": grant.guid, "fresh": grant.state == GrantState.GRANTING}
        self.args |= {"export_guid": export.guid, "served_before": grant.export_guid}
        grant.export_guid = export.guid
        await session.flush()

    async def _require_writable(self, session: AsyncSession, vdisk: VDisk) -> None:
        if self.args.get("snapshot_guid"):
            raise Refused("a snapshot can only be opened read-only: clone it to write")
        await lookups.ready_vdisk(session, vdisk.guid, writable=True)
        others = list(
            await session.scalars(
                select(Grant).where(
                    Grant.vdisk_guid == vdisk.guid,
                    Grant.mode == GrantMode.READ_WRITE,
                    Grant.identity != self._identity(),
                )
            )
        )
        shared = bool(self.args.get("shared")) and (vdisk.shared or not others)
        for other in others:
            if other.consumer != self.args["consumer"] and not shared:
                raise GrantRefused(vdisk=vdisk.name, holder=f"{other.consumer} on {other.client}")
        vdisk.shared = shared

    def _identity(self) -> str:
        parts = [self.args.get("snapshot_guid") or "", *(str(self.args[key]) for key in ("client", "consumer", "mode"))]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    async def _find(self, session: AsyncSession) -> Grant | None:
        return await session.scalar(
            select(Grant).where(Grant.vdisk_guid == self.vdisk, Grant.identity == self._identity())
        )

    def _new(self, session: AsyncSession, export_guid: str) -> Grant:
        grant = Grant(
            guid=new_guid(),
            vdisk_guid=self.vdisk,
            snapshot_guid=self.args.get("snapshot_guid") or None,
            client=self.args["client"],
            certificate_name=admission.certificate_name(self.context, self.args["client"]),
            consumer=self.args["consumer"],
            mode=self.args["mode"],
            identity=self._identity(),
            export_guid=export_guid,
            export_name=placement.new_name(self.vdisk),
            state=GrantState.GRANTING,
            created_at=time.time(),
        )
        session.add(grant)
        return grant

    async def serve(self) -> None:
        """Have a daemon that serves the grant. One that served it before, as an older version did, does so no more."""
        export, before = self.args.get("export_guid"), self.args.get("served_before")
        if export is None:  # an older version began this
            await serving.open_exports(self.context, self.vdisk)
            return
        if before is not None and before != export:
            await serving.open_for(self.context, before)
        await serving.open_for(self.context, export)

    async def finish(self, session: AsyncSession) -> Any:
        grant = await session.get_one(Grant, self.args["grant_guid"])
        grant.state = GrantState.GRANTED
        return await describe_grant(session, grant)

    async def abort(self, session: AsyncSession) -> None:
        if self.args["fresh"]:
            await session.execute(delete(Grant).where(Grant.guid == self.args["grant_guid"]))
        self.context.respawn(self.vdisk)  # or, if it was the first grant, gives the port back

    async def recover(self, phase: str) -> bool:
        """The asker still waits for the task: finish it."""
        return True


class RevokeGrant(Operation):
    """Args: grant_guid, vdisk_guid, expired. When it succeeds the client can not write any more.

    With ``expired`` a grant whose deadline has been renewed meanwhile is left alone.

    Revoking is committed first, so that nothing opens the export again, and is never taken back.
    """

    type = "revoke"
    frees = True
    steps = (Step("fence"), Step("close"))
    forward = True

    async def begin(self, session: AsyncSession) -> None:
        grant = await session.get(Grant, self.args["grant_guid"])
        if grant is None or (self.args.get("expired") and not _expired(grant)):
            return
        self.args |= {"export_name": grant.export_name, "certificate_name": grant.certificate_name}
        self.args["export_guid"] = grant.export_guid
        grant.state = GrantState.REVOKING
        await session.flush()

    def skips(self, step: Step) -> bool:
        return "export_name" not in self.args

    async def fence(self) -> None:
        """Drop the client; if that can not be shown, kill the daemon.

        :raises NotFenced: not even that.
        """
        # An operation that an older version began does not say at which export, or whose certificate.
        export = self.args.get("export_guid") or self.vdisk
        await serving.drop(self.context, export, self.args["export_name"], self.args.get("certificate_name"))

    async def close(self) -> None:
        """Stop the daemon after its last grant, or have the others served if it had to be killed."""
        await serving.close_if_unused(self.context, self.vdisk)

    async def finish(self, session: AsyncSession) -> Any:
        if "export_name" in self.args:
            await session.execute(delete(Grant).where(Grant.guid == self.args["grant_guid"]))

    async def after(self) -> None:
        await serving.close_unread(self.context, self.vdisk)
        self.context.tidy()


class Respawn(Operation):
    """Args: vdisk_guid. Daemons with the exports of all grants, after one died or an operation failed; none, and no
    port, for what no grant is left of."""

    type = "respawn"
    frees = True
    steps = (Step("serve"),)

    async def begin(self, session: AsyncSession) -> None:
        vdisk = await session.get(VDisk, self.vdisk)
        grants = await serving.grants_of(session, self.vdisk) if vdisk is not None else []
        self.args["needed"] = any(grant.state in serving.SERVED for grant in grants)

    def skips(self, step: Step) -> bool:
        return not self.args["needed"]

    async def serve(self) -> None:
        """Start what is missing and open the exports."""
        await serving.open_exports(self.context, self.vdisk)

    async def after(self) -> None:
        await serving.close_if_unused(self.context, self.vdisk)
        await serving.close_unread(self.context, self.vdisk)


def _expired(grant: Grant) -> bool:
    return grant.deadline is not None and grant.deadline < time.time()


async def describe_grant(session: AsyncSession, grant: Grant) -> dict[str, Any]:
    """:returns: the grant as clients see it, with where to connect to."""
    export = await session.get(Export, grant.export_guid)
    vdisk = await session.get_one(VDisk, grant.vdisk_guid)
    size = vdisk.size
    if grant.snapshot_guid is not None:
        size = (await session.get_one(Snapshot, grant.snapshot_guid)).size
    host, port = (export.address, export.port) if export is not None else (None, None)
    shown = f"[{host}]" if host is not None and ":" in host else host
    tls = grant.certificate_name is not None
    scheme = "nbds" if tls else "nbd"
    return {
        "guid": grant.guid,
        "vdisk_guid": grant.vdisk_guid,
        "snapshot_guid": grant.snapshot_guid,
        "client": grant.client,
        "certificate_name": grant.certificate_name,
        "consumer": grant.consumer,
        "mode": grant.mode,
        "state": grant.state,
        "export_name": grant.export_name,
        "host": host,
        "port": port,
        "tls": tls,
        "size": size,
        "deadline": grant.deadline,
        "cut_off_at": grant.cut_off_at,
        "uri": f"{scheme}://{shown}:{port}/{grant.export_name}" if host is not None else None,
    }
