"""Strict priorities, with ageing.

The ready thread of the highest priority runs; equal ones take turns. So that a busy high one does not starve the
others, who waits is promoted by one level for every `ageing` turns that are taken meanwhile (Silberschatz, Galvin and
Gagne, Operating System Concepts, section on priority scheduling).

**Promoting costs nothing.** What a thread that was added at turn `since` counts at turn `now` is
`priority + (now - since) / ageing`; which of two counts more does not depend on `now`. So each keeps the key that it
was added with, and a heap serves: O(log n), and nobody is ever moved.
"""

from __future__ import annotations

from heapq import heappop, heappush
from typing import TYPE_CHECKING

from scheduler.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.task import Task

__all__ = ["Priorities", "priority_of"]


def priority_of(task: Task) -> float:
    """The `priority` of the task's thread; 0 where it has none."""
    return getattr(task.thread, "priority", 0)


class Priorities(Policy):
    """The highest priority first: the thread's `priority`, or what `of(task)` says, as it is when it becomes ready.

    `ageing`: after how many turns of others a waiting thread counts one more; None: never, and a high thread that does
    not wait starves those below. A thread that is `d` levels lower waits for at most `d * ageing` turns of higher ones,
    beside those who came before it. Priorities are not passed on to who holds a lock.
    """

    def __init__(self, ageing: int | None = 100, *, of: Callable[[Task], float] = priority_of) -> None:
        if ageing is not None and ageing < 1:
            raise ValueError(f"ageing must be at least 1 turn, or None, not {ageing}")
        self._ageing = ageing
        self._of = of
        self._turns = 0
        self._added = 0
        self._ready: list[tuple[float, int, Task]] = []

    def add(self, task: Task) -> None:
        """See `Policy.add`."""
        priority = self._of(task)
        key = -priority if self._ageing is None else self._turns - priority * self._ageing
        self._added += 1
        heappush(self._ready, (key, self._added, task))

    def take(self) -> Task:
        """See `Policy.take`."""
        self._turns += 1
        return heappop(self._ready)[2]

    def __len__(self) -> int:
        return len(self._ready)
