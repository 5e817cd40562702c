"""What storage daemons print is kept as long as their vDisk, and no longer."""

from __future__ import annotations

from pathlib import Path

from tests.support.engine import Engine, engine


def logs(vpool: Engine) -> set[str]:
    return {path.name for path in vpool.directory.logs.iterdir()}


async def test_a_log_goes_with_its_vdisk(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        kept, dropped = await vpool.create("kept"), await vpool.create("dropped")
        for vdisk in (kept, dropped):
            await vpool.write(vdisk, 0, b"1" * 4096)
        assert logs(vpool) == {f"{kept}.log", f"{dropped}.log"}
        grant = await vpool.grant(dropped)  # its daemon lives when it is deleted
        await vpool.do("vdisk.delete", grant["vdisk_guid"], force=True)
        await vpool.settle()
        assert logs(vpool) == {f"{kept}.log"}


async def test_a_log_that_a_crash_left_of_a_vdisk_goes_with_the_next_start(tmp_path: Path) -> None:
    async with engine(tmp_path) as vpool:
        kept = await vpool.create("kept")
        await vpool.write(kept, 0, b"1" * 4096)
        (vpool.directory.logs / "00000000-0000-4000-8000-000000000000.log").write_text("what it said")
    async with engine(tmp_path) as vpool:
        assert logs(vpool) == {f"{kept}.log"}
