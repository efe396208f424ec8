"""POS: partial order sampling (Yuan, Yang and Gu, CAV 2018, algorithm 2).

Each pending *operation* gets a random priority, and the one with the highest is performed. Those that it conflicts with
(the same object, and not both of them mere looks) then draw anew; the others keep theirs. So the order of conflicting
operations, which is all that matters, is drawn more evenly than by a random walk, where a thread with many unrelated
steps is always late.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from scheduler.dependence import conflict
from scheduler.strategy import Choice, Sampler

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["POS"]


class POS(Sampler):
    """Random priorities of operations."""

    name = "pos"
    # A step that is not chosen is one all the same: the thread's next operation draws anew, and so do those that it
    # conflicts with.
    wants_every_step = True

    def __init__(self, seed: int = 0) -> None:
        self._random = random.Random(seed).random
        # By thread: the operation that is pending, and its priority.
        self._pending: dict[int, tuple[str, float]] = {}

    def begin(self) -> bool:
        """See `Strategy`."""
        self._pending = {}
        return super().begin()

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """See `Strategy`. Here there may be a single choice."""
        pending = self._pending
        best = choices[0]
        highest = -1.0
        for choice in choices:
            known = pending.get(choice.id)
            if known is None or known[0] != choice.op:
                known = pending[choice.id] = (choice.op, self._random())
            if known[1] > highest:
                best, highest = choice, known[1]
        del pending[best.id]
        for choice in choices:
            if choice is not best and choice.id in pending and conflict(choice, best):
                del pending[choice.id]
        return best

    def coverage(self) -> str:
        """See `Strategy`."""
        return "schedules drawn by POS"
