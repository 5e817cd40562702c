"""The data directory: one service at a time, and only with the database that belongs to it."""

import json
import shutil
from pathlib import Path

import pytest

from openvstorage.vpool.model.database import Database
from openvstorage.vpool.pool import PoolDirectory, PoolError, PoolLock, claim


async def start(data: Path, *, accept_database: bool = False) -> str:
    directory = PoolDirectory(data)
    db = Database(directory.database_url())
    try:
        await db.upgrade()
        return (await claim(directory, db, accept_database=accept_database)).guid
    finally:
        await db.close()


def copy_database(data: Path, to: Path) -> None:
    shutil.copy(data / "model.sqlite3", to)


async def test_a_pool_keeps_its_identity(tmp_path: Path) -> None:
    assert await start(tmp_path) == await start(tmp_path)
    assert json.loads((tmp_path / "pool.json").read_text())["generation"] == 2


async def test_the_database_is_in_the_directory_whatever_that_is_called(tmp_path: Path) -> None:
    data = tmp_path / "a?b=c#d %41 é"
    data.mkdir()
    assert await start(data) == await start(data)
    assert (data / "model.sqlite3").stat().st_size > 0
    assert list(tmp_path.iterdir()) == [data]


async def test_an_older_copy_of_the_database_is_refused_and_can_be_accepted(tmp_path: Path) -> None:
    guid = await start(tmp_path)
    copy_database(tmp_path, tmp_path / "copy")
    await start(tmp_path)
    shutil.copy(tmp_path / "copy", tmp_path / "model.sqlite3")
    with pytest.raises(PoolError, match="older copy"):
        await start(tmp_path)
    assert await start(tmp_path, accept_database=True) == guid
    assert await start(tmp_path) == guid


async def test_the_database_of_another_pool_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    await start(tmp_path / "one")
    await start(tmp_path / "two")
    copy_database(tmp_path / "one", tmp_path / "two" / "model.sqlite3")
    with pytest.raises(PoolError, match="another pool"):
        await start(tmp_path / "two")


async def test_a_missing_marker_is_noticed(tmp_path: Path) -> None:
    await start(tmp_path)
    (tmp_path / "pool.json").unlink()
    with pytest.raises(PoolError, match="missing"):
        await start(tmp_path)


async def test_a_damaged_marker_is_noticed(tmp_path: Path) -> None:
    await start(tmp_path)
    (tmp_path / "pool.json").write_text("{}")
    with pytest.raises(PoolError, match="damaged"):
        await start(tmp_path)


def test_a_directory_is_served_once(tmp_path: Path) -> None:
    with PoolLock(tmp_path), pytest.raises(PoolError, match="another process"), PoolLock(tmp_path):
        pass
    with PoolLock(tmp_path):
        pass


@pytest.mark.parametrize("name", ["layers", "lost+found"])
def test_a_link_where_bytes_belong_is_refused(tmp_path: Path, name: str) -> None:
    data = tmp_path / "data"
    data.mkdir()
    PoolDirectory(data).check()
    (data / name).symlink_to(tmp_path)
    with pytest.raises(PoolError, match="is a symbolic link: put a directory in its place"):
        PoolDirectory(data).check()
    (data / name).unlink()
    (data / name).write_text("")
    with pytest.raises(PoolError, match="is not a directory: move it away"):
        PoolDirectory(data).check()


def test_a_directory_that_everybody_can_change_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PoolError, match=f"every user of this machine can change {tmp_path}: 'chmod o-w {tmp_path}'"):
        PoolDirectory(tmp_path).check()


def test_a_run_directory_that_is_a_link_is_refused_before_anything_is_made_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (tmp_path / "run").symlink_to(theirs)
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path / "run"))
    with pytest.raises(PoolError, match="belongs to another user"):
        PoolDirectory(tmp_path).run_dir("0123456789")
    (tmp_path / "run").unlink()
    (tmp_path / "run").symlink_to(tmp_path / "nowhere")
    with pytest.raises(PoolError, match="belongs to another user"):
        PoolDirectory(tmp_path).run_dir("0123456789")
    assert not list(theirs.iterdir())
