"""Snapshots of several vDisks, of one instant or one by one."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.exports.daemon import StorageDaemon
from openvstorage.vpool.exports.errors import ExportsError
from openvstorage.vpool.exports.limits import Limits
from openvstorage.vpool.model.vdisk import VDisk
from openvstorage.vpool.operations import lookups, serving
from openvstorage.vpool.operations.errors import GroupVoid
from openvstorage.vpool.operations.merge import shorten
from openvstorage.vpool.operations.operation import Operation, Step
from openvstorage.vpool.operations.snapshot import (
    finish_snapshot,
    hand_over,
    plan_snapshot,
    switch_head,
    take_back,
    writes_to,
)

#: The hold ends by itself after about ten seconds; the switches must be done well inside it.
HOLD_BUDGET_SECONDS = 5.0


class CreateGroupSnapshot(Operation):
    """Args: vdisk_guids, label, consistent, automatic, sticky. Result: {vdisk_guid: [true, snapshot_guid]}.

    All daemons are held so that nothing a client sends is served, then each is switched, then all go on. An
    interruption before all are switched voids the name, because the instant is gone; the new layers that became
    heads stay heads and are merged later.
    """

    type = "group_snapshot"
    steps = (Step("make"), Step("switch", commit=True), Step("lift", commit=True))

    def locks(self) -> tuple[str, ...]:
        return tuple(self.args["vdisk_guids"])

    async def prepare(self) -> None:
        await self.context.backend.require_room()
        for guid in self.args["vdisk_guids"]:
            await shorten(self.context, guid)

    async def begin(self, session: AsyncSession) -> None:
        self.args["plans"] = {}
        for guid in self.args["vdisk_guids"]:
            vdisk = await lookups.ready_vdisk(session, guid, writable=True)
            self.args["plans"][guid] = await plan_snapshot(self.context, session, vdisk, self.args)

    def _moving(self) -> dict[str, dict[str, Any]]:
        return {guid: plan for guid, plan in self.args["plans"].items() if plan["new_ref"] is not None}

    def _daemons(self) -> dict[str, StorageDaemon]:
        found = {guid: self.context.fleet.get(guid) for guid in self._moving()}
        return {guid: daemon for guid, daemon in found.items() if daemon is not None}

    def skips(self, step: Step) -> bool:
        return not self._moving()

    async def make(self) -> None:
        """Make all new layers; what the old ones hold becomes durable."""
        for plan in self._moving().values():
            await self.context.backend.make(plan["new_ref"])
            await self.context.backend.settle(plan["old_ref"])

    async def switch(self) -> None:
        """Hold everybody, switch everybody.

        :raises GroupVoid: not all of them could be switched while all were held.
        """
        try:
            async with asyncio.timeout(HOLD_BUDGET_SECONDS):
                await self._switch_held()
        except TimeoutError as error:
            raise GroupVoid(reason=f"it took longer than {HOLD_BUDGET_SECONDS:.0f} s") from error
        except ExportsError as error:
            raise GroupVoid(reason=str(error)) from error

    async def _switch_held(self) -> None:
        daemons = self._daemons()
        # all of them to their end: a hold that goes on while others are given up would never be lifted
        for failed in await asyncio.gather(*(daemon.hold() for daemon in daemons.values()), return_exceptions=True):
            if isinstance(failed, BaseException):
                raise failed
        for guid in daemons:
            plan = self.args["plans"][guid]
            await switch_head(self.context, guid, plan["old_ref"], plan["new_ref"])
            if not await writes_to(self.context, guid, plan["new_ref"]):
                raise GroupVoid(reason="a storage daemon died meanwhile")

    async def lift(self) -> None:
        """Let everybody go on. All are switched, so from here it only goes forward."""
        await self._release()
        for guid, plan in self._moving().items():
            await hand_over(self.context, guid, plan["old_ref"])

    async def _release(self) -> None:
        for guid, daemon in self._daemons().items():
            async with self.context.db.read() as session:
                qos = (await session.get_one(VDisk, guid)).qos
            try:
                await daemon.release(Limits(**qos))
            except ExportsError as error:
                await serving.replace_daemon(self.context, guid, f"it can not be released: {error}")

    async def finish(self, session: AsyncSession) -> Any:
        for guid, plan in self.args["plans"].items():
            await finish_snapshot(self.context, session, guid, plan)
        return {guid: [True, plan["snapshot_guid"]] for guid, plan in self.args["plans"].items()}

    async def recover(self, phase: str) -> bool:
        return phase == "lift"

    async def give_up(self) -> None:
        """Find out which new layers may hold writes: those a daemon writes to, and those whose daemon is dead."""
        if not self.phase:
            return
        moving = self._moving()
        heads = [guid for guid, plan in moving.items() if not await writes_to(self.context, guid, plan["old_ref"])]
        self.args["heads"] = heads
        await self._release()
        for guid in heads:
            await hand_over(self.context, guid, moving[guid]["old_ref"])

    async def abort(self, session: AsyncSession) -> None:
        """Void the name. Where the new layer is the head already it stays; elsewhere it goes."""
        heads = self.args.get("heads", [])
        for guid, plan in self.args["plans"].items():
            await take_back(self.context, session, guid, plan, moved=guid in heads)

    async def after(self) -> None:
        for plan in self._moving().values():
            await self.context.backend.seal(plan["old_ref"])
        self.context.tidy()

    async def after_failure(self) -> None:
        for guid in self.args.get("heads", []):
            await self.context.backend.seal(self.args["plans"][guid]["old_ref"])
