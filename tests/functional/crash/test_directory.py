"""Who serves a data directory, and which database belongs to it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.support.audit import audit, calm
from tests.support.crash_acts import disk, first, snapped, written
from tests.support.crash_world import Disk, World, fits, look
from tests.support.engine import engine
from tests.support.patience import PATIENCE
from tests.support.vpool_service import VpoolService

from openvstorage.vpool.model.database import Database
from openvstorage.vpool.pool import PoolDirectory, PoolError, claim

pytestmark = [pytest.mark.crash]


def test_a_second_service_on_the_same_directory_is_refused_with_a_sentence(tmp_path: Path) -> None:
    with VpoolService(tmp_path / "data") as service:
        again = subprocess.run(
            [service._command, "serve", "--data", str(service.data), "--listen", "127.0.0.1:1"],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert again.returncode == 1
        assert "is served by another process already" in again.stderr
        assert "Traceback" not in again.stderr
        assert service._healthy(), "the first one goes on"


async def test_an_older_database_is_refused_and_if_accepted_removes_nothing(data: Path, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    async with engine(data) as vpool:
        await disk("a", "A...")(vpool)
        await calm(vpool)
    copy_database(data, old)
    async with engine(data) as vpool:
        await first(written("a", 1, "B"), snapped("a", "s"), written("a", 2, "C"), disk("new", "N..."))(vpool)
        await calm(vpool)
    before = {path.stat().st_ino: path.read_bytes() for path in (data / "layers").iterdir()}
    copy_database(old, data)
    with pytest.raises(PoolError, match=r"the database is an older copy .* put the newest one back"):
        async with engine(data):
            pass
    assert {path.stat().st_ino: path.read_bytes() for path in (data / "layers").iterdir()} == before

    database = Database(PoolDirectory(data).database_url())
    await claim(PoolDirectory(data), database, accept_database=True)
    await database.close()
    async with engine(data) as vpool:
        await calm(vpool)
        after = {
            path.stat().st_ino: path.read_bytes()
            for name in ("layers", "lost+found")
            for path in (data / name).iterdir()
        }
        assert after == before, "every file is somewhere, as it was"
        assert len(list((data / "lost+found").iterdir())) == 2, "what the old database does not know was set aside"
        # its own layer has gone on after the copy was made, until it was frozen
        assert fits(await look(vpool), World({"a": Disk("AB..")}), wrote=False)
        await written("a", 3, "D")(vpool)
        await audit(vpool, {path.name: path.read_bytes() for path in (data / "lost+found").iterdir()})


def copy_database(source: Path, target: Path) -> None:
    """Copy the database with what belongs to it, and nothing else."""
    for path in target.glob("model.sqlite3*"):
        path.unlink()
    for path in source.glob("model.sqlite3*"):
        shutil.copy(path, target)
