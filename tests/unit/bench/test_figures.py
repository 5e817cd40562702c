"""The bench's figures: ratios, targets and what is kept."""

import json
from pathlib import Path

import pytest
from tests.bench import report
from tests.bench.figures import Comparison, Fact, Results, Series, Stopwatch


def comparison(base: list[float], other: list[float], **bounds: float) -> Comparison:
    return Comparison("chapter", "call", Series("few", "ms", base), Series("many", "ms", other), **bounds)


def test_the_ratio_is_of_medians() -> None:
    assert comparison([1, 2, 900], [3, 3, 1]).ratio == 1.5


@pytest.mark.parametrize(("other", "met"), [(1.3, True), (1.31, False)])
def test_a_bound_from_above(other: float, met: bool) -> None:
    assert comparison([1], [other], at_most=1.3).met is met


@pytest.mark.parametrize(("other", "met"), [(0.8, True), (0.79, False)])
def test_a_bound_from_below(other: float, met: bool) -> None:
    assert comparison([1], [other], at_least=0.8).met is met


def test_nothing_is_met_without_a_bound() -> None:
    assert comparison([1], [2]).met is None


def test_warming_up_is_forgotten() -> None:
    watch = Stopwatch(["few", "many"])
    watch.add("call", "few", 9)
    watch.clear()
    watch.add("call", "few", 0.001)
    watch.add("call", "many", 0.002)
    (one,) = watch.comparisons("chapter", at_most=1.3)
    assert (one.base.samples, one.other.samples, one.ratio) == ([1], [2], 2)


def test_a_missed_target_is_shown_and_everything_kept(tmp_path: Path) -> None:
    results = Results([comparison([1, 2, 3], [4, 4, 4], at_most=1.3)], [Fact("chapter", "errors", 0, "", "none", True)])
    report.keep(results, {"load": "0.1"}, tmp_path)
    assert "| call | few | 2.0 ms (1.0–3.0) | many | 4.0 ms (4.0–4.0) | 3 | 2.00 | at most 1.3 | **missed** |" in (
        tmp_path / "bench.md"
    ).read_text(encoding="utf-8")
    kept = json.loads((tmp_path / "bench.json").read_text())
    assert kept["comparisons"][0]["base"]["samples"] == [1, 2, 3]
    assert kept["facts"][0]["met"] is True
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
