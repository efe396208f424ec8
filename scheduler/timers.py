"""Deadlines: a heap of `(deadline, number)` beside a dict of who still waits for each number.

The number is the timer's handle. Setting one pushes on both; cancelling one pops the dict alone. Whoever pops the dict
owns the expiry, so a timer that was cancelled can't fire and one that fired can't be cancelled.

Numbers grow, so that equal deadlines fire in the order in which they were set.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Expiring", "Timers"]


class Expiring(Protocol):
    """Whatever can wait for a deadline."""

    def expire(self) -> None:
        """The deadline has passed. Runs on the scheduler's root: must not block."""


class Timers(dict[int, Expiring]):
    """The deadlines of one scheduler: who waits for each number. Touched only on its own kernel thread.

    It is that dict, not an object that holds one, for whether there are any is asked at each turn of the root.
    `on_first()` is called when there was no timer, and now there is.
    """

    __slots__ = ("_heap", "_next", "_on_first")

    def __init__(self, on_first: Callable[[], object]) -> None:
        super().__init__()
        self._on_first = on_first
        self._heap: list[tuple[float, int]] = []
        self._next = 0

    def add(self, deadline: float, who: Expiring) -> int:
        """Call `who.expire()` once `deadline` (absolute, on the scheduler's clock) has passed. Returns the handle."""
        self._next = number = self._next + 1
        # In this order: if there is no stack left for the call, nothing was done.
        if not self:
            self._on_first()
        heappush(self._heap, (deadline, number))
        self[number] = who
        return number

    def cancel(self, number: int) -> bool:
        """Forget a timer; False if it fired or was cancelled before."""
        if self.pop(number, None) is None:
            return False
        # Rejected: taking the entry out of the heap, O(n). It is skipped when it comes up, and when most of the heap
        # is stale the heap is made anew: O(1) amortised, and the heap stays within a factor of what waits.
        if len(self._heap) > 2 * len(self) + 64:
            self._heap = [entry for entry in self._heap if entry[1] in self]
            heapify(self._heap)
        return True

    def next_deadline(self) -> float | None:
        """The earliest deadline that somebody waits for, or None."""
        heap = self._heap
        while heap:
            if heap[0][1] in self:
                return heap[0][0]
            heappop(heap)
        return None

    def fire(self, now: float) -> None:
        """Expire all that is due, earliest first, equal deadlines in the order in which they were set."""
        heap = self._heap
        while heap and heap[0][0] <= now:
            who = self.pop(heappop(heap)[1], None)
            if who is not None:
                who.expire()

    def take_due(self, now: float) -> list[Expiring]:
        """Take out all that is due, in the order of `fire`, without expiring it."""
        heap = self._heap
        due = []
        while heap and heap[0][0] <= now:
            who = self.pop(heappop(heap)[1], None)
            if who is not None:
                due.append(who)
        return due

    def all(self) -> list[tuple[int, Expiring]]:
        """All that wait for a deadline, by handle: in the order in which these were set."""
        return list(self.items())

    def clear(self) -> None:
        """Drop every timer unfired."""
        self._heap.clear()
        super().clear()
