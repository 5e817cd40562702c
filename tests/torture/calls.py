"""Calls of the management API, and what may come of them: only beside a kill may they be refused."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from tests.torture.pool import Pool
from tests.torture.report import Report

from openvstorage.client import Client, NotFound, OpenvStorageError, Refused

__all__ = ["Calls"]

#: Seconds within which what is insisted upon must have succeeded.
INSIST_SECONDS = 400.0
#: Seconds that a writer has for what it is asked.
WRITER_SECONDS = 1000.0
#: Refusals that need no kill: the instant that a group shares could not be had.
_EXCUSED = ("the group snapshot was given up",)

T = TypeVar("T")


class Calls:
    """See above. Thread-safe."""

    def __init__(self, pool: Pool, report: Report) -> None:
        self.pool = pool
        self.report = report

    def attempt(self, what: str, call: Callable[[Client], T]) -> T | None:
        """Do something that may be refused beside a kill. :returns: its result, None when it was refused."""
        began = time.monotonic()
        try:
            result = call(self.pool.client)
        except Refused as error:
            self._refused(what, error, began)
            return None
        except OpenvStorageError as error:
            self._unanswered(what, error, began)
            return None
        self.report.count("operations", what)
        return result

    def insist(self, what: str, call: Callable[[Client], T], *, gone_is_done: bool = False) -> T | None:
        """Do something until it succeeds, again and again beside kills.

        :param gone_is_done: that its object does not exist is a success, once it was tried before.
        :returns: its result; None when it did not succeed, which is a violation.
        """
        began = time.monotonic()
        for attempt in range(1_000_000):
            tried = time.monotonic()
            try:
                result = call(self.pool.client)
            except OpenvStorageError as error:
                if gone_is_done and attempt and isinstance(error, NotFound):
                    return None
                if isinstance(error, Refused):
                    self._refused(what, error, tried)
                else:
                    self._unanswered(what, error, tried)
                if time.monotonic() - began > INSIST_SECONDS or not self.pool.disturbed(tried):
                    self.report.violated("operation", f"{what}: never succeeded: {error}")
                    return None
                time.sleep(1)
                continue
            self.report.count("operations", what)
            return result
        return None

    def wait(self, what: str, future: Future[Any]) -> Any:
        """Wait for what a writer was asked. :returns: its answer; None when it failed, which is a violation."""
        try:
            return future.result(WRITER_SECONDS)
        except FutureTimeout:
            self.report.violated("hang", f"{what}: not within {WRITER_SECONDS:.0f} s")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told
            self.report.violated("writer", f"{what}: {type(error).__name__}: {error}")
        return None

    def _refused(self, what: str, error: Refused, began: float) -> None:
        excused = any(text in str(error) for text in _EXCUSED)
        self.report.log("calls", "refused", call=what, error=str(error))
        if excused or self.pool.disturbed(began):
            self.report.count("refused", f"{what}, beside a kill" if not excused else what)
        else:
            self.report.violated("refused", f"{what}: {type(error).__name__}: {error}")

    def _unanswered(self, what: str, error: OpenvStorageError, began: float) -> None:
        seconds = time.monotonic() - began
        self.report.violated("not answered", f"{what}: after {seconds:.0f} s: {type(error).__name__}: {error}")
