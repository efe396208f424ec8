"""Shrinking: from a schedule that fails to one that a person can follow.

All of it works on one thing, the sequence of who took each step. A pass proposes a changed sequence; it is run
leniently (`strategies.replay.Lenient`: what can't be followed is skipped), which gives a valid execution near the one
proposed; and if that fails in the same way and is *smaller*, it is where the passes go on from. Smaller means: fewer
preemptions; then fewer switches; then fewer steps.

What is smallest near the failure may not be smallest: with fewer preemptions it may look quite different. There are few
schedules of few preemptions, so where the passes end, some of these are looked through from the start.
"""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

from scheduler.errors import ReplayDivergence
from scheduler.strategies.depth_first import DepthFirst
from scheduler.strategies.replay import Lenient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from greenthreads.testing._session import Outcome, Session

__all__ = ["shrink"]

# The clock of the world outside: inside a session `time` is virtual only for threads under control.
_now = time.monotonic

# How many of the schedules of fewer preemptions are tried.
_FEWER = 500
# With more turns there are too many pairs of them.
_MOST_TURNS = 30

# Who took a step, and whether it was to end a timed wait early.
_Step = tuple[int, bool]
_Size = tuple[int, int, int]

# Steps enough to come to an end, or to where a thread has to wait.
_LONG = 200


def shrink(
    session: Session, outcome: Outcome, *, max_executions: int = 2_000, max_seconds: float = 5.0
) -> tuple[Outcome, int]:
    """The smallest failing execution found near `outcome`'s that fails in the same way; and how many were tried."""
    search = _Search(session, outcome, max_executions, _now() + max_seconds)
    improved = True
    while improved and not search.is_over():
        improved = False
        for propose in (_without_a_turn, _turns_together, _turn_sooner, _to_the_end, _without_a_step):
            improved = search.try_all(propose) or improved
        improved = improved or search.try_fewer_preemptions()
    return search.best, search.tried


class _Search:
    def __init__(self, session: Session, outcome: Outcome, most: int, end: float) -> None:
        self._session = session
        self.best = outcome
        self._most = most
        self._end = end
        self.tried = 0
        self._seen: set[tuple[_Step, ...]] = set()
        self._size = self._measure(outcome)

    def is_over(self) -> bool:
        return self.tried >= self._most or _now() > self._end

    def try_all(self, propose: Callable[[list[list[_Step]]], Iterator[list[_Step]]]) -> bool:
        """Try what a pass proposes, from the best so far, until it has nothing better; whether anything was."""
        improved = False
        again = True
        while again and not self.is_over():
            again = False
            for steps in propose(_turns(self.best)):
                if self.is_over():
                    break
                if self._try(steps):
                    improved = again = True
                    break
        return improved

    def _try(self, steps: list[_Step]) -> bool:
        key = tuple(steps)
        if key in self._seen:
            return False
        self._seen.add(key)
        self.tried += 1
        found = self._session.run(Lenient(steps))
        if found is None or found.signature != self.best.signature:
            return False
        size = self._measure(found)
        if size >= self._size:
            return False
        self.best, self._size = found, size
        return True

    def try_fewer_preemptions(self) -> bool:
        """Try schedules of fewer preemptions than the best so far has, those of the fewest first."""
        if not self._size[0]:
            return False
        strategy = DepthFirst(self._size[0] - 1)
        try:
            for _ in range(_FEWER):
                if self.is_over() or not strategy.begin():
                    break
                self.tried += 1
                found = self._session.run(strategy)
                if found is not None and found.signature == self.best.signature:
                    self.best, self._size = found, self._measure(found)
                    return True
        except ReplayDivergence:
            pass  # The program is not the same each time. What failed did so twice; that stands.
        return False

    def _measure(self, outcome: Outcome) -> _Size:
        decisions = outcome.decisions
        switches = sum(one[0] != other[0] for one, other in itertools.pairwise(decisions))
        return len(outcome.preemptions), switches, len(decisions)


def _turns(outcome: Outcome) -> list[list[_Step]]:
    turns: list[list[_Step]] = []
    for number, op in outcome.decisions:
        step = (number, op == "timeout")
        if turns and turns[-1][-1][0] == number:
            turns[-1].append(step)
        else:
            turns.append([step])
    return turns


def _flat(turns: list[list[_Step]]) -> list[_Step]:
    return [step for turn in turns for step in turn]


def _without_a_turn(turns: list[list[_Step]]) -> Iterator[list[_Step]]:
    """Leave a turn out: what its thread does then, it does when it comes up again."""
    for at in reversed(range(len(turns))):
        yield _flat(turns[:at] + turns[at + 1 :])


def _to_the_end(turns: list[list[_Step]]) -> Iterator[list[_Step]]:
    """Let a thread go on until it has to wait: longer, but no preemption."""
    for at, turn in enumerate(turns):
        yield _flat([*turns[:at], turn + [(turn[0][0], False)] * _LONG, *turns[at + 1 :]])


def _turns_together(turns: list[list[_Step]]) -> Iterator[list[_Step]]:
    """Let a thread do its next turn right after this one, or this one right before its next."""
    for at, turn in enumerate(turns):
        after = next((i for i in range(at + 1, len(turns)) if turns[i][0][0] == turn[0][0]), None)
        if after is not None:
            yield _flat([*turns[: at + 1], turns[after], *turns[at + 1 : after], *turns[after + 1 :]])
            yield _flat([*turns[:at], *turns[at + 1 : after], turn, *turns[after:]])


def _turn_sooner(turns: list[list[_Step]]) -> Iterator[list[_Step]]:
    """Let a turn come before those of others: whom it leaves blocked, nobody needs to preempt."""
    if len(turns) > _MOST_TURNS:
        return
    for at in range(1, len(turns)):
        for to in range(at - 1, -1, -1):
            if turns[to][0][0] == turns[at][0][0]:
                break  # not before its own thread's
            yield _flat([*turns[:to], turns[at], *turns[to:at], *turns[at + 1 :]])


def _without_a_step(turns: list[list[_Step]]) -> Iterator[list[_Step]]:
    """End a turn a step earlier, or let it go on for a step that its thread did later."""
    for at, turn in enumerate(turns):
        if len(turn) > 1:
            yield _flat([*turns[:at], turn[:-1], *turns[at + 1 :]])
        yield _flat([*turns[:at], [*turn, (turn[0][0], False)], *turns[at + 1 :]])

