"""Which paused guests are told to go on."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from openvstorage.nova.resume import is_paused_by_an_error


@pytest.mark.parametrize(
    ("reason", "errors", "failed"),
    [("IOERROR", {"vda": 1}, True), ("UNKNOWN", {"vda": 1}, True), ("UNKNOWN", {}, False), ("USER", {"vda": 1}, False)],
    ids=["failed", "failed-again-at-once", "unknown", "by-its-user"],
)
def test_guest_is_told_to_go_on_only_if_a_request_failed(reason, errors, failed) -> None:
    """What libvirt said of real guests; the second when one paused again while it was being resumed."""
    libvirt = pytest.importorskip("libvirt")
    state = [libvirt.VIR_DOMAIN_PAUSED, getattr(libvirt, f"VIR_DOMAIN_PAUSED_{reason}")]
    assert is_paused_by_an_error(SimpleNamespace(state=lambda: state, diskErrors=lambda: errors)) is failed
