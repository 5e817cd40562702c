"""docs/qemu-bugs.md is true: each of its scripts finds on each QEMU at hand what its table says."""

from __future__ import annotations

import asyncio
import os
import re
from pathlib import Path

import pytest

from openvstorage.vpool.exports.qemu import QemuBuild

DOCS = Path(__file__).resolve().parents[3] / "docs"
STATUS = {"no": 0, "yes": 1}


def table() -> dict[str, dict[str, str]]:
    """What the page says, by script and version."""
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in (DOCS / "qemu-bugs.md").read_text().splitlines()
        if line.startswith("|")
    ]
    versions = rows[0][1:]
    return {re.sub(r".*\((.*)\)", r"\1", name): dict(zip(versions, found, strict=True)) for name, *found in rows[2:]}


@pytest.mark.parametrize("script", table())
async def test_a_script_finds_what_the_page_says(build: QemuBuild, script: str) -> None:
    version = ".".join(str(part) for part in build.version)
    said = table()[script].get(version)
    if said is None:
        pytest.skip(f"the page says nothing of QEMU {version}")
    process = await asyncio.create_subprocess_exec(
        "sh",
        str(DOCS / script),
        env={**os.environ, "QEMU_DIR": str(build.storage_daemon.parent)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    output, _ = await process.communicate()
    assert process.returncode == STATUS[said], output.decode()


def test_every_script_is_on_the_page() -> None:
    assert {str(path.relative_to(DOCS)) for path in (DOCS / "qemu-bugs").iterdir()} == set(table())
