"""With our wheel beside them, not one file of Nova's, os-brick's or os-vif's differs from what was released."""

from __future__ import annotations

import base64
import hashlib
from importlib import metadata
from pathlib import Path

import pytest
from tests.support.installed_files import differences

RELEASED = [("nova", "nova"), ("os-brick", "os_brick"), ("os-vif", "os_vif")]


@pytest.mark.parametrize(("distribution", "package"), RELEASED)
def test_installed_files_are_the_released_ones(distribution: str, package: str) -> None:
    assert differences(distribution, package) == []


def test_our_wheel_puts_nothing_into_their_packages() -> None:
    ours = metadata.files("openvstorage-openstack")
    assert ours
    assert {file.parts[0] for file in ours} & {"nova", "cinder", "os_brick", "os_vif", "glance_store"} == set()


def test_comparison_sees_what_was_changed_removed_and_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info, package = tmp_path / "sample-1.dist-info", tmp_path / "sample"
    info.mkdir()
    package.mkdir()
    digest = base64.urlsafe_b64encode(hashlib.sha256(b"").digest()).rstrip(b"=").decode()
    names = ["kept", "changed", "removed"]
    (info / "METADATA").write_text("Name: sample\nVersion: 1\n")
    (info / "RECORD").write_text("".join(f"sample/{name}.py,sha256={digest},0\n" for name in names))
    for name in ("kept", "changed", "added"):
        (package / f"{name}.py").write_text("x" if name == "changed" else "")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert differences("sample", "sample") == [
        "changed: sample/changed.py",
        "removed: sample/removed.py",
        "added: added.py",
    ]
