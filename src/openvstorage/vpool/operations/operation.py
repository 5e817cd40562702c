"""What an operation is: a change that either happens whole or is taken back, whenever the process dies.

An operation says in :meth:`Operation.begin` what it intends (rows, in one transaction with its journal entry), changes
bytes in its steps, and says in :meth:`Operation.finish` what is true now. Every identifier is chosen in ``begin``, so
each step can be repeated after a crash. Steps are named at class level: the journal runs them, and the crash tests
enumerate them, so that none can be forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy.ext.asyncio import AsyncSession

if TYPE_CHECKING:
    from openvstorage.vpool.operations.context import Context


@dataclass(frozen=True, slots=True)
class Step:
    """A step of an operation: the method of that name.

    :ivar commit: its beginning is committed first. Recovery resumes at the last committed step, so a step whose
        effect must not be repeated from an earlier one has this set.
    """

    name: str
    commit: bool = False


class Operation:
    """Base of all operations.

    :cvar type: its name in the journal.
    :cvar steps: what happens between begin and finish.
    :cvar frees: it gives room back, or a guest waits for it, so it must be possible on a full disk.
    :cvar forward: once begun it is never taken back, only finished, at the latest after the next start.
    :ivar phase: the last step whose beginning was committed, empty for none.
    """

    type: ClassVar[str]
    steps: ClassVar[tuple[Step, ...]] = ()
    forward: ClassVar[bool] = False
    frees: ClassVar[bool] = False

    def __init__(self, context: Context, args: dict[str, Any]) -> None:
        self.context = context
        self.args = args
        self.phase = ""

    @property
    def vdisk(self) -> str:
        """Guid of the vDisk that is changed."""
        return str(self.args["vdisk_guid"])

    def locks(self) -> tuple[str, ...]:
        """:returns: guids of the vDisks that nobody else may change meanwhile."""
        return (self.vdisk,)

    @classmethod
    def accept(cls, args: dict[str, Any]) -> dict[str, Any]:
        """Complete a task's arguments before they are kept, with identifiers that must survive a restart."""
        return args

    async def prepare(self) -> None:
        """Checks that need no transaction, such as room in the pool; and operations that must come first."""

    async def begin(self, session: AsyncSession) -> None:
        """Check the request against the model and record what is intended, in ``args`` too.

        :raises OperationError: refused; nothing has happened.
        """

    def skips(self, step: Step) -> bool:
        """:returns: whether this step is not needed; asked once after :meth:`begin`, and again in recovery."""
        return False

    async def finish(self, session: AsyncSession) -> Any:
        """Record what is true now. :returns: the task's result (JSON)."""
        return None

    async def give_up(self) -> None:
        """Stop what the steps have set going, and note in ``args`` what :meth:`abort`, which follows, has to know.

        If it raises, the operation stays in the journal and is tried again.
        """

    async def abort(self, session: AsyncSession) -> None:
        """Take back what :meth:`begin` recorded."""

    async def recover(self, phase: str) -> bool:
        """Decide what to do after a restart.

        :param phase: the last step whose beginning was committed, empty for none.
        :returns: True to go on from there, False to take the operation back.
        """
        return True

    async def after(self) -> None:
        """Tidy up; not needed for correctness, repeated by the housekeeping if it is cut off."""

    async def after_failure(self) -> None:
        """The same after :meth:`abort`, or when :meth:`begin` or :meth:`prepare` has refused."""
