"""Locks of vDisks: first come, first served, and background work gives way."""

import asyncio

from openvstorage.vpool.operations.locks import VDiskLocks


async def test_changes_of_one_vdisk_come_one_after_the_other_in_order() -> None:
    locks = VDiskLocks()
    log: list[str] = []

    async def change(name: str) -> None:
        async with locks.hold(["a"]):
            log.append(f"{name}+")
            await asyncio.sleep(0)
            log.append(f"{name}-")

    await asyncio.gather(*(change(name) for name in "xyz"))
    assert log == ["x+", "x-", "y+", "y-", "z+", "z-"]


async def test_two_vdisks_do_not_wait_for_each_other() -> None:
    locks = VDiskLocks()
    async with locks.hold(["a"]):
        await asyncio.wait_for(enter(locks, "b"), 1)


async def test_groups_in_opposite_order_do_not_lock_each_other_out() -> None:
    locks = VDiskLocks()

    async def both(first: str, second: str) -> None:
        for _ in range(20):
            async with locks.hold([first, second]):
                await asyncio.sleep(0)

    await asyncio.wait_for(asyncio.gather(both("a", "b"), both("b", "a")), 5)


async def test_background_work_is_told_to_give_way() -> None:
    locks = VDiskLocks()
    async with locks.hold_in_background("a") as give_way:
        assert give_way is not None
        waiting = asyncio.create_task(enter(locks, "a"))
        await asyncio.wait_for(give_way.wait(), 1)
        assert not waiting.done()
    await asyncio.wait_for(waiting, 1)


async def test_background_work_does_not_wait_for_a_busy_vdisk() -> None:
    locks = VDiskLocks()
    async with locks.hold(["a"]), locks.hold_in_background("a") as give_way:
        assert give_way is None


async def test_nothing_is_remembered_of_idle_vdisks() -> None:
    locks = VDiskLocks()
    async with locks.hold(["a", "b"]):
        pass
    assert not locks._entries


async def enter(locks: VDiskLocks, guid: str) -> None:
    async with locks.hold([guid]):
        pass
