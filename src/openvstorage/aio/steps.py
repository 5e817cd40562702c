"""Steps: work with dependencies, done in parallel, with progress shown.

A step runs in a thread as soon as the steps it needs are done. After a failure no further step starts; those that run
are waited for, then the first error is raised.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from rich.console import Console

__all__ = ["Step", "run_steps"]


@dataclass(frozen=True, slots=True)
class Step:
    """One piece of work.

    :ivar name: unique, as other steps name it in ``needs``.
    :ivar says: what it does, shown while it runs.
    :ivar action: does it; returns a word about the outcome ("found", "12 MB") or None.
    :ivar needs: names of steps that must have ended before.
    """

    name: str
    says: str
    action: Callable[[], str | None]
    needs: tuple[str, ...] = ()


def run_steps(
    steps: Sequence[Step], console: Console, give_up: Callable[[], None] = lambda: None, workers: int = 5
) -> dict[str, float]:
    """Run all steps and return the seconds each took. Blocks.

    :param steps: the most urgent first: of those that could run now, the first ones do.
    :param workers: how many run at once; some only wait, so more than there are processors.
    :param give_up: called after a failure or an interrupt, to make the steps that still run end soon.
    Raises ValueError for a need that no step satisfies, what the first failing step raised, KeyboardInterrupt.
    """
    unknown = {need for step in steps for need in step.needs} - {step.name for step in steps}
    if unknown:
        raise ValueError(f"no step is named {sorted(unknown)}")
    waiting = list(steps)
    running: dict[Future[str | None], tuple[Step, float]] = {}
    seconds: dict[str, float] = {}
    failure: BaseException | None = None
    with ThreadPoolExecutor(workers) as pool, console.status("") as status:
        try:
            while waiting or running:
                ready = [] if failure else [step for step in waiting if seconds.keys() >= set(step.needs)]
                # What becomes ready later may be more urgent than what is, so nothing is queued.
                for step in ready[: workers - len(running)]:
                    waiting.remove(step)
                    running[pool.submit(step.action)] = (step, time.monotonic())
                if not running:
                    break
                status.update(", ".join(step.says for step, _ in running.values()))
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    step, started = running.pop(future)
                    seconds[step.name] = time.monotonic() - started
                    error = future.exception()
                    if error is not None and failure is None:
                        failure = error
                        give_up()
                    _show(console, seconds[step.name], step, "[red]failed[/]" if error else future.result())
        except KeyboardInterrupt:
            give_up()
            raise
    if failure is not None:
        raise failure
    return seconds


def _show(console: Console, seconds: float, step: Step, outcome: str | None) -> None:
    console.print(f"  {seconds:6.1f} s  {step.says}: {outcome or 'done'}", highlight=False, soft_wrap=True)
