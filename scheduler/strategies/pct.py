"""PCT: probabilistic concurrency testing (Burckhardt, Kothari, Musuvathi and Nagarakatte, ASPLOS 2010, section 3).

Each thread gets a random priority, and the one with the highest runs. At d - 1 choice points, drawn from all of them
with equal odds, the thread that would run falls below everybody else, and another one goes on instead. So there are few
switches, at random places. The threads that have fallen are in random order, too: who falls later need not be lower.

A bug of depth d (one that d ordered pairs of steps bring about) in a program of n threads and k choice points is found
by one execution with a probability of at least 1 / (n k^(d - 1)): theorem 9 there. k is not known beforehand; the
most that the last executions had stands for it. (There k counts all steps; but where a single thread could go on there
is nobody to fall behind.)

A thread that yields says that it can't go on usefully: it falls below everybody else, too.
"""

from __future__ import annotations

import random
from collections import deque
from typing import TYPE_CHECKING

from scheduler.strategy import Choice, Sampler

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["PCT"]

# Of how many executions the counts are remembered: what is learned makes them fewer.
_LAST = 16


class PCT(Sampler):
    """Random priorities that change at `depth` - 1 places."""

    name = "pct"

    def __init__(self, depth: int = 3, seed: int = 0) -> None:
        if depth < 1:
            raise ValueError(f"depth must be at least 1, not {depth}")
        self._depth = depth
        self._random = random.Random(seed)
        # How many choice points the last executions had, by whether private steps were left out.
        self._counts = {skips: deque([1], maxlen=_LAST) for skips in (False, True)}
        self._points = 0
        self._priorities: dict[int, float] = {}
        # By choice point: how low the thread falls that would run there.
        self._falls: dict[int, float] = {}
        self._lowest = 0.0

    def begin(self) -> bool:
        """See `Strategy`."""
        if self._points:
            self._counts[self.skips_private].append(self._points)
        self._points = 0
        super().begin()
        # Nothing to go by: what the other kind had.
        most = max(self._counts[self.skips_private])
        if most == 1:
            most = max(self._counts[not self.skips_private])
        # Priorities given at first are in [0, 1); those of threads that have fallen are -1, -2, …; those of threads
        # that have yielded are lower still, the latest the lowest.
        self._priorities = {}
        falls = min(self._depth - 1, most)
        # The sample is in random order, so these are random priorities.
        points = self._random.sample(range(1, most + 1), falls)
        self._falls = {point: -1.0 - at for at, point in enumerate(points)}
        self._lowest = -float(self._depth)
        return True

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """See `Strategy`."""
        self._points += 1
        if running is not None and running.op == "yield":
            self._lowest -= 1.0
            self._priorities[running.id] = self._lowest
        best = self._highest(choices)
        fall = self._falls.get(self._points)
        if fall is None:
            return best
        self._priorities[best.id] = fall
        return self._highest(choices)

    def _highest(self, choices: Sequence[Choice]) -> Choice:
        priorities = self._priorities
        best = choices[0]
        highest = float("-inf")
        for choice in choices:
            number = choice.id
            if number not in priorities:
                priorities[number] = self._random.random()
            if priorities[number] > highest:
                best, highest = choice, priorities[number]
        return best

    def coverage(self) -> str:
        """See `Strategy`."""
        return f"schedules drawn by PCT of depth {self._depth}"
