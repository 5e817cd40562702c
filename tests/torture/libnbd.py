"""libnbd's Python bindings, which Debian installs for the system's Python, in the Python that runs here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

__all__ = ["nbd"]

_DEBIAN = Path("/usr/lib/python3/dist-packages")


def _load() -> Any:
    """:raises ImportError: the package is missing, or made for another version of Python."""
    before = list(sys.path)
    # Behind everything else, and only for this import: the rest of the system's packages stays out of sight.
    sys.path.append(str(_DEBIAN))
    try:
        import nbd
    except ImportError as error:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ImportError(
            f"libnbd's bindings do not load into Python {version} ({error}): install the Debian package python3-libnbd "
            "(`make packages`), and make .venv with the Python of the same Debian"
        ) from error
    finally:
        sys.path[:] = before
    return nbd


nbd = _load()
