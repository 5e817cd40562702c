"""Metadata caches: each layer gets what it needs, as long as the budget lasts."""

from hypothesis import given
from hypothesis import strategies as st

from openvstorage.vpool.backends.layers.caches import FLOOR, need, shares

MIB, GIB, TIB = 1024**2, 1024**3, 1024**4


def test_a_megabyte_covers_eight_gibibytes() -> None:
    assert need(128 * GIB, None) == 16 * MIB


def test_a_frozen_layer_needs_no_more_than_its_file_has() -> None:
    assert need(128 * GIB, 3 * MIB) == 3 * MIB
    assert need(128 * GIB, TIB) == 16 * MIB


def test_every_layer_of_a_large_vdisk_is_covered_whole() -> None:
    assert shares([16 * MIB] * 6, 128 * MIB) == [16 * MIB] * 6


def test_what_the_small_ones_leave_goes_to_the_large_ones() -> None:
    assert shares([128 * MIB, 2 * MIB, 128 * MIB, FLOOR], 64 * MIB) == [61 * MIB // 2, 2 * MIB, 61 * MIB // 2, FLOOR]


@given(st.lists(st.integers(FLOOR, 256 * MIB), min_size=1, max_size=33), st.integers(1, 256 * MIB))
def test_nobody_gets_less_than_the_floor_or_more_than_it_needs_and_the_budget_holds(
    needs: list[int], budget: int
) -> None:
    granted = shares(needs, budget)
    assert all(FLOOR <= share <= wanted for share, wanted in zip(granted, needs, strict=True))
    assert sum(granted) <= max(budget, FLOOR * len(needs))
    if sum(needs) <= budget:
        assert granted == needs
