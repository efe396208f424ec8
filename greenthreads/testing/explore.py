"""`explore`, `interleave` and `replay`: what users of the harness call.

    explore:  run executions until one fails, or the budget is spent, or there is none left
              -> run the failing one again (a failure that can't be repeated is not reported as one)
              -> shrink it -> run it once more, with a record of each step, for the report
"""

from __future__ import annotations

import functools
import inspect
import os
import time
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from greenthreads.testing._divergence import divergence
from greenthreads.testing._memory import Memory, root_of, watched
from greenthreads.testing._patterns import Pattern, find
from greenthreads.testing._races import DataRace, LockOrder
from greenthreads.testing._recorder import Recorder
from greenthreads.testing._report import render
from greenthreads.testing._session import MOST_STEPS, Outcome, Session
from greenthreads.testing._shrink import shrink
from scheduler import trace as traces
from scheduler.deadlock import is_ours
from scheduler.errors import ReplayDivergence
from scheduler.strategies import Portfolio, Replay, by_name
from scheduler.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from greenthreads.testing._store import Store

__all__ = ["Exploration", "Failure", "explore", "interleave", "replay"]

F = TypeVar("F", bound="Callable[..., Any]")

# How many executions are looked at for data races; after that it is one in 32.
_LOOKED_AT = 20
# How many steps the first execution may have, which shows how long the others are.
_LONG = 100_000

# Read outside of sessions, where `time` is not virtual.
_now = time.monotonic


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


def explore(
    fn: Callable[[], object],
    *,
    strategy: str | Strategy = "auto",
    max_executions: int | None = 10_000,
    max_seconds: float | None = 10.0,
    seed: int = 0,
    preemption_bound: int | None = None,
    timeouts: Literal["due", "early"] = "due",
    max_steps: int | None = None,
    check_locks: bool = False,
    check_joined: bool = False,
    memory: bool = True,
    include: Sequence[str] = (),
    root: str | None = None,
    races: Literal["report", "fail", "off"] = "report",
    shrinking: bool = True,
    first: Sequence[str] = (),
    passes: tuple[type[BaseException], ...] = (),
    stuck_after: float | None = 10.0,
    replay_command: str | None = None,
    progress: Callable[[Exploration], object] | None = None,
    store: Store | None = None,
    name: str | None = None,
) -> Exploration:
    """Run `fn()` under many schedules until one fails, the budget is spent, or there is none left.

    `fn` is ordinary code: every thread that it starts, of either kind, through this library or the standard modules,
    is under control, and time is virtual. It runs once per execution, so it must not lean on what it left behind.

    `strategy` is a name (of `scheduler.strategies.BY_NAME`: "dfs", "dpor", "auto", …) or a Strategy object; `seed`
    makes what is random the same each time; `preemption_bound` limits "dfs" and "dpor", also in "auto". With
    `timeouts="early"` a timed wait may end before its time, at any choice point. `max_steps` is how many steps an
    execution may have before it counts as a livelock (None: 20,000, or four times those of the first execution, where
    that has up to 100,000); a thread that takes no step at all for `stuck_after` seconds of
    real time (None: ever) is one, too, unless a debugger has stopped it. `check_locks` and `check_joined` make it a
    failure to leave a lock held, or a thread not joined. Traces in `first` are tried first. Exceptions in `passes` are
    raised, not taken for failures. A failing schedule is kept in `store` under `name` (None: that of `fn`), tried
    first next time, removed when it fails no more.

    With `memory` each access to shared memory is a choice point as well, in the modules below `root` (of the project
    that `fn` belongs to, by default) and in those named in `include`. Data races among these accesses, and locks taken
    in both orders, are gathered in `races` and `lock_orders` of what is returned (of the first executions, and of some
    of the later ones: to look for them takes time), or with "fail" make an execution fail, or are not looked for. A
    comment "benign race" on the line of either access declares that it is meant to be.

    Blocks. Raises ReplayDivergence, with a guess at the cause, if `fn` does not do the same under the same schedule.
    """
    _check(fn, include, races=races, timeouts=timeouts)
    _check_limits(max_executions=max_executions, max_seconds=max_seconds, max_steps=max_steps, stuck_after=stuck_after)
    plan = by_name(strategy, seed, preemption_bound, memory) if isinstance(strategy, str) else strategy
    if not isinstance(plan, Strategy):
        raise TypeError(f"strategy must be a name or a Strategy, not {type(strategy).__name__}")
    found = Exploration(plan.name)
    name = name or f"{getattr(fn, '__module__', '')}.{getattr(fn, '__qualname__', type(fn).__name__)}"
    kept = [] if store is None else store.traces(name)
    began = _now()
    session = Session(
        fn,
        early=timeouts == "early",
        max_steps=max_steps or MOST_STEPS,
        check_locks=check_locks,
        check_joined=check_joined,
        passes=passes,
        stuck_after=stuck_after,
        memory=watched(memory, include, root or root_of(fn)),
        races=races if memory else "off",
    )
    with session:
        try:
            before = [*kept, *first]
            look = races == "report" and memory
            try:
                outcome = _rehearse(session, found, max_steps is None) if isinstance(strategy, str) else None
                if outcome is None:
                    outcome = _search(session, plan, found, before, max_executions, max_seconds, progress, look)
            except ReplayDivergence:
                if not isinstance(strategy, str):
                    raise
                # What a program does once, the first time (an import, a cache that is filled), is done now: begin anew.
                plan = by_name(strategy, seed, preemption_bound, memory)
                outcome = _search(session, plan, found, (), max_executions, max_seconds, progress, look)
            session.looks_for_races = False
            found.races = list(session.race_watch.races.values())
            found.lock_orders = list(session.race_watch.inversions.values())
            if outcome is not None:
                found.strategy = _finder(plan, found, before)
                _confirm(session, outcome)
                if shrinking and not getattr(outcome.exception, "without_steps", False):
                    outcome, found.shrinking = shrink(session, outcome)
                found.failure = _explain(session, outcome, replay_command)
        except ReplayDivergence as error:
            raise divergence(session, error) from None
        finally:
            found.seconds = _now() - began
    # What other processes say, and when, nobody has explored; nor what a thread does next that may not have polled.
    patience = session.scheduler.patience
    unsure = session.scheduler.outside.took_part or patience.has_assumed or patience.has_passed_over
    found.exhausted = plan.exhausted and found.failure is None and not unsure
    found.coverage = _coverage(session, plan, found, timeouts)
    if store is not None:
        _remember(store, name, kept, found)
    return found


