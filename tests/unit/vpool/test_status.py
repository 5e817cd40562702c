"""What ``openvstorage status`` tells of a service that does not run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from openvstorage.vpool.access import authority
from openvstorage.vpool.pool import PoolDirectory
from openvstorage.vpool.status import status


def header(*, subclusters: bool) -> bytes:
    """The first bytes of a qcow2 image, as far as they are looked at."""
    return bytes(72) + (16 if subclusters else 0).to_bytes(8, "big")


@pytest.mark.parametrize(("in_place", "ignoring"), [(True, 2), (False, 3)])
def test_the_layers_that_give_no_space_back_are_counted(tmp_path: Path, in_place: bool, ignoring: int) -> None:
    directory = PoolDirectory(tmp_path)
    authority.ensure(directory.tls, ["127.0.0.1"])
    directory.layers.mkdir()
    for name, subclusters in (("a", False), ("b", False), ("c", True)):
        (directory.layers / f"{name}.qcow2").write_bytes(header(subclusters=subclusters))
    state = {"pid": 1, "start_time": 0, "boot_id": "another", "discards_in_place": in_place}
    directory.state_file.write_text(json.dumps(state))
    told = status(tmp_path)
    assert (told["layers"], told["layers_ignoring_discards"]) == (3, ignoring)
    assert "discards_in_place" not in told
