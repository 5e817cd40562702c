"""Layers: the image files of the layers backend. Private to that backend."""

from __future__ import annotations

from enum import StrEnum

from sqlalchemy import ForeignKey, String
from sqlalchemy.orm import Mapped, mapped_column

from openvstorage.vpool.model.base import Base, Bytes, Guid, GuidKey, new_guid


class LayerState(StrEnum):
    """What may happen to a layer's file.

    ``CREATING``: not there or half made, nobody may rely on it. ``ACTIVE``: the head of one vDisk, written to.
    ``FROZEN``: never written again. ``TRASH``: a tombstone, its file is to be unlinked and nobody may open it.
    """

    CREATING = "creating"
    ACTIVE = "active"
    FROZEN = "frozen"
    TRASH = "trash"


class Layer(Base):
    """One image file; its name is its guid and is never used again.

    :ivar parent_guid: the layer below, from which what is not in this file is read; the truth about edges is here,
        the image's header only repeats it.
    :ivar size: virtual size in bytes.
    :ivar ordinal: how many layers were frozen before it in its line; places the skip layers.
    """

    __tablename__ = "layer"

    guid: Mapped[GuidKey] = mapped_column(default=new_guid)
    parent_guid: Mapped[Guid | None] = mapped_column(ForeignKey("layer.guid"), index=True)
    state: Mapped[str] = mapped_column(String(16), default=LayerState.CREATING, index=True)
    size: Mapped[Bytes]
    ordinal: Mapped[int] = mapped_column(default=0)
