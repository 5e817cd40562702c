"""The entry point that Glance imports, where there is neither Glance nor os-brick."""

from __future__ import annotations

import logging
from importlib import metadata

import pytest

from openvstorage.brick import glance


def test_entry_point_is_ours_and_can_be_loaded() -> None:
    (entry,) = metadata.entry_points(group="glance_store.drivers", name="openvstorage")
    assert entry.load() is glance.NoStore
    assert glance.NoStore.OPTIONS is None


def test_missing_store_is_no_fault(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert glance.register() is False
    assert [record.levelname for record in caplog.records] == ["DEBUG"]


def test_it_is_no_store() -> None:
    with pytest.raises(RuntimeError, match="configure the store 'cinder'"):
        glance.NoStore(None, "volumes")
