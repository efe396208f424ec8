"""A failing execution, run again: to be sure that it fails each time, and to tell step by step how it came to that."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from greenthreads.testing._exploration import Failure
from greenthreads.testing._patterns import find
from greenthreads.testing._recorder import Recorder
from scheduler import trace as traces
from scheduler.errors import ReplayDivergence
from scheduler.strategies import Replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenthreads.testing._session import Outcome, Session
    from scheduler.strategy import Strategy

__all__ = ["confirm", "explain", "fails_again"]


def confirm(session: Session, outcome: Outcome) -> None:
    """Run a failing execution again: it must fail again. ReplayDivergence if not."""
    _the_same(session.run(Replay(outcome.decisions)), outcome)


def fails_again(session: Session, trace: str) -> Outcome:
    """Run the schedule of `trace`, which has failed in another process. ReplayDivergence if it does not fail here."""
    decisions = session.numbered(traces.decode(trace))
    outcome = session.run(Replay(decisions))
    if outcome is None:
        raise ReplayDivergence(len(decisions) - 1, (decisions[-1][0], "fail, as in another process"), [])
    return outcome


def _the_same(again: Outcome | None, outcome: Outcome) -> Outcome:
    if again is None or again.signature != outcome.signature:
        last = len(outcome.decisions) - 1
        raise ReplayDivergence(last, (outcome.decisions[last][0], f"fail ({outcome.exception!r})"), [])
    return again


def explain(session: Session, outcome: Outcome, replay_command: str | Callable[[str], str] | None) -> Failure:
    """Run a failing execution a few times more, on record: what there is to say about it.

    `replay_command` is what a trace is appended to for the reader's sake, or makes the command of a trace; None stands
    for a call of `replay`.
    ReplayDivergence if it does not fail again.
    """
    with _Recording(session, outcome) as recording:
        try:
            again, recorder = recording.again()
        except ReplayDivergence:
            # Looking for the names of things makes locals live longer, which a program may notice. Then without.
            recording.looking = False
            again, recorder = recording.again()
        pattern = find(again, recorder, recording.run)
        # The last execution is the failing one: what it has printed, and what it has left behind, is what users see.
        again, recorder = recording.again()
    trace = traces.encode(session.named(again.decisions))
    name = getattr(session.fn, "__name__", "")
    called = name if name.isidentifier() else "fn"
    if replay_command is None:
        command = f"replay({called}, {trace!r})"
    else:
        command = replay_command(trace) if callable(replay_command) else f"{replay_command}{trace}"
    return Failure(again, trace, recorder, command, pattern)


class _Recording:
    """While it is entered, executions are recorded step by step, with values in the files that `outcome` comes by."""

    def __init__(self, session: Session, outcome: Outcome) -> None:
        self._session = session
        self._outcome = outcome
        self.looking = True

    def __enter__(self) -> _Recording:
        memory = self._session.memory
        if memory is not None:
            files = _files_of(self._session, self._outcome)
            memory.end()
            memory.begin(self._session.scheduler, files)
        return self

    def __exit__(self, *_exc: object) -> None:
        memory = self._session.memory
        if memory is not None:
            memory.end()
            memory.begin(self._session.scheduler)

    def run(self, strategy: Strategy) -> tuple[Outcome | None, Recorder]:
        """Run one execution: how it failed, if it did, and what happened."""
        session = self._session
        recorder = Recorder(session, self.looking)
        session.observer, session.on_failure = recorder.record, recorder.failed
        if session.memory is not None:
            session.memory.hear(recorder.note)
        try:
            return session.run(strategy), recorder
        finally:
            session.observer = session.on_failure = None
            if session.memory is not None:
                session.memory.hear(None)

    def again(self) -> tuple[Outcome, Recorder]:
        """Run the failing execution again. ReplayDivergence if it does not fail in the same way."""
        outcome, recorder = self.run(Replay(self._outcome.decisions))
        return _the_same(outcome, self._outcome), recorder


def _files_of(session: Session, outcome: Outcome) -> frozenset[str]:
    """The files in which an execution has its steps. To have values told takes another compilation of each."""
    sketch = Recorder(session, False)
    session.observer = sketch.record
    try:
        session.run(Replay(outcome.decisions))
    finally:
        session.observer = None
    return frozenset(os.path.abspath(line.place[0]) for line in sketch.lines)
