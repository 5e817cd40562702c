"""The systemd unit: systemd understands it, and storage daemons are found again where it keeps their sockets."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from tests.support.engine import Engine, engine
from tests.support.systemd import verify

UNIT = Path(__file__).resolve().parents[3] / "deploy" / "systemd" / "openvstorage@.service"


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    """With a command that is there, as systemd asks for one; and it would complain of a word that it does not know."""
    unit = tmp_path / "openvstorage@.service"
    text = UNIT.read_text().replace("/opt/openvstorage/bin/openvstorage", "/bin/true")
    unit.write_text(text)
    assert verify(unit) == ""
    unit.write_text(text.replace("KillMode=process", "KilMode=process"))
    assert "KilMode" in verify(unit)


def test_only_the_service_itself_is_stopped() -> None:
    settings = [line for line in UNIT.read_text().splitlines() if line and line[0] not in "#["]
    assert "KillMode=process" in settings
    assert "RuntimeDirectoryPreserve=yes" in settings
    assert not [line for line in settings if line.startswith(("PrivateTmp", "PrivateNetwork", "ProtectProc"))]


async def test_storage_daemons_are_found_again_in_the_runtime_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Path("/tmp") / f"ovs-runtime-{os.getpid()}"
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(runtime))
    try:
        async with engine(tmp_path, stop_daemons=False) as vpool:
            vdisk = await vpool.create("a")
            await vpool.grant(vdisk)
            pid = served_by(vpool, vdisk)
            assert list(runtime.glob("*/*"))
        async with engine(tmp_path) as vpool:
            await vpool.operations.ensure_served(vdisk)
            assert served_by(vpool, vdisk) == pid
    finally:
        shutil.rmtree(runtime)


def served_by(vpool: Engine, vdisk: str) -> int:
    return int(vpool.context.fleet.get(vdisk).identity.pid)
