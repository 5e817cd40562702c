"""Several writers of one vDisk: only if each of them was asked for as shared."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.support.engine import Engine, TaskFailed, connect, engine

from openvstorage.edge.errors import TransportError


@pytest.fixture
async def vpool(tmp_path: Path) -> AsyncIterator[Engine]:
    async with engine(tmp_path) as running:
        yield running


async def test_consumers_that_share_write_side_by_side_and_are_fenced_one_by_one(vpool: Engine) -> None:
    vdisk = await vpool.create("a")
    one = await vpool.grant(vdisk, client="h1", consumer="one", shared=True)
    two = await vpool.grant(vdisk, client="h2", consumer="two", shared=True)
    with connect(one) as first, connect(two) as second:
        for place, client in enumerate((first, second, first)):
            client.write(place * 4096, bytes([place + 1]) * 4096)
            client.flush()
        assert second.read(0, 3 * 4096) == b"".join(bytes([place + 1]) * 4096 for place in range(3))
        await vpool.revoke(one)
        with pytest.raises(TransportError):
            first.write(0, b"x" * 4096, fua=True)
        second.write(0, b"y" * 4096, fua=True)
    three = await vpool.grant(vdisk, client="h1", consumer="three", shared=True)
    with connect(three) as third:
        assert third.read(0, 4096) == b"y" * 4096


@pytest.mark.parametrize(("first", "second"), [(True, False), (False, True), (False, False)])
async def test_one_who_does_not_share_keeps_the_vdisk_to_itself(vpool: Engine, first: bool, second: bool) -> None:
    vdisk = await vpool.create("a")
    await vpool.grant(vdisk, client="h1", consumer="one", shared=first)
    with pytest.raises(TaskFailed, match="in use by one on h1"):
        await vpool.grant(vdisk, client="h2", consumer="two", shared=second)


async def test_sharing_ends_with_the_last_that_shared(vpool: Engine) -> None:
    vdisk = await vpool.create("a")
    await vpool.revoke(await vpool.grant(vdisk, consumer="one", shared=True))
    alone = await vpool.grant(vdisk, consumer="two")
    with pytest.raises(TaskFailed, match="in use by two"):
        await vpool.grant(vdisk, consumer="three", shared=True)
    await vpool.revoke(alone)
    await vpool.grant(vdisk, consumer="three", shared=True)


async def test_a_holder_that_asks_without_sharing_ends_it(vpool: Engine) -> None:
    """Who comes later finds the vDisk in use; who is there stays."""
    vdisk = await vpool.create("a")
    await vpool.grant(vdisk, client="h1", consumer="one", shared=True)
    await vpool.grant(vdisk, client="h2", consumer="one")
    with pytest.raises(TaskFailed, match="in use by one"):
        await vpool.grant(vdisk, client="h3", consumer="two", shared=True)
