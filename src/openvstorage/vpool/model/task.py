"""Tasks (what a client asked for) and operations (journalled changes, with or without a task)."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from sqlalchemy import JSON, ForeignKey, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from openvstorage.vpool.model.base import Base, Guid, GuidKey, new_guid


class TaskStatus(StrEnum):
    """Celery's words, which existing clients know."""

    PENDING = "PENDING"
    STARTED = "STARTED"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"

    @property
    def ready(self) -> bool:
        """Whether the task has ended."""
        return self in (TaskStatus.SUCCESS, TaskStatus.FAILURE, TaskStatus.REVOKED)


class Task(Base):
    """Something a client asked for.

    :ivar kind: which operation, such as ``vdisk.create``; ``args`` are its arguments.
    :ivar result: the value on SUCCESS, the error's text on FAILURE.
    :ivar error_code: what the error is, for programs: one of :class:`openvstorage.contract.codes.ErrorCode`. Empty
        unless it failed, and in tasks of versions before there were codes.
    :ivar username: who asked; empty in tasks of versions that noted it only beside a key.
    :ivar idempotency_key: the client's name for this request; unique for each user. ``request_digest`` tells a
        repeated request from another one under the same key.
    :ivar lease: until when (unix time) ``node_guid`` is trusted to be at work on it.
    """

    __tablename__ = "task"
    __table_args__ = (UniqueConstraint("username", "idempotency_key"),)

    guid: Mapped[GuidKey] = mapped_column(default=new_guid)
    kind: Mapped[str] = mapped_column(String(48))
    args: Mapped[dict[str, Any]]
    vdisk_guid: Mapped[Guid | None] = mapped_column(index=True)
    status: Mapped[str] = mapped_column(String(16), default=TaskStatus.PENDING, index=True)
    result: Mapped[Any | None] = mapped_column(JSON(none_as_null=True))
    error_code: Mapped[str | None] = mapped_column(String(48))
    username: Mapped[str | None] = mapped_column(String(255))
    idempotency_key: Mapped[str | None] = mapped_column(String(200))
    request_digest: Mapped[str | None] = mapped_column(String(64))
    node_guid: Mapped[Guid | None] = mapped_column(ForeignKey("storagerouter.guid"))
    lease: Mapped[float | None]
    created_at: Mapped[float] = mapped_column(index=True)
    finished_at: Mapped[float | None]


class OperationRow(Base):
    """A change under way. The row is there from the first intent to the committed result, and then gone.

    :ivar phase: the last phase whose beginning was committed; empty before the first.
    :ivar args: all that recovery needs: every guid and file name was chosen before the first byte changed.
    :ivar error: why it is parked; a parked operation is tried again at the next start.
    """

    __tablename__ = "operation"

    guid: Mapped[GuidKey] = mapped_column(default=new_guid)
    type: Mapped[str] = mapped_column(String(32))
    phase: Mapped[str] = mapped_column(String(32), default="")
    args: Mapped[dict[str, Any]]
    vdisk_guid: Mapped[Guid | None] = mapped_column(index=True)
    task_guid: Mapped[Guid | None] = mapped_column(ForeignKey("task.guid", ondelete="SET NULL"))
    attempts: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[float]
