"""Compares installed distributions with the RECORD of their wheels."""

from __future__ import annotations

import base64
import hashlib
from importlib import metadata
from pathlib import Path

__all__ = ["differences"]


def differences(distribution: str, package: str) -> list[str]:
    """Give every file of a distribution that was changed or removed, and every one that was added to its package."""
    files = metadata.files(distribution)
    assert files, f"{distribution} is not installed from a wheel"
    found, known = [], set()
    for file in files:
        path = Path(str(file.locate())).resolve()
        known.add(path)
        if not path.exists():
            found.append(f"removed: {file}")
        elif file.hash is not None:
            digest = hashlib.new(file.hash.mode, path.read_bytes()).digest()
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != file.hash.value:
                found.append(f"changed: {file}")
    root = Path(str(metadata.distribution(distribution).locate_file(package))).resolve()
    assert root.is_dir()
    for path in root.rglob("*"):
        if path.is_file() and path.suffix != ".pyc" and path not in known:
            found.append(f"added: {path.relative_to(root)}")
    return found
