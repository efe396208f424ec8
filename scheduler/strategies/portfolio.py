"""A portfolio: several strategies share the executions, for no one of them is best at every program.

Each in turn has an execution, the second one (the one that enumerates) as many as all others together: small programs
it exhausts, and then nothing is left to do; in large ones the samplers look where it would not come in years.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.strategy import Choice, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Portfolio"]


class Portfolio(Strategy):
    """The first of `strategies` until it has nothing left; then the second and the rest, turn by turn."""

    name = "auto"

    def __init__(self, strategies: Sequence[Strategy]) -> None:
        self._strategies = list(strategies)
        self._turns = self._take_turns()
        self._executions: dict[Strategy, int] = dict.fromkeys(self._strategies, 0)
        # Whose turn it is: after a failure, who found it.
        self.current = self._strategies[0]
        self.choose = self.current.choose  # type: ignore[method-assign]

    def _take_turns(self) -> Iterator[Strategy]:
        first, main, *others = self._strategies
        while first.begin():
            yield first
        while True:
            for other in others:
                if not main.begin():
                    self.exhausted = self.complete = main.exhausted
                    if main.exhausted:
                        return
                else:
                    yield main
                if other.begin():
                    yield other

    def begin(self) -> bool:
        """See `Strategy`."""
        current = next(self._turns, None)
        if current is None:
            return False
        self._executions[current] += 1
        self.current = current
        self.choose = current.choose  # type: ignore[method-assign]
        self.wants_every_step = current.wants_every_step
        self.wants_prelude = current.wants_prelude
        self.learns, self.skips_private = current.learns, current.skips_private
        return True

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """See `Strategy`."""
        return self.current.choose(choices, running)

    def time_passes(self) -> None:
        """See `Strategy`."""
        self.current.time_passes()

    def leaves_out(self) -> None:
        """See `Strategy`."""
        self.current.leaves_out()

    def end(self, trace: Sequence[tuple[int, str]], waiting: Sequence[Choice]) -> None:
        """See `Strategy`."""
        self.current.end(trace, waiting)

    def coverage(self) -> str:
        """See `Strategy`."""
        main = self._strategies[1]
        if self.exhausted:
            return main.coverage()
        return "; ".join(f"{n} of {s.coverage()}" for s, n in self._executions.items() if n)
