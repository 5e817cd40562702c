"""What a run did and found: counts, violations, the log of what was decided; JSON, and a table for the terminal."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

__all__ = ["Report", "Violation"]

#: One fault can make a million blocks wrong; so many violations are told of one vDisk and kind.
MOST_ALIKE = 25
#: Characters of one violation's text that are kept, and that are shown.
LONGEST, SHOWN = 4000, 400


@dataclass(frozen=True)
class Violation:
    """Something that must not be.

    :ivar kind: such as ``wrong block`` or ``hang``. :ivar what: one sentence.
    :ivar after: seconds since the run began.
    """

    kind: str
    what: str
    seed: int
    after: float
    vdisk: str = ""
    offset: int | None = None
    expected: str = ""
    found: str = ""
    history: list[str] = field(default_factory=list)


class Report:
    """Thread-safe. :param directory: where ``report.json`` and ``plan.jsonl`` are kept; made if missing."""

    def __init__(self, directory: Path, settings: dict[str, Any]) -> None:
        self.directory = directory
        self.settings = settings
        self.seed = int(settings["seed"])
        self.violations: list[Violation] = []
        self.unreported = 0
        self._lock = threading.Lock()
        self._counts: dict[str, Counter[str]] = {}
        self._alike: Counter[tuple[str, str]] = Counter()
        self._began = time.monotonic()
        directory.mkdir(parents=True, exist_ok=True)
        self._plan = (directory / "plan.jsonl").open("a")

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began

    def count(self, group: str, kind: str, number: int = 1) -> None:
        """Count. :param group: such as ``operations``, ``requests``, ``kills``."""
        with self._lock:
            self._counts.setdefault(group, Counter())[kind] += number

    def counted(self, group: str) -> int:
        """:returns: all of a group."""
        with self._lock:
            return sum(self._counts.get(group, Counter()).values())

    def log(self, who: str, what: str, **details: Any) -> None:
        """Keep a decision or its outcome in the plan."""
        line = {"at": round(self.seconds, 3), "who": who, "what": what, **details}
        with self._lock:
            self._plan.write(json.dumps(line, default=str) + "\n")
            self._plan.flush()

    def violated(self, kind: str, what: str, **details: Any) -> None:
        """Keep a violation, and say so at once."""
        what = what if len(what) <= LONGEST else f"{what[:LONGEST]} ..."
        with self._lock:
            self._counts.setdefault("violations", Counter())[kind] += 1
            alike = (kind, str(details.get("vdisk", "")))
            self._alike[alike] += 1
            if self._alike[alike] > MOST_ALIKE:
                self.unreported += 1
                return
            violation = Violation(kind, what, self.seed, round(self.seconds, 3), **details)
            self.violations.append(violation)
        print(f"VIOLATION after {violation.after:.1f} s: {kind}: {what[:SHOWN]}", flush=True)
        self.log("report", "violation", kind=kind, text=what)

    def figures(self) -> dict[str, Any]:
        """:returns: everything, as it is kept."""
        with self._lock:
            return {
                "settings": self.settings,
                "seconds": round(self.seconds, 1),
                "counts": {group: dict(sorted(counts.items())) for group, counts in sorted(self._counts.items())},
                "violations": [asdict(violation) for violation in self.violations],
                "violations not told": self.unreported,
            }

    def keep(self) -> Path:
        """Write ``report.json``. :returns: its path."""
        path = self.directory / "report.json"
        path.write_text(json.dumps(self.figures(), indent=2) + "\n")
        return path

    def show(self, console: Console) -> None:
        """Print the table."""
        figures = self.figures()
        table = Table(title=f"torture: seed {self.seed}, {figures['seconds']:.0f} s", title_justify="left")
        for column, justify in (("group", "left"), ("kind", "left"), ("number", "right")):
            table.add_column(column, justify=justify)  # type: ignore[arg-type]
        for group, counts in figures["counts"].items():
            for index, (kind, number) in enumerate(counts.items()):
                table.add_row("" if index else group, kind, f"{number:,}")
            table.add_section()
        console.print(table)
        for violation in self.violations[:10]:
            console.print(
                f"[bold]{violation.kind}[/bold] after {violation.after:.1f} s: {violation.what[:SHOWN]}",
                highlight=False,
            )
        console.print(f"{self.counted('violations')} violations")

    def close(self) -> None:
        """End the plan's file."""
        self._plan.close()
