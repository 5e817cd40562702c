"""How layers are opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from openvstorage.vpool.backends.layers.nodes import NodeOptions, layer_nodes


def opened(*, in_place: bool, subclusters: bool) -> dict[str, Any]:
    options = NodeOptions("threads", False, 1 << 20, discards_in_place=in_place, guards_zeroes=True)
    layer = layer_nodes("00", Path("/a"), None, options, read_only=False, cache=1 << 20, subclusters=subclusters)[1]
    return {name: value for name, value in layer.items() if name.startswith("discard")}


def test_discards_reach_a_layer_with_subclusters_only_in_place() -> None:
    assert opened(in_place=True, subclusters=True) == {"discard": "unmap", "discard-no-unref": True}


@pytest.mark.parametrize(("in_place", "subclusters"), [(True, False), (False, True), (False, False)])
def test_elsewhere_discards_are_ignored(in_place: bool, subclusters: bool) -> None:
    assert opened(in_place=in_place, subclusters=subclusters) == {"discard": "ignore"}
