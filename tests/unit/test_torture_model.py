"""The checker's own idea of what a vDisk may read."""

from __future__ import annotations

import numpy as np
import pytest
from tests.torture.content import BLOCK, TORN, describe, fill, recognise, value_of
from tests.torture.image import Cut, Image, Wrong
from tests.torture.model import DiskModel


def disk(*, keeps_acknowledged: bool = False, number: int = 1) -> DiskModel:
    return DiskModel(number, Image.empty(64), keeps_acknowledged=keeps_acknowledged)


def allowed(model: DiskModel, block: int) -> set[int]:
    image = model.close_window(model.open_window())
    values = {int(image.settled[block]), *image.allowed().get(block, ())}
    probes = values | {0} | {value_of(model.number, write) for write in range(1, 9)}
    return {value for value in probes if not image.compare(np.array([value], np.uint64), block)}


def written(model: DiskModel, first: int, count: int = 1, *, durable: bool = False) -> int:
    op = model.send("write", first, count)
    model.answered(op, durable=durable)
    return op.values[0]


def flushed(model: DiskModel) -> None:
    model.end_flush(model.begin_flush(), done=True)


def test_a_block_tells_what_it_is_of() -> None:
    data = fill(value_of(3, 7), 100, 4)
    assert recognise(data, 100).tolist() == [value_of(3, 7)] * 4
    assert recognise(data, 101).tolist() == [TORN] * 4
    assert recognise(bytes(BLOCK), 5).tolist() == [0]
    assert describe(data[BLOCK : 2 * BLOCK]) == "block 101 of write 7 to vDisk 3"
    data[BLOCK + 300] ^= 1
    assert recognise(data, 100).tolist() == [value_of(3, 7), TORN, value_of(3, 7), value_of(3, 7)]


def test_what_was_answered_is_read_and_nothing_else() -> None:
    model = disk()
    first = written(model, 5)
    assert allowed(model, 5) == {first}
    second = written(model, 5)
    assert allowed(model, 5) == {second}
    assert allowed(model, 6) == {0}


def test_requests_in_flight_together_may_win_in_any_order() -> None:
    model = disk()
    before = written(model, 5)
    one, two = model.send("write", 5, 1), model.send("zero", 5, 1)
    assert allowed(model, 5) == {before, one.values[0], 0}
    model.answered(one, durable=False)
    assert allowed(model, 5) == {one.values[0], 0}
    model.answered(two, durable=False)
    assert allowed(model, 5) == {one.values[0], 0}
    flushed(model)
    assert allowed(model, 5) == {one.values[0], 0}
    last = written(model, 5)
    assert allowed(model, 5) == {last}


def test_a_trimmed_block_reads_as_before_or_as_zeroes() -> None:
    model = disk()
    before = written(model, 5)
    trim = model.send("trim", 4, 3)
    model.answered(trim, durable=False)
    flushed(model)
    assert allowed(model, 5) == {before, 0}
    assert allowed(model, 4) == {0}


def test_a_kill_takes_back_what_was_not_flushed_or_not() -> None:
    model = disk()
    kept = written(model, 5)
    flushed(model)
    maybe = written(model, 5)
    lost = model.send("write", 5, 1)
    model.lost(lost)
    model.killed()
    assert allowed(model, 5) == {kept, maybe, lost.values[0]}
    found = np.array([maybe], np.uint64)
    model.found(found, 5)
    assert allowed(model, 5) == {maybe}


def test_a_kill_takes_back_nothing_that_was_flushed_or_forced_to_the_disk() -> None:
    model = disk()
    written(model, 5)
    one = written(model, 5)
    flushed(model)
    two = written(model, 6, durable=True)
    model.killed()
    assert (allowed(model, 5), allowed(model, 6)) == ({one}, {two})


def test_a_write_answered_after_the_flush_was_sent_is_not_covered_by_it() -> None:
    model = disk()
    op = model.send("write", 5, 1)
    covered = model.begin_flush()
    model.answered(op, durable=False)
    model.end_flush(covered, done=True)
    model.killed()
    assert allowed(model, 5) == {0, op.values[0]}


def test_with_acknowledged_durability_a_kill_takes_back_nothing_that_was_answered() -> None:
    model = disk(keeps_acknowledged=True)
    one = written(model, 5)
    flying = model.send("write", 6, 1)
    model.lost(flying)
    model.killed()
    assert (allowed(model, 5), allowed(model, 6)) == ({one}, {0, flying.values[0]})


def test_a_request_that_was_cut_off_may_come_late_until_it_is_known_to_be_over() -> None:
    model = disk()
    lost = model.send("write", 5, 1)
    model.lost(lost)
    after = written(model, 5)
    assert allowed(model, 5) == {after, lost.values[0]}
    model.forget([lost])
    assert allowed(model, 5) == {after, lost.values[0]}
    last = written(model, 5)
    assert allowed(model, 5) == {last}


def test_a_snapshot_has_what_was_answered_before_it_and_perhaps_what_was_in_flight() -> None:
    model = disk()
    before = written(model, 5)
    flying = model.send("write", 6, 1)
    window = model.open_window()
    late = written(model, 7)
    image = model.close_window(window)
    model.answered(flying, durable=False)
    after = written(model, 5)
    right = [np.array(values, np.uint64) for values in ([before, 0, 0], [before, flying.values[0], late])]
    assert [image.compare(values, 5) for values in right] == [[], []]
    assert image.compare(np.array([after], np.uint64), 5) == [Wrong(5, (before,), after)]


def test_a_snapshot_with_a_later_write_and_without_an_earlier_one_is_of_no_instant() -> None:
    model = disk()
    window = model.open_window()
    earlier = written(model, 5)
    later = written(model, 6)
    image = model.close_window(window)
    both, none, torn = ([earlier, later], [0, 0], [0, later])
    for values, whole in ((both, True), (none, True), (torn, False)):
        cut = Cut()
        assert image.compare(np.array(values, np.uint64), 5, cut=cut) == []
        assert (cut.contradiction() is None) is whole


def test_a_group_of_snapshots_is_of_one_instant_over_all_its_vdisks() -> None:
    one, two = disk(number=1), disk(number=2)
    windows = [one.open_window(), two.open_window()]
    written(one, 5)
    later = written(two, 5)
    images = [one.close_window(windows[0]), two.close_window(windows[1])]
    cut = Cut()
    images[0].compare(np.array([0], np.uint64), 5, cut=cut)
    images[1].compare(np.array([later], np.uint64), 5, cut=cut)
    assert cut.contradiction() is not None


@pytest.mark.parametrize("grown", [64, 80])
def test_a_clone_reads_like_its_source_and_as_zeroes_beyond(grown: int) -> None:
    source = disk()
    settled = written(source, 5)
    flying = source.send("write", 6, 1)
    image = source.close_window(source.open_window()).grown(grown)
    clone = DiskModel(2, image, keeps_acknowledged=False)
    assert (allowed(clone, 5), allowed(clone, 6)) == ({settled}, {0, flying.values[0]})
    assert clone.blocks == grown
    new = written(clone, 6)
    clone.killed()
    assert allowed(clone, 6) == {0, flying.values[0], new}
