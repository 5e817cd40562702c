"""vDisks and their snapshots."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from openvstorage.vpool.model.base import Base, Bytes, Guid, GuidKey, new_guid

#: The most that one vDisk may have, in bytes (64 TiB).
MAX_SIZE = 64 * 1024**4


class State(StrEnum):
    """How far a vDisk or snapshot is: only ``READY`` ones are shown to clients."""

    CREATING = "creating"
    READY = "ready"


class VDisk(Base):
    """A virtual disk.

    :ivar size: bytes.
    :ivar devicename: absolute path in the vPool, unique in it (``/volume-x.raw``).
    :ivar volume_id: the identifier below the API; differs from the guid, as in Open vStorage.
    :ivar backend_ref: the backend's name for the bytes a writer changes; opaque here.
    :ivar written: whether anyone could write since ``backend_ref`` was made; False lets a snapshot cost nothing.
    :ivar durability: what survives a death, see :class:`contract.durability.Durability`; null for the pool's default.
    :ivar shared: whether all its writable grants were asked for as shared (multi-attach), and so others may be.
    :ivar owner_guid: the node that serves it; ``owner_epoch`` grows whenever a new daemon serves it.
    :ivar row_version: grows with every change of the row; a stale writer is refused.
    """

    __tablename__ = "vdisk"
    __table_args__ = (UniqueConstraint("vpool_guid", "devicename"),)

    guid: Mapped[GuidKey] = mapped_column(default=new_guid)
    vpool_guid: Mapped[Guid] = mapped_column(ForeignKey("vpool.guid"))
    name: Mapped[str] = mapped_column(String(255), index=True)
    description: Mapped[str | None] = mapped_column(Text)
    devicename: Mapped[str] = mapped_column(String(320))
    size: Mapped[Bytes]
    volume_id: Mapped[Guid] = mapped_column(default=new_guid, unique=True)
    state: Mapped[str] = mapped_column(String(16), default=State.CREATING)
    is_vtemplate: Mapped[bool] = mapped_column(default=False)
    parent_vdisk_guid: Mapped[Guid | None] = mapped_column(ForeignKey("vdisk.guid", ondelete="SET NULL"), index=True)
    parent_snapshot_guid: Mapped[Guid | None] = mapped_column(
        ForeignKey("snapshot.guid", ondelete="SET NULL", use_alter=True), index=True
    )
    backend_ref: Mapped[str | None] = mapped_column(String(64), index=True)
    written: Mapped[bool] = mapped_column(default=False)
    durability: Mapped[str | None] = mapped_column(String(16))
    shared: Mapped[bool] = mapped_column(default=False)
    owner_guid: Mapped[Guid | None] = mapped_column(ForeignKey("storagerouter.guid"), index=True)
    owner_epoch: Mapped[int] = mapped_column(default=0)
    row_version: Mapped[int] = mapped_column(default=1)
    qos: Mapped[dict[str, Any]] = mapped_column(default=dict)
    config: Mapped[dict[str, Any]] = mapped_column(default=dict)
    metadata_: Mapped[dict[str, Any]] = mapped_column("metadata", default=dict)
    pagecache_ratio: Mapped[float] = mapped_column(default=1.0)
    cache_quota: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    cinder_id: Mapped[str | None] = mapped_column(String(64))
    has_manual_dtl: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[float]

    __mapper_args__ = {"version_id_col": row_version}  # noqa: RUF012 - SQLAlchemy's documented form


class Snapshot(Base):
    """A named instant of a vDisk.

    :ivar ordinal: position among the snapshots of its vDisk, oldest first; two can share a second.
    :ivar timestamp: unix time in whole seconds.
    :ivar for_clone: made on the way to a clone, without a user's asking; goes with the last such clone.
    """

    __tablename__ = "snapshot"
    __table_args__ = (UniqueConstraint("vdisk_guid", "ordinal"),)

    guid: Mapped[GuidKey] = mapped_column(default=new_guid)
    vdisk_guid: Mapped[Guid] = mapped_column(ForeignKey("vdisk.guid", ondelete="CASCADE"))
    ordinal: Mapped[int]
    label: Mapped[str] = mapped_column(Text, default="")
    timestamp: Mapped[Bytes]
    size: Mapped[Bytes]
    state: Mapped[str] = mapped_column(String(16), default=State.CREATING)
    is_consistent: Mapped[bool] = mapped_column(default=False)
    is_automatic: Mapped[bool] = mapped_column(default=False)
    is_sticky: Mapped[bool] = mapped_column(default=False)
    for_clone: Mapped[bool] = mapped_column(default=False)
    backend_ref: Mapped[str | None] = mapped_column(String(64), index=True)
