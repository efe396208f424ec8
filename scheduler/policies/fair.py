"""Weighted fair queueing: threads share the time in proportion to their weights.

Stride scheduling (Waldspurger and Weihl, "Stride Scheduling: Deterministic Proportional-Share Resource Management",
MIT/LCS/TM-528, 1995), by the time that runs really take: each thread has a *pass*, which grows by the length of each of
its runs divided by its weight; the ready thread with the least pass is next.

Who has waited, or is new, starts from where the others are: time that a thread did not ask for is not saved up. A
thread that has just run long keeps its pass over a short wait.
"""

from __future__ import annotations

import time
from heapq import heappop, heappush
from typing import TYPE_CHECKING

from scheduler.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.task import Task

__all__ = ["WeightedFair", "weight_of"]

# The shortest run that is counted, so that time goes on also where the clock does not; and the least weight.
_LEAST_RUN = 1e-7
_LEAST_WEIGHT = 1e-3


def weight_of(task: Task) -> float:
    """The `weight` of the task's thread; 1 where it has none."""
    return getattr(task.thread, "weight", 1.0)


class WeightedFair(Policy):
    """Time in proportion to weights: the thread's `weight`, or what `of(task)` says (taken for 0.001 if it is less).

    `clock` tells the time in seconds.
    """

    def __init__(
        self, *, of: Callable[[Task], float] = weight_of, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._of = of
        self._clock = clock
        self._added = 0
        self._ready: list[tuple[float, int, Task]] = []
        # The pass of those who are ahead of the others, or were lately.
        self._passes: dict[Task, float] = {}
        # The pass of who was taken last: where the others are.
        self._pass = 0.0
        self._running: Task | None = None
        self._since = 0.0

    def _charge(self) -> None:
        """Let who is running pay for its run so far."""
        now = self._clock()
        task = self._running
        if task is not None:
            run = max(now - self._since, _LEAST_RUN)
            self._passes[task] = self._passes.get(task, self._pass) + run / max(self._of(task), _LEAST_WEIGHT)
        self._since = now

    def add(self, task: Task) -> None:
        """See `Policy.add`."""
        if task is self._running:
            self._charge()
            self._running = None
        self._added += 1
        mine = max(self._passes.get(task, 0.0), self._pass)
        heappush(self._ready, (mine, self._added, task))

    def take(self) -> Task:
        """See `Policy.take`."""
        self._charge()
        self._pass, _added, self._running = heappop(self._ready)
        if len(self._passes) > 2 * len(self._ready) + 64:
            self._passes = {task: mine for task, mine in self._passes.items() if mine > self._pass and not task.done}
        self._passes[self._running] = self._pass
        return self._running

    def __len__(self) -> int:
        return len(self._ready)
