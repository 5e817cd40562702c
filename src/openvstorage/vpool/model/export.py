"""Exports (what is being served, and by which process) and grants (who may open it)."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import ForeignKey, String, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from openvstorage.vpool.model.base import Base, Bytes, Guid, GuidKey, new_guid


class ExportKind(StrEnum):
    """What an export serves. What is read only has a storage daemon of its own, because the list of hosts that a
    storage daemon lets in is about all that it serves.

    ``HEAD``: a vDisk, to those who may write. ``READER``: a vDisk, to those who may only read. ``SNAPSHOT``: one of its
    snapshots.
    """

    HEAD = "head"
    READER = "reader"
    SNAPSHOT = "snapshot"


class Export(Base):
    """A storage daemon that serves clients. The row, and with it the port, lives as long as a grant needs it.

    :ivar guid: the vDisk's for a head, the snapshot's for a snapshot, one of its own for a reader.
    :ivar source_name: of a reader: the name under which it opens the vDisk in the daemon that serves the head.
    :ivar epoch: grows with every daemon started for the vDisk; the daemon carries it, so that none of another
        time is taken for this one.
    :ivar pid: with ``start_time`` (clock ticks since boot) and ``boot_id`` the identity of the process; null until
        one runs.
    :ivar durability: how the daemon of this epoch treats writes; null for one that an older version started, which
        acknowledged before it wrote.
    :ivar unclean: a daemon of this epoch was started and did not end in order, as far as is known.
    """

    __tablename__ = "export"
    __table_args__ = (UniqueConstraint("address", "port"),)

    guid: Mapped[GuidKey]
    vdisk_guid: Mapped[Guid] = mapped_column(index=True)
    kind: Mapped[str] = mapped_column(String(16))
    source_name: Mapped[str | None] = mapped_column(String(128))
    node_guid: Mapped[Guid] = mapped_column(ForeignKey("storagerouter.guid"))
    address: Mapped[str] = mapped_column(String(64))
    port: Mapped[int]
    epoch: Mapped[int] = mapped_column(default=0)
    pid: Mapped[int | None]
    start_time: Mapped[Bytes | None]
    boot_id: Mapped[str | None] = mapped_column(String(36))
    durability: Mapped[str | None] = mapped_column(String(16))
    unclean: Mapped[bool] = mapped_column(default=False)


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

    :ivar export_guid: the export that serves it. One that an older version gave for reading stays at the head's until
        its consumer asks anew.
    :ivar client: the host; ``certificate_name`` is what its certificate must say with TLS.
    :ivar consumer: what the host opens it for, such as an instance or a transfer; opaque.
    :ivar identity: the asker's view of sameness: asking again with the same one gives this grant.
    :ivar export_name: the NBD export, of this grant alone.
    :ivar cut_off_at: unix time at which the export changed its name because acknowledged writes had been lost; null if
        that never happened. Who connected before then does not come back.
    :ivar deadline: unix time after which it is revoked; null for attachments.
    """

    __tablename__ = "grant"
    __table_args__ = (UniqueConstraint("vdisk_guid", "identity"),)

    guid: Mapped[GuidKey] = mapped_column(default=new_guid)
    vdisk_guid: Mapped[Guid] = mapped_column(ForeignKey("vdisk.guid", ondelete="CASCADE"))
    snapshot_guid: Mapped[Guid | None] = mapped_column(ForeignKey("snapshot.guid", ondelete="CASCADE"), index=True)
    export_guid: Mapped[Guid] = mapped_column(index=True)
    client: Mapped[str] = mapped_column(String(255))
    certificate_name: Mapped[str | None] = mapped_column(String(255))
    consumer: Mapped[str] = mapped_column(String(255))
    mode: Mapped[str] = mapped_column(String(2))
    identity: Mapped[str] = mapped_column(String(64))
    export_name: Mapped[str] = mapped_column(String(128), unique=True)
    cut_off_at: Mapped[float | None]
    state: Mapped[str] = mapped_column(String(16), default=GrantState.GRANTING)
    deadline: Mapped[float | None] = mapped_column(index=True)
    created_at: Mapped[float]
