"""With our wheel beside them, not one file of Cinder's or os-brick's differs from what was released."""

from __future__ import annotations

from importlib import metadata

import pytest
from tests.support.installed_files import differences

from openvstorage.brick.registration import register

RELEASED = {"os-brick": "os_brick", "cinder": "cinder", "nova": "nova"}
INSTALLED = {distribution.metadata["Name"] for distribution in metadata.distributions()}


@pytest.mark.parametrize("distribution", [name for name in RELEASED if name in INSTALLED])
def test_installed_files_are_the_released_ones(distribution: str) -> None:
    register()
    assert differences(distribution, RELEASED[distribution]) == []
