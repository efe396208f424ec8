"""Round robin: every thread takes a fixed number of steps at a time, in the order of their ids.

The first execution switches at every choice point, the second at every other one, and so on, until a turn is longer
than any thread is. A handful of executions that differ a lot; the first to try, and proof of nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.strategy import Choice, Strategy

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["RoundRobin"]


class RoundRobin(Strategy):
    """Turns of 1, 2, 3, … steps."""

    name = "round_robin"

    def __init__(self) -> None:
        self._turn = 0
        # The longest run of one thread that the last execution had.
        self._longest = 1
        self._last = 0
        self._taken = 0

    def begin(self) -> bool:
        """See `Strategy`."""
        if self._turn > self._longest:
            return False
        self._turn += 1
        self._longest = self._last = self._taken = 0
        return True

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """See `Strategy`."""
        if running is not None and self._taken < self._turn and running.op != "yield":
            self._taken += 1
            self._longest = max(self._longest, self._taken)
            return running
        self._taken = 1
        last = self._last if running is None else running.id
        chosen = next((choice for choice in choices if choice.id > last), choices[0])
        self._last = chosen.id
        return chosen

    def coverage(self) -> str:
        """See `Strategy`."""
        return f"turns of up to {self._turn} steps, round robin"
