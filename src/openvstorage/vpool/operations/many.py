"""Tasks that are several operations: group snapshots one by one, and removing many snapshots.

Each part is an operation of its own in the journal, with its own result; the task succeeds even if parts fail, as in
Open vStorage.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.operations.errors import text_of
from openvstorage.vpool.operations.group import CreateGroupSnapshot
from openvstorage.vpool.operations.operation import Operation
from openvstorage.vpool.operations.snapshot import CreateSnapshot, DeleteSnapshot


class _Several(Operation):
    """Runs its parts before its own (empty) transaction."""

    def locks(self) -> tuple[str, ...]:
        return ()

    async def begin(self, session: AsyncSession) -> None:
        """The parts have run; only the task's result is left to be recorded."""

    async def _part(self, operation: Operation, success: Any) -> list[Any]:
        try:
            result = await self.context.journal.run(operation)
        except Exception as error:  # noqa: BLE001 - each part has its own verdict in the result
            return [False, text_of(error)]
        return [True, result if success is None else success]

    async def finish(self, session: AsyncSession) -> Any:
        return self.args["result"]


class CreateSnapshots(_Several):
    """Args: vdisk_guids, label, consistent, automatic, sticky, atomic.

    Result: {vdisk_guid: [true, guid] | [false, text]}.
    """

    type = "create_snapshots"

    async def prepare(self) -> None:
        request = {key: self.args.get(key) for key in ("label", "consistent", "automatic", "sticky")}
        guids: Sequence[str] = self.args["vdisk_guids"]
        if self.args.get("atomic"):
            group = CreateGroupSnapshot(self.context, {"vdisk_guids": list(guids), **request})
            self.args["result"] = await self.context.journal.run(group)
            return
        self.args["result"] = {
            guid: await self._part(CreateSnapshot(self.context, {"vdisk_guid": guid, **request}), None)
            for guid in guids
        }


class DeleteSnapshots(_Several):
    """Args: mapping {vdisk_guid: snapshot_guid or [snapshot_guids]}. Result: in the form that was asked in."""

    type = "delete_snapshots"

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
        return await self._part(DeleteSnapshot(self.context, {"vdisk_guid": vdisk, "snapshot_guid": guid}), guid)
