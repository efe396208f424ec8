"""The count of a queue's unfinished tasks."""

from __future__ import annotations

import itertools
from _thread import allocate_lock

__all__ = ["Tally"]


class Tally:
    """How many tasks of a queue are unfinished: items put, less items dealt with.

    To put is `next(count)`, one atomic call in C. Such a counter can be read only by counting, so each look at it is
    itself counted, and taken off.
    """

    __slots__ = ("_dealt_with", "_guard", "_looks", "count")

    def __init__(self) -> None:
        self.count = itertools.count()
        self._looks = 0
        self._dealt_with = 0
        # Held for a few bytecodes, never across a switch.
        self._guard = allocate_lock()

    def _unfinished(self) -> int:
        unfinished = next(self.count) - self._looks - self._dealt_with
        self._looks += 1
        return unfinished

    def read(self) -> int:
        """How many are unfinished now."""
        with self._guard:
            return self._unfinished()

    def set(self, number: int) -> None:
        """Say how many are."""
        with self._guard:
            self._dealt_with += self._unfinished() - number

    def done(self) -> int:
        """One is dealt with; how many are unfinished then. ValueError if there was none."""
        with self._guard:
            left = self._unfinished() - 1
            if left < 0:
                raise ValueError("task_done() called too many times")
            self._dealt_with += 1
            return left
