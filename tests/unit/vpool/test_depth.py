"""Skip layers: with every layer kept, chains stay short."""

from hypothesis import given
from hypothesis import strategies as st

from openvstorage.vpool.backends.layers.depth import absorbed_by, skip_target


def grow(layers: int) -> dict[int, int | None]:
    """Freeze so many layers one after the other, letting each head absorb what is due. :returns: parents."""
    parents: dict[int, int | None] = {0: None}
    for ordinal in range(1, layers):
        parents[ordinal] = ordinal - 1
        chain = chain_of(parents, ordinal)
        target = skip_target(chain)
        if target is not None:
            parents[ordinal] = chain[target]
    return parents


def chain_of(parents: dict[int, int | None], ordinal: int | None) -> list[int]:
    chain = []
    while ordinal is not None:
        chain.append(ordinal)
        ordinal = parents[ordinal]
    return chain


def test_every_fourth_layer_absorbs_a_power_of_four() -> None:
    assert [absorbed_by(n) for n in (0, 1, 3, 4, 8, 12, 16, 20, 64, 80)] == [0, 0, 0, 4, 4, 4, 16, 4, 64, 16]


def test_a_hundred_live_snapshots_are_at_most_ten_deep() -> None:
    parents = grow(101)
    assert len(chain_of(parents, 100)) == 5
    assert max(len(chain_of(parents, n)) for n in parents) == 10


@given(st.integers(1, 2000))
def test_depth_grows_with_the_logarithm(layers: int) -> None:
    parents = grow(layers)
    assert max(len(chain_of(parents, n)) for n in parents) <= 3 * 6 + 2


def test_a_head_that_lies_where_it_should_is_left_alone() -> None:
    assert skip_target([4, 0]) is None
    assert skip_target([5, 4, 3]) is None
    assert skip_target([4]) is None
