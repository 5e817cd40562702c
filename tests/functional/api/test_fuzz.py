"""What the OpenAPI document allows, and what it does not, finds no fault in the service. Longer runs: tests.fuzz."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz import fuzz
from tests.support.vpool_service import VpoolService


def test_nothing_makes_the_service_fail(tmp_path: Path) -> None:
    with VpoolService(tmp_path / "data") as service:  # its own: cases delete whatever they find
        report = fuzz(service, cases=1500)
    assert report.failures == []
    assert report.cases >= 1500
    # The cases have reached what they are about, and not only the refusals before it.
    assert min(report.statuses[status] for status in (200, 400, 404, 406)) > 50
