"""Skip layers: with every layer kept, chains stay short."""

from hypothesis import given
from hypothesis import strategies as st

from openvstorage.vpool.backends.layers.depth import absorbed_by, best_depth, skip_target


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


def test_a_head_over_layers_that_missed_their_turn_catches_up() -> None:
    chain = list(range(100, -1, -1))
    target = skip_target(chain)
    assert target is not None
    assert len(chain[target:]) + 1 == best_depth(100) == 5


def test_catching_up_leaves_the_bottom_layer_alone() -> None:
    for head in range(1, 200):
        target = skip_target(list(range(head, -1, -1)))
        assert target is None or target <= head


@given(st.integers(1, 2000))
def test_nobody_catches_up_who_missed_nothing(layers: int) -> None:
    parents = grow(layers)
    assert all(len(chain_of(parents, n)) == best_depth(n) for n in parents)
