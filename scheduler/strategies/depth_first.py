"""Depth first, by number of preemptions (Musuvathi et al., "Finding and reproducing Heisenbugs", CHESS, OSDI 2008).

Every schedule, those with few preemptions first: all that have none, then all that have one, and so on. Most bugs need
one or two, and there are few such schedules: with n steps, at most n^c for c preemptions, where 2^n are possible.

To leave a thread that could go on is a preemption; to leave one that is blocked, has ended, or is about to yield, is
not. An execution follows a prefix of decisions that was noted before, then lets the running thread go on wherever it
can. On the way it notes the prefixes that differ from it in one more decision: those that cost nothing are tried next,
those that cost a preemption wait until all others of the present number have been tried. So no execution is ever run
twice, and when no prefix is left everything has been seen.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.errors import ReplayDivergence
from scheduler.strategy import Choice, Strategy

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DepthFirst"]

# A decision: who, to do what.
_Decision = tuple[int, str]


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
        self._now: list[tuple[_Decision, ...]] = [()]
        self._later: list[tuple[_Decision, ...]] = []
        self._prefix: tuple[_Decision, ...] = ()
        # The decisions of the execution that runs.
        self._path: list[_Decision] = []
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
        self._prefix = self._now.pop()
        self._path = []
        return True

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """See `Strategy`."""
        path = self._path
        depth = len(path)
        if depth < len(self._prefix):
            return self._follow(choices, self._prefix[depth])
        chosen = choices[0] if running is None else running
        to = self._now if running is None or running.op == "yield" else self._later
        if to is self._now or self._bound is None or self.preemptions < self._bound:
            before = tuple(path)
            for other in reversed(choices):
                if other is not chosen:
                    to.append((*before, self._decision(other)))
        elif not self._later:
            self._later.append(())  # Enough to know that there is something.
        path.append(self._decision(chosen))
        return chosen

    def _follow(self, choices: Sequence[Choice], decision: _Decision) -> Choice:
        for choice in choices:
            if (choice.id, choice.op) == decision:
                self._path.append(decision)
                return choice
        raise ReplayDivergence(len(self._path), decision, [(choice.id, choice.op) for choice in choices])

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
