"""Device names: Open vStorage's table, and what must not leave the pool."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openvstorage.vpool.operations.errors import Refused
from openvstorage.vpool.operations.names import devicename


@pytest.mark.parametrize(
    ("name", "device"),
    [
        ("Foo Bar", "/Foo_Bar.raw"),
        ("foo-bar.rawtest", "/foo-bar.rawtest.raw"),
        ("test///folder", "/test/folder.raw"),
        ("test/.raw", "/test/.raw.raw"),
        ("//test.raw", "/test.raw"),
        ("test.RAW", "/test.RAW.raw"),
        ("volume-1", "/volume-1.raw"),
    ],
)
def test_names_become_device_names_as_in_open_vstorage(name: str, device: str) -> None:
    assert devicename(name) == device


@pytest.mark.parametrize("name", ["", "/", "..", "a/../b", "a/./b", "../x", "é", "x" * 255])
def test_names_that_leave_the_pool_or_are_empty_or_too_long_are_refused(name: str) -> None:
    with pytest.raises(Refused):
        devicename(name)


@given(st.text(max_size=300))
def test_a_device_name_is_always_harmless(name: str) -> None:
    try:
        device = devicename(name)
    except Refused:
        return
    parts = device.split("/")
    assert parts[0] == ""
    assert not {"", ".", ".."} & set(parts[1:])
    assert device.endswith(".raw")
    assert device.isascii()
    assert len(device) <= 259
