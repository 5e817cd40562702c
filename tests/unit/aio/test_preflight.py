"""Preflight says in words what is missing, all at once, before anything is touched."""

from pathlib import Path

import pytest

from openvstorage.aio import preflight
from openvstorage.aio.errors import MachineUnfit
from openvstorage.aio.paths import Paths

GIB = 1024**3


def files(directory: Path, **contents: str) -> Path:
    directory.mkdir()
    for name, text in contents.items():
        (directory / name.replace("__", ".")).write_text(text)
    return directory


def test_memory_of_an_unlimited_machine(tmp_path: Path) -> None:
    proc = files(tmp_path / "proc", meminfo="MemTotal:  9 kB\nMemAvailable:   3145728 kB\n")
    assert preflight.available_memory(proc, tmp_path / "none") == 3 * GIB
    cgroup = files(tmp_path / "cgroup", memory__max="max\n", memory__current="5")
    assert preflight.available_memory(proc, cgroup) == 3 * GIB


def test_memory_of_a_limited_container(tmp_path: Path) -> None:
    proc = files(tmp_path / "proc", meminfo="MemAvailable:   3145728 kB\n")
    cgroup = files(tmp_path / "cgroup", memory__max=str(2 * GIB), memory__current=str(GIB))
    assert preflight.available_memory(proc, cgroup) == GIB


def test_all_reasons_are_given_at_once_and_nothing_is_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "available_memory", lambda: GIB)
    monkeypatch.setattr(preflight.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(preflight.shutil, "which", lambda name: None)
    # A port of loopback where nothing listens answers at once.
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:1")
    paths = Paths.of(tmp_path / "state")
    with pytest.raises(MachineUnfit) as caught:
        preflight.check(paths, downloads=True, missing_packages=["rabbitmq-server"])
    text = str(caught.value)
    for word in ("root is needed", "1.0 GiB are free", "apt-get to install rabbitmq-server", "127.0.0.1 cannot be"):
        assert word in text
    assert not paths.state.exists()
