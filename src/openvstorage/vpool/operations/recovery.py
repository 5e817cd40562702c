"""What happens between the start of the service and its first answer.

Living daemons of an earlier process are adopted, begun operations are finished or taken back, and files that nobody
knows are set aside. Only then are clients let in. Dead daemons of granted vDisks are started again at the same time.
"""

from __future__ import annotations

import logging

from sqlalchemy import exists, select

from openvstorage.vpool.exports.errors import DaemonGone, NotOurs
from openvstorage.vpool.exports.identity import Identity
from openvstorage.vpool.model.export import Export
from openvstorage.vpool.model.vdisk import Snapshot, VDisk
from openvstorage.vpool.operations import admission, serving
from openvstorage.vpool.operations.context import Context
from openvstorage.vpool.operations.create import drop_unused_clone_snapshot
from openvstorage.vpool.operations.housekeeping import Housekeeping
from openvstorage.vpool.operations.merge import forget_removed
from openvstorage.vpool.operations.snapshot import writes_to
from openvstorage.vpool.operations.tasks import Tasks

log = logging.getLogger(__name__)


async def recover(context: Context, tasks: Tasks, housekeeping: Housekeeping) -> None:
    """Bring model, files and daemons together. Blocks (awaits) until it is done.

    :raises NotOurs: a daemon can neither be adopted nor killed.
    :raises BackendError: a tool of an earlier service can not be ended.
    """
    await context.backend.end_leftovers()
    await admission.note_certificates(context)
    await adopt_daemons(context)
    await context.journal.recover()
    await replace_strange_daemons(context)
    context.fleet.clear_run_dir()
    await context.backend.seal_all()
    await drop_orphaned_clone_snapshots(context)
    await forget_removed(context)
    for place in await context.backend.set_unknown_aside():
        log.warning("a file that the model does not know was set aside: %s", place)
    async with context.db.read() as session:
        exports = list(await session.scalars(select(Export)))
        known = {*await session.scalars(select(VDisk.guid)), *(export.guid for export in exports)}
    context.fleet.drop_logs_but(known)
    for vdisk in {export.vdisk_guid: None for export in exports}:
        housekeeping.respawn(vdisk)
    housekeeping.allow_respawns()
    await tasks.resume()


async def adopt_daemons(context: Context) -> None:
    """Adopt what serves an export; stop what serves nothing, such as the helper of a merge that was cut off.

    What was started for an export and can not be adopted is killed: it may have clients, and from here on everybody
    takes it for dead.

    :raises NotOurs: it does not die.
    """
    async with context.db.read() as session:
        exports = {export.guid: export for export in await session.scalars(select(Export))}
    for left in await context.fleet.left_behind():
        guid, epoch, identity = left.vdisk, left.epoch, left.identity
        export = exports.get(guid)
        ours = export is not None and export.epoch == epoch
        vdisk = guid if export is None else export.vdisk_guid
        try:
            await context.fleet.adopt(guid, vdisk=vdisk, epoch=epoch, identity=identity, serves=ours)
        except (NotOurs, DaemonGone) as error:
            log.info("the daemon of vDisk %s is not adopted: %s", vdisk, error)
            continue
        if export is None or not ours:
            log.info("a storage daemon that serves nobody (pid %d) is stopped", identity.pid)
            await context.fleet.stop(guid)
        else:
            await serving.record_identity(context, guid, identity)
    for guid, export in exports.items():
        recorded = Identity(export.pid or 0, export.start_time or 0, export.boot_id or "")
        if context.fleet.get(guid) is None and recorded.alive():
            log.error("a daemon of vDisk %s (pid %d) lives but can not be adopted: killed", guid, recorded.pid)
            await context.fleet.end_process(export.vdisk_guid, recorded)


async def replace_strange_daemons(context: Context) -> None:
    """Replace adopted daemons that write to another layer than the model says, such as under an older database."""
    for guid, daemon in context.fleet.serving().items():
        if not admission.fits(context, daemon):
            await serving.replace_daemon(context, guid, "since this start TLS is wanted, or is not any more")
            continue
        async with context.db.read() as session:
            vdisk = await session.get(VDisk, guid)
        if vdisk is None or vdisk.backend_ref is None or not context.journal.is_settled((guid,)):
            continue
        if not await writes_to(context, guid, vdisk.backend_ref) and context.fleet.get(guid) is not None:
            await serving.replace_daemon(context, guid, "it writes to another layer than the model says")


async def drop_orphaned_clone_snapshots(context: Context) -> None:
    """Remove snapshots that were taken for a clone which then never came to be."""
    cloned = exists().where(VDisk.parent_snapshot_guid == Snapshot.guid)
    async with context.db.write() as session:
        for guid in list(await session.scalars(select(Snapshot.guid).where(Snapshot.for_clone, ~cloned))):
            await drop_unused_clone_snapshot(context, session, guid)
