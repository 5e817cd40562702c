"""The report of a tour: what was done, how long it took, and the evidence that it worked."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

__all__ = ["Report", "StepReport"]


@dataclass(frozen=True, slots=True)
class StepReport:
    """One step.

    :ivar name: what was to be shown.
    :ivar command: what was typed, or the program that was run.
    :ivar seconds: how long it took, evidence included.
    :ivar ok: whether it did what it should.
    :ivar evidence: what an independent path saw; of a failed step the reason.
    """

    name: str
    command: str
    seconds: float
    ok: bool
    evidence: str


@dataclass(slots=True)
class Report:
    """The steps of one tour, kept in a JSON file that is complete after every step.

    :ivar file: gets a list of objects with the fields of :class:`StepReport`.
    """

    file: Path
    steps: list[StepReport] = field(default_factory=list)

    def add(self, step: StepReport) -> None:
        """Add a step and write the file. Raises OSError."""
        self.steps.append(step)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.file.with_name(f".{self.file.name}.new")
        fresh.write_text(json.dumps([asdict(each) for each in self.steps], indent=2) + "\n")
        fresh.replace(self.file)

    @property
    def ok(self) -> bool:
        """Whether there were steps and none failed."""
        return bool(self.steps) and all(step.ok for step in self.steps)
