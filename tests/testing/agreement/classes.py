"""Classes of executions that differ only in the order of independent steps (Mazurkiewicz's traces), counted one by one.

Two executions are of one class iff they have the same steps, have each two dependent ones of different threads in the
same order, and time has passed between the same of them. That is compared pair by pair: on purpose without the clocks
and trees of the strategy that is held to it, of which only the table of what depends on what is used.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from scheduler.dependence import go_together, same_part, touches
from scheduler.strategy import Choice, Strategy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.dependence import Touch

__all__ = ["Watched"]


class Watched(Strategy):
    """Another strategy, with a look at its executions: `classes` has how many of them were of each class."""

    wants_every_step = True

    def __init__(self, strategy: Strategy) -> None:
        self._strategy = strategy
        self.classes: Counter[object] = Counter()
        # How many executions it has abandoned.
        self.abandoned = 0
        self._steps: list[tuple[int, str, list[Touch]]] = []
        self._jumps: list[int] = []

    def begin(self) -> bool:
        """See `Strategy`."""
        self._steps = []
        self._jumps = []
        begun = self._strategy.begin()
        self.exhausted, self.complete = self._strategy.exhausted, self._strategy.complete
        return begun

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """See `Strategy`."""
        chosen = self._strategy.choose(choices, running)
        self._steps.append((chosen.id, chosen.op, touches(chosen)))
        return chosen

    def time_passes(self) -> None:
        """See `Strategy`."""
        self._jumps.append(len(self._steps))
        self._strategy.time_passes()

    def end(self, trace: Sequence[tuple[int, str]], waiting: Sequence[Choice]) -> None:
        """See `Strategy`."""
        self._strategy.end(trace, waiting)
        abandoned = getattr(self._strategy, "redundant", 0)
        if abandoned == self.abandoned:
            self.classes[self._class()] += 1
        self.abandoned = abandoned

    def _class(self) -> object:
        counts: Counter[int] = Counter()
        # Thread, which of its steps, what it does: by that, steps of several executions are the same.
        names: list[tuple[int, int, str]] = []
        for number, op, _touched in self._steps:
            names.append((number, counts[number], op))
            counts[number] += 1
        order = {
            (names[i], names[j])
            for j, (number, _op, touched) in enumerate(self._steps)
            for i, (other, _other_op, also) in enumerate(self._steps[:j])
            if number != other and _depend(touched, also)
        }
        return frozenset(names), frozenset(order), tuple(frozenset(names[:jump]) for jump in self._jumps)


def _depend(one: list[Touch], other: list[Touch]) -> Any:
    return any(
        obj is also and not go_together(way, other_way) and same_part(part, other_part)
        for obj, part, way in one
        for also, other_part, other_way in other
    )
