"""Depth first, by number of preemptions (Musuvathi et al., "Finding and reproducing Heisenbugs", CHESS, OSDI 2008).

Every schedule, those with few preemptions first: all that have none, then all that have one, and so on. Most bugs need
one or two, and there are few such schedules: with n steps, at most n^c for c preemptions, where 2^n are possible.

To leave a thread that could go on is a preemption; to leave one that is blocked, has ended, or is about to yield, is
not. An execution follows a prefix of decisions that was noted before, then lets the running thread go on wherever it
can. On the way it notes the prefixes that differ from it in one more decision: those that cost nothing are tried next,
those that cost a preemption wait until all others of the present number have been tried. So no execution is ever run
twice, and when no prefix is left everything has been seen.

Prefixes share what they have in common: each is its last decision, and the prefix before that. A long execution has as
many as it has steps. (As a tuple each, those of a single execution of 15,000 steps took a gigabyte.)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from scheduler.errors import ReplayDivergence
from scheduler.strategy import Choice, Strategy

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DepthFirst"]

# A decision: who, to do what.
_Decision = tuple[int, str]
# The decisions before the last one, and that; None for no decision.
_Prefix: TypeAlias = "tuple[_Prefix, _Decision] | None"


class DepthFirst(Strategy):
    """All schedules of at most `bound` preemptions (None: all there are), those with few of them first."""

    name = "dfs"

    def __init__(self, bound: int | None = None) -> None:
        if bound is not None and bound < 0:
            raise ValueError(f"the bound on preemptions must be at least 0, not {bound}")
        self._bound = bound
        # The number of preemptions that executions have at present.
        self.preemptions = 0
        # Prefixes to follow, with that number of preemptions, and with one more.
        self._now: list[_Prefix] = [None]
        self._later: list[_Prefix] = []
        # The decisions that the execution is yet to follow, the next one last; and those that are made then.
        self._to_follow: list[_Decision] = []
        self._path: _Prefix = None
        self._interned: dict[_Decision, _Decision] = {}

    def begin(self) -> bool:
        """See `Strategy`."""
        if not self._now:
            if not self._later:
                self.exhausted = self.complete = True
                return False
            if self.preemptions == self._bound:
                self.complete = True
                return False
            self._now, self._later = self._later, []
            # Taken from the end: the earliest places first.
            self._now.reverse()
            self.preemptions += 1
        before = self._path = self._now.pop()
        self._to_follow = []
        while before is not None:
            before, decision = before
            self._to_follow.append(decision)
        return True

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """See `Strategy`."""
        if self._to_follow:
            return self._follow(choices, self._to_follow.pop())
        chosen = choices[0] if running is None else running
        path = self._path
        to = self._now if running is None or running.op == "yield" else self._later
        if to is self._now or self._bound is None or self.preemptions < self._bound:
            for other in reversed(choices):
                if other is not chosen:
                    to.append((path, self._decision(other)))
        elif not self._later:
            self._later.append(None)  # Enough to know that there is something.
        self._path = (path, self._decision(chosen))
        return chosen

    def _follow(self, choices: Sequence[Choice], decision: _Decision) -> Choice:
        number, op = decision
        for choice in choices:
            if choice.id == number and choice.op == op:
                return choice
        depth = 0
        before = self._path
        while before is not None:
            before, _ = before
            depth += 1
        depth -= len(self._to_follow) + 1
        raise ReplayDivergence(depth, decision, [(choice.id, choice.op) for choice in choices])

    def _decision(self, choice: Choice) -> _Decision:
        decision = (choice.id, choice.op)
        return self._interned.setdefault(decision, decision)

    def coverage(self) -> str:
        """See `Strategy`."""
        if self.exhausted:
            return "every schedule"
        done = self.preemptions if not self._now else self.preemptions - 1
        if done < 0:
            return f"some of the schedules without preemptions ({len(self._now)} more are known)"
        all_of = "every schedule without preemptions" if not done else f"every schedule of at most {done} preemptions"
        return all_of if not self._now else f"{all_of}, and some of those with {self.preemptions}"
