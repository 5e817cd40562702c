"""The driver among Cinder's drivers: its interfaces, and an environment that has nothing of the service."""

from __future__ import annotations

import importlib.util
import inspect
import pkgutil

import pytest
from cinder.interface import (
    volume_driver,
    volume_snapshot_revert,
)
from cinder.volume import driver as base

import openvstorage.cinder
import openvstorage.client
import openvstorage.edge
from openvstorage.cinder.driver import OpenvStorageEdgeVolumeDriver


def test_nothing_of_the_service_is_needed() -> None:
    for extra in ("fastapi", "uvicorn", "aiosqlite", "typer", "qemu"):
        assert importlib.util.find_spec(extra) is None, f"{extra} hides a missing import"
    assert "site-packages" in str(openvstorage.cinder.__file__)
    for room in (openvstorage.client, openvstorage.edge, openvstorage.cinder):
        for module in pkgutil.walk_packages(room.__path__, f"{room.__name__}."):
            importlib.import_module(module.name)


def test_it_is_a_volume_driver_for_cinder() -> None:
    assert issubclass(OpenvStorageEdgeVolumeDriver, volume_driver.VolumeDriverCore)
    assert issubclass(OpenvStorageEdgeVolumeDriver, volume_snapshot_revert.VolumeSnapshotRevertDriver)
    assert OpenvStorageEdgeVolumeDriver.SUPPORTED


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, member in vars(OpenvStorageEdgeVolumeDriver).items()
        if inspect.isfunction(member) and hasattr(base.VolumeDriver, name) and name != "__init__"
    ],
)
def test_methods_take_what_cinder_passes(name: str) -> None:
    """By name and in order: Cinder passes both ways."""
    ours = list(inspect.signature(getattr(OpenvStorageEdgeVolumeDriver, name)).parameters)
    theirs = list(inspect.signature(getattr(base.VolumeDriver, name)).parameters)
    assert ours[: len(theirs)] == theirs
