"""What an exploration gives back: an `Exploration`, with the `Failure` in it if there was one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenthreads.testing._report import render

if TYPE_CHECKING:
    from greenthreads.testing._patterns import Pattern
    from greenthreads.testing._races import DataRace, LockOrder
    from greenthreads.testing._recorder import Recorder
    from greenthreads.testing._session import Outcome

__all__ = ["Exploration", "Failure"]


class Failure:
    """A failing execution, shrunk, and how to see it again.

    `kind` is "assertion", "exception", "deadlock", "livelock", "data race", "lock left held" or "thread not joined";
    `exception` what was raised (a Deadlock, Livelock, DataRace, LockLeftHeld or ThreadNotJoined where the program
    itself raised nothing); `thread` the thread that failed, by its descent ("0" is the main one, "2" the second that it
    started); `trace` the schedule, for `replay`; `preemptions` how often it leaves a thread that could have gone on;
    `pattern` the Pattern that it is of ("lost update", …), None if that is not known.
    """

    def __init__(
        self, outcome: Outcome, trace: str, steps: Recorder, replay_command: str, pattern: Pattern | None = None
    ) -> None:
        self.kind = outcome.kind
        self.exception = outcome.exception
        self.thread = outcome.thread
        self.trace = trace
        self.preemptions = len(outcome.preemptions)
        self.pattern = pattern
        self._steps = steps
        self._replay_command = replay_command
        self._preempting = outcome.preemptions

    def report(self, width: int | None = None) -> str:
        """What happened, step by step, a column for each thread, up to the failure.

        At most `width` characters wide, but for the command that replays it; None takes the terminal's width.
        """
        return render(self, self._steps, self._preempting, self._replay_command, width)

    def __repr__(self) -> str:
        return f"<Failure: {self.kind}: {self.exception!r}, trace {self.trace!r}>"


class Exploration:
    """What an exploration has seen.

    `failure` is None, or the first Failure; `executions` the number of executions that looked for it; `exhausted`
    whether every schedule has been seen; `strategy` the name of the strategy (of "auto", the one that found the
    failure); `coverage` a sentence that says exactly what was covered.
    """

    def __init__(self, strategy: str) -> None:
        self.failure: Failure | None = None
        self.executions = 0
        self.steps = 0
        self.seconds = 0.0
        self.exhausted = False
        self.strategy = strategy
        self.coverage = ""
        # Data races, and locks taken in both orders, whether or not anything failed.
        self.races: list[DataRace] = []
        self.lock_orders: list[LockOrder] = []
        # Executions that were spent on shrinking the failure.
        self.shrinking = 0

    def __repr__(self) -> str:
        found = "no failure" if self.failure is None else repr(self.failure)
        return f"<Exploration: {found}, {self.executions} executions, {self.coverage}>"
