"""The example without OpenStack that the README gives works as it stands there."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support.patience import PATIENCE
from tests.support.vpool_service import ROOT, VpoolService

SECTION = re.compile(r"^## Without OpenStack$(.*?)^## ", re.DOTALL | re.MULTILINE)


@pytest.fixture
def section(tmp_path: Path) -> str:
    """What the README says, with its directories below the test's."""
    found = SECTION.search((ROOT / "README.md").read_text())
    assert found is not None
    return found[1].replace("/srv/", f"{tmp_path}/")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[VpoolService]:
    """What `serve` in the background is in the README, as users start it; on a port of its own."""
    with VpoolService(tmp_path / "mypool", edge_tls=None) as service:
        yield service


def shell(words: str) -> str:
    done = subprocess.run(words, shell=True, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_a_stranger_gets_from_nothing_to_an_open_vdisk(service: VpoolService, section: str, tmp_path: Path) -> None:
    commands = re.findall(r"^    (.*openvstorage.*)$", section, re.MULTILINE)
    assert [f"serve --data {tmp_path}/mypool" in command for command in commands] == [True, False, False]
    for command in commands[1:]:
        shell(command)
    program = tmp_path / "example.py"
    (program_text,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    program.write_text(program_text)
    size, by_qemu, by_libnbd = shell(f".venv/bin/python {program}").splitlines()
    assert size == str(10 * 1024**3)
    assert f"virtual size: 10 GiB ({size} bytes)" in shell(by_qemu)
    assert "with TLS" in (told := shell(by_libnbd))
    assert f"export-size: {size} " in told
    uri = by_libnbd.split("'")[1]
    (tmp_path / "picture").write_bytes(b"picture" * 1024)
    shell(f"nbdcopy {tmp_path}/picture '{uri}'")
    assert shell(f"nbdcopy '{uri}' - | head -c 14") == "picturepicture"
