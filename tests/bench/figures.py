"""Figures: samples of one thing, and two things compared.

A figure of a shared machine says little by itself. Two series measured alternately in one run do: whatever slows the
machine down meets both, so their ratio is what is reported.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(slots=True)
class Series:
    """Samples of one thing.

    :ivar label: which side of a comparison it is.
    :ivar unit: of each sample.
    """

    label: str
    unit: str
    samples: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """The middle one."""
        return statistics.median(self.samples)

    def percentile(self, share: float) -> float:
        """:returns: the sample below which this share (0 to 1) of all lie."""
        ordered = sorted(self.samples)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def as_json(self) -> dict[str, Any]:
        """:returns: all there is to keep."""
        return {
            "label": self.label,
            "unit": self.unit,
            "n": len(self.samples),
            "median": self.median,
            "min": min(self.samples),
            "max": max(self.samples),
            "p95": self.percentile(0.95),
            "samples": self.samples,
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two series of one run.

    :ivar base: what the other is held against.
    :ivar at_most: the ratio of medians (other / base) that is aimed at, from above; None if it has no such bound.
    :ivar at_least: the same from below.
    """

    chapter: str
    name: str
    base: Series
    other: Series
    at_most: float | None = None
    at_least: float | None = None

    @property
    def ratio(self) -> float:
        """Median of the other by median of the base."""
        return self.other.median / self.base.median

    @property
    def target(self) -> str:
        """The aim in words."""
        if self.at_most is not None:
            return f"at most {self.at_most:g}"
        return f"at least {self.at_least:g}" if self.at_least is not None else ""

    @property
    def met(self) -> bool | None:
        """Whether the aim is reached; None without one."""
        if self.at_most is not None:
            return self.ratio <= self.at_most
        return self.ratio >= self.at_least if self.at_least is not None else None

    def as_json(self) -> dict[str, Any]:
        """:returns: all there is to keep."""
        return {
            "chapter": self.chapter,
            "name": self.name,
            "ratio": self.ratio,
            "target": self.target,
            "met": self.met,
            "base": self.base.as_json(),
            "other": self.other.as_json(),
        }


@dataclass(frozen=True, slots=True)
class Fact:
    """A single figure beside the comparisons, such as a number of errors.

    :ivar met: whether it is as wanted; None if nothing particular is wanted.
    """

    chapter: str
    name: str
    value: float | int | str
    unit: str = ""
    target: str = ""
    met: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """:returns: all there is to keep."""
        return {
            "chapter": self.chapter,
            "name": self.name,
            "value": self.value,
            "unit": self.unit,
            "target": self.target,
            "met": self.met,
        }


@dataclass(slots=True)
class Results:
    """What one run found."""

    comparisons: list[Comparison] = field(default_factory=list)
    facts: list[Fact] = field(default_factory=list)

    def extend(self, other: Results) -> None:
        """Take in what a chapter found."""
        self.comparisons += other.comparisons
        self.facts += other.facts


class Stopwatch:
    """Times named actions on several sides, in milliseconds."""

    def __init__(self, sides: Iterable[str]) -> None:
        self._sides = list(sides)
        self._series: dict[str, dict[str, Series]] = {}

    def time(self, action: str, side: str, function: Callable[[], T]) -> T:
        """Run ``function`` and keep how long it took. :returns: what it returns."""
        started = time.perf_counter()
        result = function()
        self.add(action, side, time.perf_counter() - started)
        return result

    def add(self, action: str, side: str, seconds: float) -> None:
        """Keep a sample that was taken elsewhere."""
        sides = self._series.setdefault(action, {name: Series(name, "ms") for name in self._sides})
        sides[side].samples.append(seconds * 1000)

    def clear(self) -> None:
        """Forget what was measured so far: it was for warming up."""
        self._series.clear()

    def comparisons(self, chapter: str, *, at_most: float | None) -> list[Comparison]:
        """:returns: each action on the second side against the first."""
        base, other = self._sides
        return [
            Comparison(chapter, action, sides[base], sides[other], at_most=at_most)
            for action, sides in self._series.items()
        ]
