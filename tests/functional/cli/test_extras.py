"""Without the packages of an extra, the command says what to install for what was asked of it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from tests.support.patience import PATIENCE

# A package that is None there can not be imported: as if it had not been installed.
CHILD = """
import sys
sys.modules.update(dict.fromkeys(sys.argv.pop(1).split(",")))
from openvstorage.cli import main
main()
"""
VPOOL, BOTH = "[vpool]", "[vpool,aio]"


def run_without(packages: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", CHILD, packages, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=PATIENCE)


@pytest.mark.parametrize(
    ("packages", "words", "names", "extras"),
    [
        ("typer", ("serve", "--data", "/nowhere"), "typer", VPOOL),
        ("fastapi", ("serve", "--data", "/nowhere"), "fastapi", VPOOL),
        ("fastapi,openstack,uv", ("status", "--data", "/nowhere"), "fastapi", VPOOL),
        ("typer", (), "typer", VPOOL),
        ("typer", ("aio", "up"), "typer", BOTH),
        ("openstack", ("aio", "up"), "openstack", BOTH),
        ("uv", ("aio", "status"), "uv", BOTH),
    ],
)
def test_the_sentence_names_what_the_command_needs(
    packages: str, words: tuple[str, ...], names: str, extras: str
) -> None:
    done = run_without(packages, *words)
    assert done.returncode == 1
    assert done.stderr.startswith(f"openvstorage: the Python package {names} is missing. ")
    assert done.stderr.endswith(f"pip install 'openvstorage-openstack{extras}'\n")
    assert " ".join(("'openvstorage", *words[:1])) + "' needs" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_vpool_is_served_without_what_the_all_in_one_needs() -> None:
    assert run_without("openstack,uv", "version").returncode == 0
    done = run_without("openstack,uv", "status", "--data", "/nowhere")
    assert "start one with 'openvstorage serve'" in done.stderr
