"""What is kept of a run: everything as JSON, a table for people, and a plot of the ratios."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.lines import Line2D
from tests.bench.figures import Comparison, Fact, Results

#: What is further out is drawn here.
WIDEST = 2.5
GOOD, BAD, NEUTRAL = "#2f7d4f", "#b3402a", "#5a6b7b"


def keep(results: Results, about: dict[str, Any], output: Path) -> None:
    """Write ``bench.json``, ``bench.md`` and ``bench.png``.

    :param about: when, where and how it was measured.
    :param output: a directory; made if missing.
    """
    output.mkdir(parents=True, exist_ok=True)
    everything = {
        "about": about,
        "comparisons": [comparison.as_json() for comparison in results.comparisons],
        "facts": [fact.as_json() for fact in results.facts],
    }
    (output / "bench.json").write_text(json.dumps(everything, indent=2) + "\n")
    (output / "bench.md").write_text(as_markdown(results, about))
    if results.comparisons:
        _plot(results.comparisons, output / "bench.png")


def as_markdown(results: Results, about: dict[str, Any]) -> str:
    """:returns: the tables."""
    lines = ["# What was measured", ""]
    lines += [f"- {name}: {value}" for name, value in about.items()]
    if results.comparisons:
        lines += ["", "Medians, with the smallest and the largest sample in brackets.", ""]
        lines += ["| | | base | | other | | samples | ratio | target | |", "|---|---|---|---|---|---|---|---|---|---|"]
        lines += [_comparison_row(comparison) for comparison in results.comparisons]
    if results.facts:
        lines += ["", "| | | value | target | |", "|---|---|---|---|---|"]
        lines += [_fact_row(fact) for fact in results.facts]
    return "\n".join(lines) + "\n"


def _comparison_row(one: Comparison) -> str:
    sides = " | ".join(
        f"{side.label} | {_short(side.median)} {side.unit} ({_short(min(side.samples))}–{_short(max(side.samples))})"
        for side in (one.base, one.other)
    )
    number = len(one.other.samples)
    return f"| {one.chapter} | {one.name} | {sides} | {number} | {one.ratio:.2f} | {one.target} | {_verdict(one.met)} |"


def _fact_row(fact: Fact) -> str:
    return f"| {fact.chapter} | {fact.name} | {fact.value} {fact.unit} | {fact.target} | {_verdict(fact.met)} |"


def _verdict(met: bool | None) -> str:
    return {True: "met", False: "**missed**", None: ""}[met]


def _short(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _plot(comparisons: list[Comparison], path: Path) -> None:
    """One row for each comparison: its ratio, its target, and the spread of single samples around it."""
    rows = list(reversed(comparisons))
    figure, axes = pyplot.subplots(figsize=(11, 1.2 + 0.36 * len(rows)))
    for place, one in enumerate(rows):
        colour = {True: GOOD, False: BAD, None: NEUTRAL}[one.met]
        spread = [min(sample / one.base.median, WIDEST) for sample in one.other.samples]
        axes.plot(spread, [place] * len(spread), ".", color=colour, alpha=0.15)
        axes.plot(min(one.ratio, WIDEST), place, "o", color=colour, markersize=8)
        axes.text(WIDEST + 0.05, place, f"{one.ratio:.2f}", va="center", fontsize=8, color=colour)
        bound = one.at_most if one.at_most is not None else one.at_least
        if bound is not None:
            axes.plot([bound, bound], [place - 0.4, place + 0.4], color="black")
    axes.axvline(1, color=NEUTRAL, linewidth=0.8, linestyle=":")
    axes.set_yticks(range(len(rows)), [f"{one.name}: {one.other.label} / {one.base.label}" for one in rows], fontsize=8)
    axes.set_xlim(0, WIDEST + 0.3)
    axes.set_ylim(-1, len(rows) + 1)
    axes.set_xlabel("ratio of medians (dot, number), single samples, target (bar)", fontsize=8)
    axes.legend(
        handles=[
            Line2D([], [], marker="o", linestyle="", color=colour, label=label)
            for colour, label in ((GOOD, "target met"), (BAD, "target missed"), (NEUTRAL, "no target"))
        ],
        fontsize=8,
        loc="upper left",
        ncols=3,
    )
    figure.tight_layout()
    figure.savefig(path, dpi=130)
    pyplot.close(figure)
