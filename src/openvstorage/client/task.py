"""Tasks: almost every change in a cluster is one. They are started by a call and end on their own."""

import logging
from collections.abc import Mapping
from typing import Any

from openvstorage.client import failures
from openvstorage.client.caller import Caller
from openvstorage.client.clock import growing
from openvstorage.client.errors import TaskLost, TaskRevoked, TaskTimeout, UnexpectedAnswer
from openvstorage.client.fields import mapping
from openvstorage.client.names import segment

__all__ = ["TASK_SECONDS", "Tasks"]

LOG = logging.getLogger(__name__)

TASK_SECONDS = 300.0
# The service may hold an answer for up to 60 s. Less is asked for, because a node that dies without closing its
# connections is noticed only after this time and the client's timeout together.
_HOLD_SECONDS = 20.0


class Tasks:
    """Starting tasks and waiting for them; thread-safe.

    :param lost_after: seconds in a row after which a PENDING task counts as lost. A cluster answers PENDING for ids it
        does not know, so this is the only sign; but a task that waits for its turn is PENDING too.
    """

    def __init__(self, caller: Caller, lost_after: float = 180.0) -> None:
        self._caller = caller
        self._clock = caller.clock
        self._lost_after = lost_after

    def run(self, path: str, body: Mapping[str, Any] | None = None, timeout: float = TASK_SECONDS) -> Any:
        """Start a task by ``POST path`` and wait for it. Blocks.

        :returns: the task's result.
        :raises Refused: if the request is refused, or the task fails. :raises TaskError: see :meth:`wait`.
        :raises TransportError: if the request found no answer.
        """
        task_id = self._caller.post(path, body)
        if not isinstance(task_id, str):
            raise UnexpectedAnswer(where=path, reason="a task's id was expected")
        return self.wait(task_id, timeout)

    def wait(self, task_id: str, timeout: float = TASK_SECONDS) -> Any:
        """Wait until a task has ended. Blocks; where the cluster can hold the answer there is no polling delay.

        :param task_id: as the call that started it gave it.
        :param timeout: seconds.
        :returns: its result, any JSON value.
        :raises Refused: if it failed: the class that its code stands for, or its words, else ``TaskFailed``.
        :raises TaskTimeout: if it is not ready in time; it goes on and can be waited for again.
        :raises TaskLost: if it stays PENDING for too long. :raises TaskRevoked: if it was revoked.
        :raises TransportError: if no address answers.
        """
        start = self._clock.monotonic()
        held = "task_wait" in self._caller.features()
        pauses = growing(0.005, 1.5, 2.0)
        not_pending = start
        while True:
            asked = self._clock.monotonic()
            left = start + timeout - asked
            hold = max(0.0, min(_HOLD_SECONDS, left)) if held else 0.0
            task = self._ask(task_id, hold)
            if task.get("status") in ("SUCCESS", "FAILURE", "REVOKED"):
                return _result(task_id, task, self._clock.monotonic() - start)
            now = self._clock.monotonic()
            if task.get("status") != "PENDING":
                not_pending = now
            if now - start >= timeout:
                raise TaskTimeout(task_id=task_id, seconds=now - start)
            if now - not_pending >= self._lost_after:
                raise TaskLost(task_id=task_id, seconds=now - not_pending)
            # A service that answers a held call at once (it is stopping, or its limit is lower) is not asked in a
            # tight loop.
            if now - asked < hold / 2 or not hold:
                self._clock.sleep(max(0.0, min(next(pauses), start + timeout - now)))

    def _ask(self, task_id: str, hold: float) -> Mapping[str, Any]:
        params = {"wait": f"{hold:.3f}"} if hold else {}
        path = f"tasks/{segment(task_id)}/"
        return mapping(self._caller.get(path, params, hold_seconds=hold), path)


def _result(task_id: str, task: Mapping[str, Any], seconds: float) -> Any:
    if task["status"] == "REVOKED":
        raise TaskRevoked(task_id=task_id, seconds=seconds)
    if task["status"] == "FAILURE":
        raise failures.from_task(task_id, task.get("result"), task.get("error_code"))
    return task.get("result")
