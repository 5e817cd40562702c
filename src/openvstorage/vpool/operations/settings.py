"""Settings of a vDisk: quality of service, configuration parameters, vTemplates, and where it is served."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from openvstorage.vpool.exports.errors import ExportsError
from openvstorage.vpool.exports.limits import Limits
from openvstorage.vpool.model.vdisk import VDisk
from openvstorage.vpool.operations import lookups, serving
from openvstorage.vpool.operations.errors import HasClones, Refused, VDiskRunning
from openvstorage.vpool.operations.operation import Operation, Step

#: QEMU refuses larger ones.
LARGEST_LIMIT = 10**15
LIMITS = ("iops_total", "iops_read", "iops_write", "bps_total", "bps_read", "bps_write")
DEFAULT_CONFIG: dict[str, Any] = {
    "sco_size": 64,
    "dtl_mode": "no_sync",
    "dtl_target": [],
    "write_buffer": 512,
}
GIB = 1024**3
IGNORED_CONFIG = {"dedupe_mode", "cache_strategy", "readcache_limit", "metadata_cache_size"}


class SetQos(Operation):
    """Args: vdisk_guid, qos (see LIMITS; 0 or absent: unlimited). Takes effect at once, on a vDisk in use too."""

    type = "set_qos"
    steps = (Step("apply"),)
    forward = True

    async def begin(self, session: AsyncSession) -> None:
        vdisk = await lookups.ready_vdisk(session, self.vdisk)
        unknown = set(self.args["qos"]) - set(LIMITS)
        if unknown:
            raise Refused(f"unknown limits {', '.join(sorted(unknown))}: there are {', '.join(LIMITS)}")
        values = {key: self.args["qos"].get(key) or 0 for key in LIMITS}
        if any(type(value) is not int or not 0 <= value <= LARGEST_LIMIT for value in values.values()):
            raise Refused(
                f"a limit is a whole number of requests or bytes per second up to {LARGEST_LIMIT}, 0 for none"
            )
        for kind in ("iops", "bps"):
            if values[f"{kind}_total"] and (values[f"{kind}_read"] or values[f"{kind}_write"]):
                raise Refused(f"{kind}_total excludes {kind}_read and {kind}_write: give one or the others")
        vdisk.qos = {key: value for key, value in values.items() if value}
        self.args["qos"] = vdisk.qos

    def skips(self, step: Step) -> bool:
        return self.context.fleet.get(self.vdisk) is None

    async def apply(self) -> None:
        """Change the limits of the running daemon to what the model says now; one that is started has them at once."""
        daemon = self.context.fleet.get(self.vdisk)
        if daemon is None:
            return
        async with self.context.db.read() as session:
            vdisk = await session.get(VDisk, self.vdisk)
        if vdisk is not None:
            try:
                await daemon.set_limits(Limits(**vdisk.qos))
            except ExportsError as error:
                await serving.replace_daemon(self.context, self.vdisk, f"it does not take its limits: {error}")


class GetConfig(Operation):
    """Args: vdisk_guid. Result: the configuration parameters, with defaults where nothing was set."""

    type = "get_config"

    async def begin(self, session: AsyncSession) -> None:
        vdisk = await lookups.ready_vdisk(session, self.vdisk)
        self.args["config"] = (
            DEFAULT_CONFIG
            | vdisk.config
            | {
                "pagecache_ratio": vdisk.pagecache_ratio,
                "cache_quota": vdisk.cache_quota,
            }
        )

    async def finish(self, session: AsyncSession) -> Any:
        return self.args["config"]


class SetConfig(Operation):
    """Args: vdisk_guid, params (any subset). They are kept and shown; this backend has no write buffer to tune."""

    type = "set_config"

    async def begin(self, session: AsyncSession) -> None:
        vdisk = await lookups.ready_vdisk(session, self.vdisk, writable=True)
        params = {key: value for key, value in self.args["params"].items() if key not in IGNORED_CONFIG}
        _check_config(params)
        if "pagecache_ratio" in params:
            vdisk.pagecache_ratio = float(params.pop("pagecache_ratio"))
        if "cache_quota" in params:
            vdisk.cache_quota = params.pop("cache_quota")
        if params.get("dtl_target") is not None and "dtl_mode" not in params:
            params.pop("dtl_target")  # as Open vStorage: only looked at together with dtl_mode
        vdisk.config = vdisk.config | params
        vdisk.has_manual_dtl = vdisk.has_manual_dtl or "dtl_mode" in params


class SetAsTemplate(Operation):
    """Args: vdisk_guid. One way: a vTemplate is never written to again. A second time is a success without effect."""

    type = "set_as_template"

    async def begin(self, session: AsyncSession) -> None:
        vdisk = await lookups.ready_vdisk(session, self.vdisk)
        if vdisk.is_vtemplate:
            return
        await lookups.require_unused(session, vdisk)
        if vdisk.parent_vdisk_guid is not None:
            raise Refused(f"vDisk {vdisk.name} is a clone and can not become a vTemplate")
        if await lookups.clones_of_vdisk(session, vdisk.guid):
            raise HasClones(vdisk=vdisk.name)
        vdisk.is_vtemplate = True
        if vdisk.backend_ref is not None:
            await self.context.backend.freeze(session, vdisk.backend_ref)
            self.args["frozen_ref"] = vdisk.backend_ref

    async def after(self) -> None:
        if self.args.get("frozen_ref"):
            await self.context.backend.seal(self.args["frozen_ref"])


class MoveVDisk(Operation):
    """Args: vdisk_guid, storagerouter_guid. A local directory is served by its own node only."""

    type = "move"

    async def begin(self, session: AsyncSession) -> None:
        vdisk = await lookups.ready_vdisk(session, self.vdisk)
        if self.args["storagerouter_guid"] != vdisk.owner_guid:
            raise Refused(f"Failed to move vDisk {vdisk.name}: its vPool is a directory of one StorageRouter")


class SetDurability(Operation):
    """Args: vdisk_guid, durability (None: the pool's default). A vDisk in use changes at once; its
    clients reconnect."""

    type = "set_durability"
    steps = (Step("apply"),)
    forward = True

    async def begin(self, session: AsyncSession) -> None:
        vdisk = await lookups.ready_vdisk(session, self.vdisk, writable=True)
        asked = self.args["durability"]
        vdisk.durability = None if asked is None else lookups.require_durability(asked)

    async def apply(self) -> None:
        """Replace a daemon that treats writes the other way; it writes to the disk all that it holds."""
        if await serving.is_outdated(self.context, self.vdisk):
            await serving.end_daemon(self.context, self.vdisk)
            await serving.open_exports(self.context, self.vdisk)


class RestartVDisk(Operation):
    """Args: vdisk_guid, force, exports (guids; None: all). New daemons for a vDisk in use; its clients reconnect."""

    type = "restart"
    steps = (Step("quit"), Step("serve"))

    async def begin(self, session: AsyncSession) -> None:
        vdisk = await lookups.ready_vdisk(session, self.vdisk)
        running = await serving.is_running(self.context, session, self.vdisk)
        if running and not self.args.get("force"):
            raise VDiskRunning(vdisk=vdisk.name)
        self.args["running"] = running

    def skips(self, step: Step) -> bool:
        return not self.args["running"]

    async def quit(self) -> None:
        """End the daemons; clients wait in the backlogs of their listening sockets."""
        await serving.end_daemons(self.context, self.vdisk, self.args.get("exports"))

    async def serve(self) -> None:
        """Start the next ones."""
        await serving.open_exports(self.context, self.vdisk)

    async def abort(self, session: AsyncSession) -> None:
        self.context.respawn(self.vdisk)  # the task has failed, the clients still want a daemon


class SyncVPool(Operation):
    """No args that matter. The model is the truth here, so there is nothing to bring in line."""

    type = "sync"

    def locks(self) -> tuple[str, ...]:
        return ()


def _check_config(params: dict[str, Any]) -> None:
    allowed = {*DEFAULT_CONFIG, "pagecache_ratio", "cache_quota"}
    unknown = set(params) - allowed
    if unknown:
        raise Refused(f"unknown parameters {', '.join(sorted(unknown))}: there are {', '.join(sorted(allowed))}")
    rules = {
        "dtl_mode": lambda value: value in ("no_sync", "a_sync", "sync"),
        "sco_size": lambda value: value in (4, 8, 16, 32, 64, 128),
        "dtl_target": lambda value: isinstance(value, list) and all(isinstance(item, str) for item in value),
        "write_buffer": lambda value: _is_number(value) and 128 <= value <= 10240,
        "pagecache_ratio": lambda value: _is_number(value) and 0 < value <= 1,
        "cache_quota": _is_quota,
    }
    for key, value in params.items():
        if not rules[key](value):
            raise Refused(f"{value!r} is not a value for {key}")
    if params.get("dtl_mode") == "no_sync" and params.get("dtl_target"):
        raise Refused("dtl_target must be empty with dtl_mode no_sync")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_quota(value: object) -> bool:
    if value is None:
        return True
    return isinstance(value, dict) and all(
        key in ("fragment", "block") and isinstance(size, int) and GIB // 10 <= size <= GIB * 1024
        for key, size in value.items()
    )
