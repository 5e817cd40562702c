"""An image: what a snapshot, a read or a vDisk at rest may hold, and whether it does.

Where requests were under way several values are possible. Which of them are found must fit together: what a write
left is seen only if everything that was answered before it was sent is seen as well, on all vDisks of one instant.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from tests.torture.content import Values, name

if TYPE_CHECKING:
    from tests.torture.model import Op

__all__ = ["Cut", "Image", "Wrong"]


@dataclass(frozen=True)
class Wrong:
    """A block that holds what it must not. :ivar block: its number. :ivar found: a value."""

    block: int
    expected: tuple[int, ...]
    found: int


@dataclass
class Cut:
    """The instant of a snapshot, as far as what was found in it tells; one for all members of a group.

    :ivar after: the latest sending of a write that is seen, :ivar before: the earliest answer of one that is not.
    """

    after: int = 0
    before: float = float("inf")
    seen: str = ""
    missing: str = ""
    reported: bool = False

    def narrow(self, disk: str, found: int, ops: Sequence[Op]) -> None:
        """Take in what one block tells. :param ops: what was possible there."""
        matching = [op for op in ops if found in op.values]
        if not matching:
            return
        sent = min(op.sent for op in matching)
        if sent > self.after:
            self.after, self.seen = sent, f"{disk}: {min(matching, key=lambda op: op.sent)}"
        for op in ops:
            if not op.certain or op.answered is None or found in op.values or op.answered >= self.before:
                continue
            if all(other.answered is not None and other.answered < op.sent for other in matching):
                self.before, self.missing = op.answered, f"{disk}: {op}"

    def contradiction(self) -> str | None:
        """:returns: why there is no such instant, once; None if there is one."""
        if self.reported or self.after <= self.before:
            return None
        self.reported = True
        return f"not of one instant: it has [{self.seen}], but not [{self.missing}], which had been answered before"


@dataclass
class Image:
    """Values by block.

    :ivar settled: where only one value is possible.
    :ivar choices: what else is possible, by block; stands over ``settled``.
    :ivar first: number of the first block.
    """

    settled: Values
    choices: dict[int, list[Op]] = field(default_factory=dict)
    first: int = 0

    @classmethod
    def empty(cls, blocks: int) -> Image:
        """:returns: zeroes."""
        return cls(np.zeros(blocks, np.uint64))

    @property
    def blocks(self) -> int:
        """Its size."""
        return len(self.settled)

    def grown(self, blocks: int) -> Image:
        """:returns: a copy with so many blocks, the new ones zeroes."""
        more = np.zeros(blocks - self.blocks, np.uint64)
        return Image(np.concatenate([self.settled, more]), dict(self.choices), self.first)

    def allowed(self) -> Mapping[int, tuple[int, ...]]:
        """:returns: the possible values of blocks that have several."""
        return {block: _values(ops) for block, ops in self.choices.items()}

    def compare(
        self, values: Values, first: int, *, cut: Cut | None = None, disk: str = "", keep: bool = False
    ) -> list[Wrong]:
        """Compare with what was read.

        :param values: of the blocks from ``first`` on.
        :param cut: what is found is taken into it.
        :param keep: hold the image to what was found from now on.
        :returns: the blocks that are wrong.
        """
        begin = first - self.first
        mine = self.settled[begin : begin + len(values)]
        different = np.flatnonzero(mine != values) + first
        wrong = [
            Wrong(block, (int(mine[block - first]),), int(values[block - first]))
            for block in different.tolist()
            if block not in self.choices
        ]
        end = first + len(values)
        inside = range(first, end) if len(values) < len(self.choices) else list(self.choices)
        for block in [block for block in inside if block in self.choices and first <= block < end]:
            ops, found = self.choices[block], int(values[block - first])
            allowed = _values(ops)
            if found not in allowed:
                wrong.append(Wrong(block, allowed, found))
            elif cut is not None:
                cut.narrow(disk, found, ops)
            if keep:
                del self.choices[block]
        if keep:
            mine[:] = values
        return sorted(wrong, key=lambda one: one.block)


def _values(ops: Sequence[Op]) -> tuple[int, ...]:
    return tuple(sorted({value for op in ops for value in op.values}))


def words(values: Sequence[int]) -> str:
    """:returns: values for a person."""
    return " or ".join(name(value) for value in values)