def _check(fn: Any, include: object, **words: str) -> None:
    if not callable(fn):
        raise TypeError(f"what is explored must be a function, not {type(fn).__name__}")
    if inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(f"{fn.__qualname__} is async: what is explored are the schedules of threads")
    if isinstance(include, str):
        raise TypeError(f"include must be a list of names of modules, not {include!r}: write [{include!r}]")
    for name, word in words.items():
        known = _WORDS[name]
        if word not in known:
            raise ValueError(f"{name} must be {', '.join(map(repr, known[:-1]))} or {known[-1]!r}, not {word!r}")


_WORDS = {"races": ("report", "fail", "off"), "timeouts": ("due", "early")}


def _check_limits(**limits: float | None) -> None:
    for name, limit in limits.items():
        if limit is None:
            continue
        if not isinstance(limit, (int, float)) or isinstance(limit, bool):
            raise TypeError(f"{name} must be a number or None, not {type(limit).__name__}")
        if limit <= 0:
            none = "the default" if name == "max_steps" else "no limit"
            raise ValueError(f"{name} must be above 0, or None for {none}, not {limit!r}")


def _finder(plan: Strategy, found: Exploration, first: Sequence[str]) -> str:
    if found.executions <= len(first):
        return "replay"
    return plan.current.name if isinstance(plan, Portfolio) else plan.name


def _remember(store: Store, name: str, kept: list[str], found: Exploration) -> None:
    """Forget the traces that were tried (the last one failed, if any did), and keep what they have been shrunk to."""
    failing = None if found.failure is None else found.failure.trace
    for trace in kept[: found.executions]:
        if trace != failing:
            store.remove(name, trace)
    if failing is not None:
        store.add(name, failing)


