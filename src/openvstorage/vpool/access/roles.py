"""Roles: what a token allows, and which of them a group of users has."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["GROUPS", "Role"]


class Role(StrEnum):
    """Role codes of the management API; a call needs all roles that it names."""

    READ = "read"
    WRITE = "write"
    MANAGE = "manage"


#: Roles of a user's group; also the groups that exist.
GROUPS: dict[str, tuple[Role, ...]] = {
    "administrators": (Role.READ, Role.WRITE, Role.MANAGE),
    "viewers": (Role.READ,),
}
