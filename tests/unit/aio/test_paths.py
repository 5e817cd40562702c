"""The state directory: made by us, held by one command at a time, and deleted only if it is ours."""

import os
import stat
from pathlib import Path

import pytest

from openvstorage.aio.errors import NotOurs, StateBusy
from openvstorage.aio.paths import Paths, write_private


def test_a_directory_with_other_files_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    paths = Paths.of(tmp_path, tmp_path.parent / "cache")
    with pytest.raises(NotOurs, match="was not made by"):
        paths.create()
    with pytest.raises(NotOurs):
        paths.purge()
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_purge_leaves_the_cache(tmp_path: Path) -> None:
    paths = Paths.of(tmp_path / "state")
    paths.create()
    (paths.cache / "wheel").write_text("")
    paths.purge()
    assert not paths.state.exists()
    assert (paths.cache / "wheel").exists()


def test_purge_of_nothing_is_no_error(tmp_path: Path) -> None:
    Paths.of(tmp_path / "state").purge()


def test_a_second_command_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    paths = Paths.of(tmp_path / "state")
    paths.create()
    with paths.locked(), pytest.raises(StateBusy), paths.locked():
        pass
    with paths.locked():
        pass


def test_sockets_of_a_long_state_directory_go_where_their_names_fit(tmp_path: Path) -> None:
    paths = Paths.of(tmp_path / ("x" * 100))
    assert len(os.fsencode(paths.sockets / "mariadb.sock")) < 60
    assert paths.sockets != Paths.of(tmp_path / ("y" * 100)).sockets
    assert Paths.of(Path("/a")).sockets == Path("/a/run")


def test_private_files_are_private_and_written_only_on_change(tmp_path: Path) -> None:
    file = tmp_path / "passwords"
    assert write_private(file, "one")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    inode = file.stat().st_ino
    assert not write_private(file, "one")
    assert file.stat().st_ino == inode
    assert write_private(file, "two")
    assert file.read_text() == "two"