def _rehearse(session: Session, found: Exploration, measure: bool) -> Outcome | None:
    """One execution beforehand: what is imported, cached and made once is there then for all the others.

    With `measure` it may be long; if it ends, the others may be longer. Not where somebody brings a strategy: all
    executions are made as that one says.
    """
    scheduler = session.scheduler
    rehearsal = Strategy()
    rehearsal.learns = True
    if measure:
        scheduler.max_steps = _LONG
    outcome = session.run(rehearsal)
    if measure:
        scheduler.max_steps = max(MOST_STEPS, 4 * len(scheduler.trace))
        if outcome is not None and outcome.kind == "livelock":
            scheduler.max_steps = MOST_STEPS
            outcome = session.run(Strategy())
    if outcome is not None:
        found.executions = 1
    return outcome


def _search(
    session: Session,
    plan: Strategy,
    found: Exploration,
    first: Sequence[str],
    max_executions: int | None,
    max_seconds: float | None,
    progress: Callable[[Exploration], object] | None,
    races: bool,
) -> Outcome | None:
    for trace in first:
        found.executions += 1
        outcome = _try_trace(session, trace)
        if outcome is not None:
            return outcome
    most = float("inf") if max_executions is None else max_executions
    end = float("inf") if max_seconds is None else _now() + max_seconds
    run = session.run
    while found.executions < most and plan.begin():
        found.executions += 1
        session.looks_for_races = races and (found.executions <= _LOOKED_AT or not found.executions & 31)
        outcome = run(plan)
        if outcome is not None:
            return outcome
        if not found.executions & 15:
            found.steps = session.steps
            if progress is not None:
                found.coverage = plan.coverage()
                progress(found)
            if _now() > end:
                break
    found.steps = session.steps
    return None


def _try_trace(session: Session, trace: str) -> Outcome | None:
    """How an execution of `trace` fails; None if it does not, or the program has changed since."""
    try:
        return session.run(Replay(session.numbered(traces.decode(trace))))
    except (ReplayDivergence, traces.TraceError):
        return None


def _confirm(session: Session, outcome: Outcome) -> None:
    """Run a failing execution again: it must fail again. ReplayDivergence if not."""
    again = session.run(Replay(outcome.decisions))
    if again is None or again.signature != outcome.signature:
        last = len(outcome.decisions) - 1
        raise ReplayDivergence(last, (outcome.decisions[last][0], f"fail ({outcome.exception!r})"), [])


def _explain(session: Session, outcome: Outcome, replay_command: str | None) -> Failure:
    with _Recording(session, outcome) as recording:
        try:
            again, recorder = recording.of(outcome)
        except ReplayDivergence:
            # Looking for the names of things makes locals live longer, which a program may notice. Then without.
            recording.looking = False
            again, recorder = recording.of(outcome)
        pattern = find(again, recorder, recording.run)
        # The last execution is the failing one: what it has printed, and what it has left behind, is what users see.
        again, recorder = recording.of(outcome)
    trace = traces.encode(session.named(again.decisions))
    name = getattr(session.fn, "__name__", "")
    called = name if name.isidentifier() else "fn"
    command = f"replay({called}, {trace!r})" if replay_command is None else f"{replay_command}{trace}"
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

    def of(self, outcome: Outcome) -> tuple[Outcome, Recorder]:
        """Run a failing execution again. ReplayDivergence if it does not fail in the same way."""
        again, recorder = self.run(Replay(outcome.decisions))
        if again is None or again.signature != outcome.signature:
            last = len(outcome.decisions) - 1
            raise ReplayDivergence(last, (outcome.decisions[last][0], f"fail ({outcome.exception!r})"), [])
        return again, recorder


def _files_of(session: Session, outcome: Outcome) -> frozenset[str]:
    """The files in which an execution has its steps. To have values told takes another compilation of each."""
    sketch = Recorder(session, False)
    session.observer = sketch.record
    try:
        session.run(Replay(outcome.decisions))
    finally:
        session.observer = None
    return frozenset(os.path.abspath(line.place[0]) for line in sketch.lines)


