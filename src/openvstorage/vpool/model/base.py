"""What every table shares: naming of constraints, column types, identifiers."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from sqlalchemy import JSON, BigInteger, MetaData, String
from sqlalchemy.orm import DeclarativeBase, mapped_column

#: A lower-case UUID4, the identifier of every object of the management API.
Guid = Annotated[str, mapped_column(String(36))]
#: The same as primary key.
GuidKey = Annotated[str, mapped_column(String(36), primary_key=True)]
#: Bytes; a 64 TiB vDisk needs more than 32 bits.
Bytes = Annotated[int, mapped_column(BigInteger)]


class Base(DeclarativeBase):
    """Declarative base: names constraints, so that migrations can address them on both databases."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {dict[str, Any]: JSON, list[str]: JSON}  # noqa: RUF012 - SQLAlchemy's documented form


def new_guid() -> str:
    """:returns: a fresh identifier (UUID4, lower case)."""
    return str(uuid.uuid4())
