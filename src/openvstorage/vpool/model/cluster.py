"""The cluster: vPools, StorageRouters (nodes), StorageDrivers (a vPool's data service on a node) and settings."""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from openvstorage.vpool.model.base import Base, Guid, GuidKey, new_guid


class VPool(Base):
    """A pool of vDisks on one backend."""

    __tablename__ = "vpool"

    guid: Mapped[GuidKey] = mapped_column(default=new_guid)
    name: Mapped[str] = mapped_column(String(64), unique=True)
    description: Mapped[str | None] = mapped_column(Text)
    status: Mapped[str] = mapped_column(String(16), default="RUNNING")
    backend: Mapped[str] = mapped_column(String(16), default="layers")


class StorageRouter(Base):
    """A node that runs the service.

    :ivar ip: management address, one of the ``management_ips`` clients are given.
    """

    __tablename__ = "storagerouter"

    guid: Mapped[GuidKey] = mapped_column(default=new_guid)
    name: Mapped[str] = mapped_column(String(255), unique=True)
    description: Mapped[str | None] = mapped_column(Text)
    machine_id: Mapped[str] = mapped_column(String(64), unique=True)
    ip: Mapped[str] = mapped_column(String(64), unique=True)
    node_type: Mapped[str] = mapped_column(String(8), default="MASTER")
    last_heartbeat: Mapped[float | None]


class StorageDriver(Base):
    """A vPool's data service on a node.

    :ivar storage_ip: address that clients of the edge connect to.
    :ivar ports: ``management``, ``xmlrpc``, ``dtl`` and ``edge``, as Open vStorage lists them.
    """

    __tablename__ = "storagedriver"
    __table_args__ = (UniqueConstraint("vpool_guid", "storagerouter_guid"),)

    guid: Mapped[GuidKey] = mapped_column(default=new_guid)
    name: Mapped[str] = mapped_column(String(128))
    description: Mapped[str | None] = mapped_column(Text)
    vpool_guid: Mapped[Guid] = mapped_column(ForeignKey("vpool.guid"))
    storagerouter_guid: Mapped[Guid] = mapped_column(ForeignKey("storagerouter.guid"))
    storagedriver_id: Mapped[str] = mapped_column(String(128), unique=True)
    cluster_ip: Mapped[str] = mapped_column(String(64))
    storage_ip: Mapped[str] = mapped_column(String(64))
    ports: Mapped[dict[str, Any]]
    mountpoint: Mapped[str] = mapped_column(String(255))
    startup_counter: Mapped[int] = mapped_column(default=0)


class Setting(Base):
    """A named value of the whole pool, such as its identity and generation."""

    __tablename__ = "setting"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[Any] = mapped_column(JSON)
