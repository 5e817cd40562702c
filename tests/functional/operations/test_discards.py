"""Zeroes and discards beside writes: every block is what it was made, whatever QEMU makes of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Iterable
from pathlib import Path
from typing import Any

import pytest
from tests.support.engine import MIB, Engine, engine
from tests.support.nbd import NbdClient
from tests.support.qemus import bin_dirs

from openvstorage.vpool.model.vdisk import VDisk

#: Of the coarsest layout in use; the parts below collide in finer ones too.
CLUSTER = 128 * 1024
CLUSTERS = 48
SIZE = 32 * MIB

#: Where in a cluster a write goes, and where the zeroes that are in flight with it: disjoint, in one cluster of 64 KiB,
#: in one of 128 KiB, and in one sub-cluster of 4 KiB.
PARTS = {
    "4 of 64 KiB": ((0, 4096), (4096, 60 * 1024)),
    "64 of 128 KiB": ((0, 65536), (65536, 65536)),
    "512 of 4096 bytes": ((0, 512), (512, 3584)),
    "the other way round": ((60 * 1024, 4096), (0, 60 * 1024)),
}


@pytest.fixture(params=bin_dirs().values(), ids=bin_dirs().keys())
async def vpool(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Engine]:
    async with engine(tmp_path, qemu_dir=str(request.param)) as vpool:
        yield vpool


async def together(requests: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Have requests in flight side by side; they are sent in this order."""
    await asyncio.gather(*requests)


def pattern(number: int, length: int) -> bytes:
    return number.to_bytes(2, "big") * (length // 2)


async def race(client: NbdClient, part: str) -> None:
    """Write one part of each cluster while another is zeroed, then write elsewhere so that what was freed is reused."""
    (write, length), (zero, zeroed) = PARTS[part]
    starts = [number * CLUSTER for number in range(CLUSTERS)]
    await together(client.write(start, pattern(1, CLUSTER)) for start in starts)
    await together(client.zero(start, CLUSTER, may_trim=False) for start in starts)
    await together(
        request
        for number, start in enumerate(starts)
        for request in (
            client.write(start + write, pattern(number + 2, length)),
            client.zero(start + zero, zeroed),
        )
    )
    await client.flush()
    await together(client.write(CLUSTERS * CLUSTER + start, pattern(99, CLUSTER)) for start in starts)
    await client.flush()


async def wrong(client: NbdClient, part: str) -> list[int]:
    """The clusters that do not read as :func:`race` left them."""
    (write, length), _ = PARTS[part]
    found = []
    for number in range(CLUSTERS):
        expected = bytearray(CLUSTER)
        expected[write : write + length] = pattern(number + 2, length)
        if await client.read(number * CLUSTER, CLUSTER) != expected:
            found.append(number)
        if await client.read((CLUSTERS + number) * CLUSTER, CLUSTER) != pattern(99, CLUSTER):
            found.append(CLUSTERS + number)
    return found


async def kill_daemon(vpool: Engine, vdisk: str) -> None:
    daemon = vpool.context.fleet.get(vdisk)
    await daemon.kill()
    while vpool.context.fleet.get(vdisk) in (None, daemon):
        await asyncio.sleep(0.01)


async def open_head(vpool: Engine, vdisk: str) -> NbdClient:
    grant = await vpool.grant(vdisk)
    return await NbdClient.connect(grant["port"], grant["export_name"])


async def head_of(vpool: Engine, vdisk: str) -> Path:
    async with vpool.db.read() as session:
        row = await session.get_one(VDisk, vdisk)
    return Path(vpool.context.backend.files.path(row.backend_ref))


async def tool(vpool: Engine, *words: str) -> str:
    program = vpool.context.fleet._build.image_tool
    process = await asyncio.create_subprocess_exec(program, *words, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


@pytest.mark.parametrize("part", PARTS)
async def test_zeroes_beside_a_write_in_one_cluster(vpool: Engine, part: str) -> None:
    """Also over a layer that a snapshot has just put there, and after the daemon was killed."""
    vdisk = await vpool.create("a", SIZE)
    client = await open_head(vpool, vdisk)
    await race(client, part)
    assert await wrong(client, part) == []
    await vpool.snapshot(vdisk)
    await race(client, part)
    assert await wrong(client, part) == []
    await kill_daemon(vpool, vdisk)
    client = await open_head(vpool, vdisk)
    assert await wrong(client, part) == []
    await client.close()
    await vpool.context.fleet.stop(vdisk)
    await tool(vpool, "check", "-q", str(await head_of(vpool, vdisk)))


async def test_a_trimmed_cluster_is_given_to_no_other_block(vpool: Engine) -> None:
    """Else a kill before the tables are on disk leaves the trimmed block with the other's data."""
    vdisk = await vpool.create("a", SIZE)
    client = await open_head(vpool, vdisk)
    await client.write(0, pattern(1, CLUSTER))
    await client.flush()
    await client.trim(0, CLUSTER)
    await client.write(8 * MIB, pattern(2, CLUSTER))
    await client.flush()
    await client.close()
    await vpool.context.fleet.stop(vdisk)
    extents = json.loads(await tool(vpool, "map", "--output=json", str(await head_of(vpool, vdisk))))
    owners = {extent["start"]: extent.get("offset") for extent in extents}
    assert owners[0] is not None
    assert owners[0] != owners[8 * MIB]


async def test_discards_give_space_back_where_that_is_safe(vpool: Engine) -> None:
    vdisk = await vpool.create("a", SIZE)
    client = await open_head(vpool, vdisk)
    await client.write(0, pattern(1, 16 * MIB))
    await client.flush()
    head = await head_of(vpool, vdisk)
    before = head.stat().st_blocks
    await client.trim(0, 16 * MIB)
    await client.flush()
    given_back = (before - head.stat().st_blocks) * 512
    assert given_back > 15 * MIB if vpool.context.fleet._build.discards_in_place else given_back <= 0
    await client.close()


async def test_zeroes_for_a_part_of_a_cluster_are_written(vpool: Engine) -> None:
    """Over a parent's data, beside a write to the same cluster, QEMU loses them else. Whole clusters stay thin."""
    vdisk = await vpool.create("a", SIZE)
    await vpool.write(vdisk, 0, pattern(1, 4 * CLUSTER))
    await vpool.snapshot(vdisk)
    granule = vpool.context.backend.files.granule((await head_of(vpool, vdisk)).stem)
    client = await open_head(vpool, vdisk)
    assert await vpool.context.fleet.get(vdisk).head() == vpool.context.backend.node_of(
        (await head_of(vpool, vdisk)).stem
    )
    await together((client.zero(512, granule - 512), client.zero(2 * CLUSTER, CLUSTER)))
    await client.zero(8 * CLUSTER + 512, granule - 512)  # where everything reads as zeroes already
    await client.flush()
    assert await client.read(0, CLUSTER) == pattern(1, 512) + bytes(granule - 512) + pattern(1, CLUSTER - granule)
    await client.close()
    await vpool.context.fleet.stop(vdisk)
    extents = json.loads(await tool(vpool, "map", "--output=json", str(await head_of(vpool, vdisk))))
    found = {extent["start"]: extent for extent in extents}
    for start in (0, 8 * CLUSTER):
        assert found[start]["data"]
        assert found[start]["depth"] == 0
    assert found[2 * CLUSTER]["zero"]
