"""The ``openvstorage`` command."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec

__all__ = ["main"]

# What is imported only when it is used, by subcommand: minutes after its start.
_USED_LATER = {"aio": ("openstack", "uv")}
# The all-in-one starts a vPool with this command.
_EXTRAS = {"aio": "vpool,aio"}


def main() -> None:
    """Run the command; without its extra packages it says which ones to install."""
    command = _command(sys.argv[1:])
    try:
        from openvstorage.commands import app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("openvstorage"):
            raise
        sys.exit(_missing(error.name or "", command))
    for name in _USED_LATER.get(command, ()):
        if find_spec(name) is None:
            sys.exit(_missing(name, command))
    app()


def _command(words: Sequence[str]) -> str:
    """Return the subcommand, empty if there is none."""
    return next((word for word in words if not word.startswith("-")), "")


def _missing(package: str, command: str) -> str:
    asked, extras = f"openvstorage {command}".strip(), _EXTRAS.get(command, "vpool")
    return (
        f"openvstorage: the Python package {package} is missing. "
        f"'{asked}' needs: pip install 'openvstorage-openstack[{extras}]'"
    )
