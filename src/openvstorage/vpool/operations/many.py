"""Tasks that are several operations: snapshots of many vDisks one by one, and removing many snapshots.

Each part is an operation of its own in the journal, with its own result; the task succeeds even if parts fail, as in
Open vStorage.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.model.base import new_guid
from openvstorage.vpool.model.vdisk import Snapshot
from openvstorage.vpool.operations.errors import text_of
from openvstorage.vpool.operations.operation import Operation
from openvstorage.vpool.operations.snapshot import CreateSnapshot, DeleteSnapshot


class _Several(Operation):
    """Runs its parts before its own (empty) transaction.

    A restart in between runs the task again, so each part can tell that it was done before.
    """

    def locks(self) -> tuple[str, ...]:
        return ()

    async def begin(self, session: AsyncSession) -> None:
        """The parts have run; only the task's result is left to be recorded."""

    async def _part(self, operation: Operation, success: str) -> list[Any]:
        try:
            await self.context.journal.run(operation)
        except Exception as error:  # noqa: BLE001 - each part has its own verdict in the result
            return [False, text_of(error)]
        return [True, success]

    async def finish(self, session: AsyncSession) -> Any:
        return self.args["result"]


class CreateSnapshots(_Several):
    """Args: vdisk_guids, label, consistent, automatic, sticky.

    Result: {vdisk_guid: [true, guid] | [false, text]}.
    """

    type = "create_snapshots"

    @classmethod
    def accept(cls, args: dict[str, Any]) -> dict[str, Any]:
        return args | {"new_guids": {vdisk: new_guid() for vdisk in args["vdisk_guids"]}}

    async def prepare(self) -> None:
        self.args["result"] = {
            vdisk: await self._create(vdisk, snapshot) for vdisk, snapshot in self.args["new_guids"].items()
        }

    async def _create(self, vdisk: str, snapshot: str) -> list[Any]:
        async with self.context.db.read() as session:
            if await session.get(Snapshot, snapshot) is not None:
                return [True, snapshot]
        request = {key: self.args.get(key) for key in ("label", "consistent", "automatic", "sticky")}
        part = CreateSnapshot(self.context, {"vdisk_guid": vdisk, "new_guid": snapshot, **request})
        return await self._part(part, snapshot)


class DeleteSnapshots(_Several):
    """Args: mapping {vdisk_guid: snapshot_guid or [snapshot_guids]}. Result: in the form that was asked in."""

    type = "delete_snapshots"
    frees = True

    async def prepare(self) -> None:
        self.args["result"] = {}
        for vdisk, asked in self.args["mapping"].items():
            guids = asked if isinstance(asked, list) else [asked]
            results = {guid: await self._delete(vdisk, guid) for guid in guids}
            if not isinstance(asked, list):
                self.args["result"][vdisk] = results[asked]
                continue
            errors = [text for ok, text in results.values() if not ok]
            self.args["result"][vdisk] = {
                "success": not errors,
                "error": "; ".join(errors) or None,
                "results": results,
            }

    async def _delete(self, vdisk: str, guid: str) -> list[Any]:
        if self.args.get("resumed"):
            async with self.context.db.read() as session:
                if await session.get(Snapshot, guid) is None:
                    return [True, guid]
        return await self._part(DeleteSnapshot(self.context, {"vdisk_guid": vdisk, "snapshot_guid": guid}), guid)
