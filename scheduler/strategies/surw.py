"""SURW: selectively uniform random walk (Zhao et al., "Selectively uniform concurrency testing", ASPLOS 2025).

A random walk is not uniform over interleavings: two threads of 1 and 100 steps are interleaved in 101 ways, and a coin
at each step makes the short one come first or second nearly always. If the number of steps that each thread has left is
known, choosing a thread with odds in proportion to it makes every interleaving as likely as any other.

Of all steps few matter. An execution looks at the operations of some kinds only (*interesting* ones), and makes the
interleaving of these uniform: the thread that is to do the next of them is drawn beforehand, in proportion to what each
has left; the others may run up to such an operation of theirs, but not past it. The paper leaves open which are
interesting. Here the kinds are drawn at random for each execution, unless the caller names them.

The numbers come from earlier executions; those of a thread not yet started belong to the main one, which stands for
whoever starts it. Executions in which steps on private memory are no choice points are counted apart from the others.
"""

from __future__ import annotations

import random
from collections import Counter, deque
from typing import TYPE_CHECKING

from scheduler.strategy import Choice, Sampler

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

__all__ = ["SURW"]

# Of how many executions the counts are remembered: the one that had most of a kind stands for the next.
_LAST = 16
_NEVER = frozenset(("begin", "end", "join", "start", "resume"))


class SURW(Sampler):
    """A random walk that is uniform over the interleavings of what is interesting."""

    name = "surw"
    # What each thread has left is counted down also where there was no choice.
    wants_every_step = True

    def __init__(self, seed: int = 0, kinds: Collection[str] | None = None) -> None:
        self._kinds = kinds
        self._random = random.Random(seed)
        # Of the last executions, by whether private steps were left out: how many operations of each kind each thread
        # has done.
        self._last: dict[bool, deque[dict[str, Counter[int]]]] = {s: deque(maxlen=_LAST) for s in (False, True)}
        self._done: dict[str, Counter[int]] = {}
        self._interesting: frozenset[str] = frozenset()
        self._left: Counter[int] = Counter()
        self._seen: set[int] = set()
        self._intended: int | None = None

    def begin(self) -> bool:
        """See `Strategy`."""
        super().begin()
        known: dict[str, Counter[int]] = {}
        # If there is nothing to go by: what the other kind of execution had.
        for done in self._last[self.skips_private] or self._last[not self.skips_private]:
            for kind, counts in done.items():
                if kind not in known or counts.total() > known[kind].total():
                    known[kind] = counts
        kinds = sorted(known)
        if self._kinds is not None:
            self._interesting = frozenset(self._kinds)
        elif kinds:
            # All of them every other time; else as many as a draw says, most often few.
            number = len(kinds) if self._random.random() < 0.5 else self._random.randint(1, len(kinds))
            self._interesting = frozenset(self._random.sample(kinds, number))
        self._left = Counter()
        for kind in self._interesting:
            self._left.update(known.get(kind, {}))
        self._done = {}
        self._seen = {0}
        self._intended = None
        return True

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """See `Strategy`. Here there may be a single choice."""
        self._seen.update(choice.id for choice in choices)
        ids = {choice.id for choice in choices}
        if self._intended not in ids:
            self._intended = self._draw(choices)
        free = [c for c in choices if c.id == self._intended or c.op not in self._interesting]
        chosen = free[int(self._random.random() * len(free))]
        if chosen.op not in _NEVER:
            self._done.setdefault(chosen.op, Counter())[chosen.id] += 1
        if chosen.op in self._interesting:
            if self._left[chosen.id] > 0:
                self._left[chosen.id] -= 1
            self._intended = None
        return chosen

    def _draw(self, choices: Sequence[Choice]) -> int:
        unseen = sum(number for thread, number in self._left.items() if thread not in self._seen)
        weights = [self._left[c.id] + (unseen if c.id == 0 else 0) for c in choices]
        if not any(weights):
            return choices[int(self._random.random() * len(choices))].id
        return self._random.choices(choices, weights)[0].id

    def end(self, trace: Sequence[tuple[int, str]], waiting: Sequence[Choice]) -> None:
        """See `Strategy`."""
        self._last[self.skips_private].append(self._done)

    def coverage(self) -> str:
        """See `Strategy`."""
        return "schedules drawn by SURW"
