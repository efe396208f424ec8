"""Replay: the decisions of an earlier execution, once more.

*Strict*: whoever took a step takes it again, to do the same; if that can't be, `ReplayDivergence`. Each step counts,
also where there was no choice, so a difference shows where it arises and not where it first matters.

*Lenient*, for shrinking: decisions that can't be followed are skipped, and where they end, the running thread goes on.
What comes of it is a valid execution near the one asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.errors import ReplayDivergence
from scheduler.strategy import Choice, Strategy

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Lenient", "Replay"]


class Replay(Strategy):
    """Follow `decisions`, who and to do what at each step; then let the running thread go on."""

    name = "replay"
    # Asked at every step, not only where there is a choice.
    wants_every_step = True

    def __init__(self, decisions: Sequence[tuple[int, str]]) -> None:
        self._decisions = decisions
        self._step = 0

    def begin(self) -> bool:
        """See `Strategy`."""
        self._step = 0
        return True

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """See `Strategy`. Here there may be a single choice."""
        step = self._step
        if step >= len(self._decisions):
            return choices[0] if running is None else running
        self._step = step + 1
        decision = self._decisions[step]
        for choice in choices:
            if choice.id == decision[0] and choice.op == decision[1]:
                return choice
        raise ReplayDivergence(step, decision, [(choice.id, choice.op) for choice in choices])

    def coverage(self) -> str:
        """See `Strategy`."""
        return "one schedule, replayed"


class Lenient(Strategy):
    """Let the thread `ids[0]` take a step, then `ids[1]`, and so on, as far as they can."""

    name = "lenient replay"
    wants_every_step = True

    def __init__(self, ids: Sequence[tuple[int, bool]]) -> None:
        # Who, and whether it is to end a timed wait early.
        self._ids = ids
        self._step = 0

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """See `Strategy`."""
        ids = self._ids
        while self._step < len(ids):
            wanted, early = ids[self._step]
            self._step += 1
            for choice in choices:
                if choice.id == wanted and (choice.op == "timeout") is early:
                    return choice
        return choices[0] if running is None else running
