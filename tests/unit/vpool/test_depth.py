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


def test_every_eighth_layer_absorbs_a_power_of_eight() -> None:
    assert [absorbed_by(n) for n in (0, 1, 7, 8, 16, 56, 64, 72, 512, 576)] == [0, 0, 0, 8, 8, 8, 64, 8, 512, 64]


def test_a_hundred_live_snapshots_are_at_most_fourteen_deep() -> None:
    parents = grow(101)
    assert len(chain_of(parents, 100)) <= 10
    assert max(len(chain_of(parents, n)) for n in parents) <= 16


@given(st.integers(1, 2000))
def test_depth_grows_with_the_logarithm(layers: int) -> None:
    parents = grow(layers)
    assert max(len(chain_of(parents, n)) for n in parents) <= 7 * 4 + 2


def test_a_head_that_lies_where_it_should_is_left_alone() -> None:
    assert skip_target([8, 0]) is None
    assert skip_target([9, 8, 7]) is None
    assert skip_target([8]) is None
