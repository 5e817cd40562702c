"""What is still possible when there is no room."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.engine import MIB, TaskFailed, engine


async def test_a_deletion_finds_the_reserve_given_back(tmp_path: Path) -> None:
    """Guests fill the disk, not we: nothing that asks for room need have come before."""
    ballast = tmp_path / "ballast"
    async with engine(tmp_path, ballast_mib=1, low_water_mib=1) as vpool:
        vdisk = await vpool.create("a", MIB)
        assert ballast.stat().st_blocks * 512 >= MIB
        space = vpool.context.backend.space
        space._low_water = space.total()
        await vpool.do("vdisk.delete", vdisk)
        assert not ballast.exists()
        with pytest.raises(TaskFailed, match="no room left"):
            await vpool.create("b", MIB)
