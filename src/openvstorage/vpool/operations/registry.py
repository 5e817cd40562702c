"""Which class does what: by task kind for clients, by type for the journal."""

from __future__ import annotations

from openvstorage.vpool.operations.change import DeleteVDisk, ExtendVDisk, Rollback
from openvstorage.vpool.operations.create import CloneVDisk, CreateFromTemplate, CreateVDisk
from openvstorage.vpool.operations.grants import CreateGrant, Respawn, RevokeGrant
from openvstorage.vpool.operations.group import CreateGroupSnapshot
from openvstorage.vpool.operations.many import CreateSnapshots, DeleteSnapshots
from openvstorage.vpool.operations.merge import FoldFrozen, MergeIntoHead
from openvstorage.vpool.operations.operation import Operation
from openvstorage.vpool.operations.settings import (
    GetConfig,
    MoveVDisk,
    RestartVDisk,
    SetAsTemplate,
    SetConfig,
    SetDurability,
    SetQos,
    SyncVPool,
)
from openvstorage.vpool.operations.snapshot import CreateSnapshot, DeleteSnapshot, IsSynced


class DeleteTemplate(DeleteVDisk):
    """Args: vdisk_guid. Refused for what is not a vTemplate."""

    type = "delete_template"

    async def prepare(self) -> None:
        self.args["template_only"] = True
        await super().prepare()


#: Operations by task kind.
KINDS: dict[str, type[Operation]] = {
    "vdisk.create": CreateVDisk,
    "vdisk.clone": CloneVDisk,
    "vdisk.create_from_template": CreateFromTemplate,
    "vdisk.delete": DeleteVDisk,
    "vdisk.delete_template": DeleteTemplate,
    "vdisk.extend": ExtendVDisk,
    "vdisk.rollback": Rollback,
    "vdisk.set_as_template": SetAsTemplate,
    "vdisk.move": MoveVDisk,
    "vdisk.restart": RestartVDisk,
    "vdisk.get_config": GetConfig,
    "vdisk.set_config": SetConfig,
    "vdisk.set_qos": SetQos,
    "vdisk.set_durability": SetDurability,
    "snapshot.create": CreateSnapshot,
    "snapshot.delete": DeleteSnapshot,
    "snapshot.is_synced": IsSynced,
    "snapshot.create_group": CreateSnapshots,
    "snapshot.create_atomic_group": CreateGroupSnapshot,
    "snapshot.delete_many": DeleteSnapshots,
    "grant.create": CreateGrant,
    "grant.revoke": RevokeGrant,
    "vpool.sync": SyncVPool,
}

_INTERNAL: list[type[Operation]] = [Respawn, MergeIntoHead, FoldFrozen]

#: Operations by their type in the journal.
TYPES: dict[str, type[Operation]] = {operation.type: operation for operation in [*KINDS.values(), *_INTERNAL]}