def _coverage(session: Session, plan: Strategy, found: Exploration, timeouts: str) -> str:
    count = f"{found.executions} execution{'s' if found.executions != 1 else ''}"
    if found.failure is not None:
        if found.strategy == "replay":
            return f"{count}: a schedule that had failed before fails again"
        return f"{count} until one failed, found by {found.strategy}"
    sentence = f"{count}: {plan.coverage()}"
    if plan.exhausted or plan.complete:
        sentence += " of the threads' operations on primitives"
        if session.memory is not None:
            sentence += f", {session.memory.coverage.sentence(getattr(session.fn, '__module__', ''))}"
        if session.scheduler.patience.has_assumed:
            sentence += ", but that a thread that was taken to poll in vain was not let on"
        elif session.scheduler.fairness_used:
            sentence += ", where a thread that polls in vain lets others run"
        if timeouts == "due":
            sentence += "; time passed only when nothing else could run"
        if session.scheduler.patience.has_passed_over:
            sentence += "; of a wait and its limit that were due together the one set first has ended it"
    if session.scheduler.outside.took_part:
        sentence += "; what came from other processes came when it came"
    left = session.scheduler.abandoned
    if left:
        sentence += f"; {left} thread{'s' * (left != 1)} would not end with the execution, and stayed behind"
    return sentence


def replay(fn: Callable[[], object], trace: str, **options: Any) -> None:
    """Run `fn()` under the schedule of `trace`, and raise what the failing execution raised.

    `options` are those of `explore` that say how executions run: `timeouts`, `max_steps`, `check_locks`,
    `check_joined`, `memory`, `include`, `root`. Returns None if the execution does not fail. TraceError if the trace is
    none, ReplayDivergence if `fn` can't follow it.
    """
    with _session_for(fn, traces.decode(trace), options) as session:
        outcome = _strictly(session, traces.decode(trace))
    if outcome is not None:
        raise outcome.exception


def explain(fn: Callable[[], object], trace: str, replay_command: str | None = None, **options: Any) -> Failure | None:
    """Run `fn()` as `replay` does; the failure with its report, or None if there is none."""
    with _session_for(fn, traces.decode(trace), options) as session:
        outcome = _strictly(session, traces.decode(trace))
        return None if outcome is None else _explain(session, outcome, replay_command)


def _session_for(fn: Callable[[], object], decisions: list[tuple[str, str]], options: dict[str, Any]) -> Session:
    steps = len(decisions)
    options = {"max_steps": steps if steps > MOST_STEPS + 1 else MOST_STEPS, **options}
    early = options.pop("timeouts", "due") == "early" or any(op == "timeout" for _path, op in decisions)
    include, root = options.pop("include", ()), options.pop("root", None)
    memory = Memory(include, root or root_of(fn)) if options.pop("memory", True) else None
    return Session(fn, early=early, memory=memory, **options)


def _strictly(session: Session, decisions: list[tuple[str, str]]) -> Outcome | None:
    try:
        return session.run(Replay(session.numbered(decisions)))
    except ReplayDivergence as error:
        raise divergence(session, error) from None


def interleave(**options: Any) -> Callable[[F], F]:
    """Make a test function run under many schedules: a decorator, with the arguments of `explore`.

    If a schedule fails, what it raised is raised, with the report as a note (before Python 3.11: printed). Under pytest
    the plugin does the same, and more; see docs/testing.md. TypeError for a coroutine function: it has no threads.
    """
    def decorate(fn: F) -> F:
        if inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(f"{fn.__qualname__} is async: interleave explores the schedules of threads")

        @functools.wraps(fn)
        def explored(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            found = explore(functools.partial(fn, *args, **kwargs), **{"name": fn.__qualname__, **options})
            if found.failure is not None:
                raise_failure(found.failure, note=True)

        # Which function this is: what `functools.wraps` makes of it further out has these attributes, too.
        explored.interleaved = explored  # type: ignore[attr-defined]
        explored.interleave_options = options  # type: ignore[attr-defined]
        return explored  # type: ignore[return-value]

    return decorate


def raise_failure(failure: Failure, note: bool) -> NoReturn:
    """Raise what the failing execution raised, with its report as a note if asked for."""
    __tracebackhide__ = True
    exc = failure.exception
    if note:
        if hasattr(exc, "add_note"):
            exc.add_note(failure.report())
        else:
            print(failure.report())  # noqa: T201
    # A debugger that looks at the traceback begins where the program's own code does.
    traceback = exc.__traceback__
    while traceback is not None and is_ours(traceback.tb_frame.f_code):
        traceback = traceback.tb_next
    raise exc.with_traceback(traceback or exc.__traceback__)
