"""Exports (a vDisk being served) and grants (who may open it)."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from openvstorage.vpool.model.base import Base, Bytes, Guid, GuidKey, new_guid


class Export(Base):
    """The storage daemon of a vDisk in use. The row, and with it the port, lives as long as a grant does.

    :ivar epoch: grows with every daemon started for the vDisk; the daemon carries it, so that none of another
        time is taken for this one.
    :ivar pid: with ``start_time`` (clock ticks since boot) and ``boot_id`` the identity of the process; null until
        one runs.
    """

    __tablename__ = "export"
    __table_args__ = (UniqueConstraint("address", "port"),)

    vdisk_guid: Mapped[GuidKey]
    node_guid: Mapped[Guid] = mapped_column(ForeignKey("storagerouter.guid"))
    address: Mapped[str] = mapped_column(String(64))
    port: Mapped[int]
    epoch: Mapped[int] = mapped_column(default=0)
    pid: Mapped[int | None]
    start_time: Mapped[Bytes | None]
    boot_id: Mapped[str | None] = mapped_column(String(36))


class GrantState(StrEnum):
    """Where a grant stands; only ``GRANTING`` and ``GRANTED`` ones are served again after a respawn."""

    GRANTING = "granting"
    GRANTED = "granted"
    REVOKING = "revoking"


class GrantMode(StrEnum):
    """What the holder may do."""

    READ_WRITE = "rw"
    READ_ONLY = "ro"


class Grant(Base):
    """Lets one client open one vDisk (or one snapshot of it, read-only) for one consumer.

    :ivar client: the host; ``certificate_name`` is what its certificate must say with TLS.
    :ivar consumer: what the host opens it for, such as an instance or a transfer; opaque.
    :ivar identity: the asker's view of sameness: asking again with the same one gives this grant.
    :ivar export_name: the NBD export, of this grant alone.
    :ivar deadline: unix time after which it is revoked; null for attachments.
    """

    __tablename__ = "grant"
    __table_args__ = (UniqueConstraint("vdisk_guid", "identity"),)

    guid: Mapped[GuidKey] = mapped_column(default=new_guid)
    vdisk_guid: Mapped[Guid] = mapped_column(ForeignKey("vdisk.guid", ondelete="CASCADE"))
    snapshot_guid: Mapped[Guid | None] = mapped_column(ForeignKey("snapshot.guid", ondelete="CASCADE"), index=True)
    client: Mapped[str] = mapped_column(String(255))
    certificate_name: Mapped[str | None] = mapped_column(String(255))
    consumer: Mapped[str] = mapped_column(String(255))
    mode: Mapped[str] = mapped_column(String(2))
    identity: Mapped[str] = mapped_column(String(64))
    export_name: Mapped[str] = mapped_column(String(128), unique=True)
    state: Mapped[str] = mapped_column(String(16), default=GrantState.GRANTING)
    deadline: Mapped[float | None] = mapped_column(index=True)
    created_at: Mapped[float]
