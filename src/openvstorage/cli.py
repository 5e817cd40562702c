"""The ``openvstorage`` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; without its extra packages it says which ones to install."""
    try:
        from openvstorage.commands import app
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("openvstorage"):
            raise
        sys.exit(
            f"openvstorage: the Python package {error.name} is missing. The command needs the extras: "
            "pip install 'openvstorage-openstack[vpool,aio]'"
        )
    app()
