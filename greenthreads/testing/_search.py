"""The search of an exploration: execution after execution, until one fails, the budget is spent, or there is none left.

    a rehearsal  ->  the traces that have failed before  ->  what the strategy says
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from greenthreads.testing._session import MOST_STEPS
from scheduler import trace as traces
from scheduler.errors import ReplayDivergence
from scheduler.strategies import Portfolio, Replay
from scheduler.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from greenthreads.testing._exploration import Exploration
    from greenthreads.testing._session import Outcome, Session

__all__ = ["MOST_EXECUTIONS", "Search"]

# How many executions an exploration may have, if nobody says otherwise.
MOST_EXECUTIONS = 10_000

# How many executions are looked at for data races; after that it is one in 32.
_LOOKED_AT = 20
# How many steps the first execution may have, which shows how long the others are.
_LONG = 100_000

# Read outside of sessions, where `time` is not virtual.
_now = time.monotonic


class Search:
    """Looks in `session` for an execution that fails, and keeps the books in `found`.

    `plan` is the strategy; `anew` makes another one like it, None if somebody has brought an object of their own.
    If it `measures`, the first execution of all shows how many steps the others may have. `stops`, asked after each
    execution, says that no more are wanted.
    """

    def __init__(
        self,
        session: Session,
        found: Exploration,
        plan: Strategy,
        anew: Callable[[], Strategy] | None,
        *,
        max_executions: int | None,
        max_seconds: float | None,
        measures: bool,
        progress: Callable[[Exploration], object] | None,
        looks_for_races: bool,
        stops: Callable[[], bool] | None = None,
    ) -> None:
        self._session = session
        self._found = found
        self.plan = plan
        self._anew = anew
        self._most = float("inf") if max_executions is None else max_executions
        self._seconds = float("inf") if max_seconds is None else max_seconds
        self._measures = measures
        self._progress = progress
        self._looks_for_races = looks_for_races
        self._stops = stops

    def run(self, first: Sequence[str]) -> Outcome | None:
        """Run executions until one fails: how it did, or None. Those of the traces in `first` come first.

        ReplayDivergence if the program does not do the same under the same schedule.
        """
        if self._anew is None:
            # All executions are made as somebody's own strategy says: no rehearsal, and no second beginning.
            return self._try_traces(first) or self._follow_plan()
        try:
            return self._rehearse() or self._try_traces(first) or self._follow_plan()
        except ReplayDivergence:
            # What a program does once, the first time (an import, a cache that is filled), is done now: begin anew.
            self.plan = self._anew()
            return self._follow_plan()

    def finder(self, first: Sequence[str]) -> str:
        """The name of the strategy that the failing execution was one of."""
        if self._found.executions <= len(first):
            return "replay"
        return self.plan.current.name if isinstance(self.plan, Portfolio) else self.plan.name

    def _rehearse(self) -> Outcome | None:
        """One execution beforehand: what is imported, cached and made once is there then for all the others.

        To measure, it may be long; if it ends, the others may be longer.
        """
        session, scheduler = self._session, self._session.scheduler
        rehearsal = Strategy()
        rehearsal.learns = True
        if self._measures:
            scheduler.max_steps = _LONG
        outcome = session.run(rehearsal)
        if self._measures:
            scheduler.max_steps = max(MOST_STEPS, 4 * len(scheduler.trace))
            if outcome is not None and outcome.kind == "livelock":
                scheduler.max_steps = MOST_STEPS
                outcome = session.run(Strategy())
        if outcome is not None:
            self._found.executions = 1
        return outcome

    def _try_traces(self, first: Sequence[str]) -> Outcome | None:
        """Run what has failed before. A trace that can't be followed is of a program that has changed since."""
        session = self._session
        for trace in first:
            self._found.executions += 1
            try:
                outcome = session.run(Replay(session.numbered(traces.decode(trace))))
            except (ReplayDivergence, traces.TraceError):
                continue
            if outcome is not None:
                return outcome
        return None

    def _follow_plan(self) -> Outcome | None:
        session, found, plan, run, stops = self._session, self._found, self.plan, self._session.run, self._stops
        end = _now() + self._seconds
        while found.executions < self._most and plan.begin():
            found.executions += 1
            looks = self._looks_for_races and (found.executions <= _LOOKED_AT or not found.executions & 31)
            session.looks_for_races = looks
            outcome = run(plan)
            if outcome is not None:
                return outcome
            if not found.executions & 15:
                found.steps = session.steps
                if self._progress is not None:
                    found.coverage = plan.coverage()
                    self._progress(found)
            if _now() > end or (stops is not None and stops()):
                break
        found.steps = session.steps
        return None
