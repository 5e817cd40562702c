"""Which steps a tour has."""

from pathlib import Path
from unittest.mock import MagicMock

import pytest

from openvstorage.aio.tour import Tour


@pytest.mark.parametrize(
    ("has_instances", "storage_only", "last"),
    [
        (True, False, "delete the instance and its volumes"),
        (True, True, "delete the rest at once"),
        (False, False, "delete the rest at once"),
    ],
)
def test_instances_are_in_it_where_there_are_any_and_they_are_not_left_out(
    tmp_path: Path, has_instances: bool, storage_only: bool, last: str
) -> None:
    cloud = MagicMock()
    cloud.has_instances = has_instances
    tour = Tour(cloud, MagicMock(), tmp_path / "report.json", storage_only=storage_only)
    assert tour._steps(MagicMock(), MagicMock(), tmp_path / "image")[-1][0] == last
