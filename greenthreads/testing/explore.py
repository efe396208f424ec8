"""`explore`, `interleave` and `replay`: what users of the harness call.

    explore:  search for an execution that fails (_search.py), maybe in several processes (_workers.py)
              -> run it again (a failure that can't be repeated is not reported as one)
              -> shrink it (_shrink.py) -> run it once more, with a record of each step, for the report (_repeat.py)
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import time
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from greenthreads.testing import _coverage, _examples, _repeat, _workers
from greenthreads.testing._divergence import divergence
from greenthreads.testing._exploration import Exploration, Failure
from greenthreads.testing._memory import watched
from greenthreads.testing._search import MOST_EXECUTIONS, Search
from greenthreads.testing._session import MOST_STEPS, Outcome, Session
from greenthreads.testing._shrink import shrink
from greenthreads.testing._store import Store
from greenthreads.testing._workers import Finding, Workers
from scheduler import trace as traces
from scheduler.errors import ReplayDivergence
from scheduler.frames import traceback_of_the_program
from scheduler.strategies import Replay, beside, by_name
from scheduler.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


__all__ = ["Exploration", "Failure", "explore", "interleave", "replay"]

F = TypeVar("F", bound="Callable[..., Any]")

# Read outside of sessions, where `time` is not virtual.
_now = time.monotonic


def explore(
    fn: Callable[[], object],
    *,
    strategy: str | Strategy = "auto",
    max_executions: int | None = MOST_EXECUTIONS,
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
    replay_command: str | Callable[[str], str] | None = None,
    progress: Callable[[Exploration], object] | None = None,
    store: Store | None = None,
    name: str | None = None,
    workers: int = 1,
) -> Exploration:
    """Run `fn()` under many schedules until one fails, the budget is spent, or there is none left.

    `fn` is ordinary code: every thread that it starts, of either kind, through this library or the standard modules,
    is under control, and time is virtual. It runs once per execution, so it must not lean on what it left behind.

    `strategy` is a name (of `scheduler.strategies.BY_NAME`: "dfs", "dpor", "auto", …) or a Strategy object; `seed`
    makes what is random the same each time; `preemption_bound` limits "dfs" and "dpor", also in "auto". With
    `timeouts="early"` a timed wait may end before its time, at any choice point. `max_steps` is how many steps an
    execution may have before it counts as a livelock (None: 20,000, or four times those of the first execution, where
    that has up to 100,000); a thread that takes no step at all for `stuck_after` seconds of real time (None: ever) is
    one, too, unless a debugger has stopped it. `check_locks` and `check_joined` make it a failure to leave a lock held,
    or a thread not joined. Traces in `first` are tried first (TraceError if one is none). Exceptions in `passes` are
    raised, not taken for failures. A failing schedule is kept in `store` under `name` (None: that of `fn`), tried first
    next time, removed when it fails no more.

    With `memory` each access to shared memory is a choice point as well, in the modules below `root` (of the project
    that `fn` belongs to, by default) and in those named in `include`. Data races among these accesses, and locks taken
    in both orders, are gathered in `races` and `lock_orders` of what is returned (of the first executions, and of some
    of the later ones: to look for them takes time), or with "fail" make an execution fail, or are not looked for. A
    comment "benign race" on the line of either access declares that it is meant to be.

    With `workers` so many processes search at once, this one among them, and the first failure that any of them finds
    is told; which one that is depends on how fast they are. They are forks: what `fn` has beside memory (files, ports)
    they share. `max_executions` is for all of them together. Beside "auto" the others draw their schedules, in one way
    each; a strategy that enumerates can't be divided.

    Blocks. Raises ReplayDivergence, with a guess at the cause, if `fn` does not do the same under the same schedule.
    """
    _check(fn, include, races=races, timeouts=timeouts)
    _check_store(store, first)
    _check_limits(max_executions=max_executions, max_seconds=max_seconds, max_steps=max_steps, stuck_after=stuck_after)
    plan, anew = _plan(strategy, seed, preemption_bound, memory)
    others_plan = _plan_beside(strategy, seed, _workers.checked(workers))
    name = name or f"{getattr(fn, '__module__', '')}.{getattr(fn, '__qualname__', type(fn).__name__)}"
    kept = [] if store is None else store.traces(name)
    before = [*kept, *first]
    found = Exploration(plan.name)
    began = _now()
    new_session = functools.partial(
        Session,
        fn,
        early=timeouts == "early",
        max_steps=max_steps or MOST_STEPS,
        check_locks=check_locks,
        check_joined=check_joined,
        passes=passes,
        stuck_after=stuck_after,
        memory=watched(memory, include, root, fn),
        races=races if memory else "off",
    )
    own, share = _divided(max_executions, workers)
    new_search = functools.partial(Search, max_seconds=max_seconds, measures=max_steps is None)
    search_beside = functools.partial(_search_beside, new_session, new_search, others_plan, share)
    # Before the session: each fork has its own, and no kernel thread but the one that has forked.
    with Workers(workers - 1, search_beside) as others:
        session = new_session()
        search = new_search(
            session,
            found,
            plan,
            anew,
            max_executions=own,
            progress=progress,
            looks_for_races=races == "report" and memory,
            stops=others.have_news,
        )
        with session, _with_a_guess(session):
            outcome = _first_failure(session, search, before, others, found)
            found.races = list(session.race_watch.races.values())
            found.lock_orders = list(session.race_watch.inversions.values())
            if outcome is not None:
                if shrinking and not getattr(outcome.exception, "without_steps", False):
                    outcome, found.shrinking = shrink(session, outcome)
                found.failure = _repeat.explain(session, outcome, replay_command)
            found.seconds = _now() - began
    found.exhausted = found.failure is None and _coverage.is_exhausted(session, search.plan)
    found.coverage = _coverage.sentence(session, search.plan, found)
    if store is not None:
        _remember(store, name, kept, found)
    if workers > 1:
        found.coverage += _coverage.beside(others.executions, others.count)
        found.executions += others.executions
    return found


def _first_failure(
    session: Session, search: Search, before: Sequence[str], others: Workers, found: Exploration
) -> Outcome | None:
    """How the first execution fails that does, here or in another process; None if all that were made have passed."""
    outcome = search.run(before)
    session.looks_for_races = False
    if outcome is not None:
        found.strategy = search.finder(before)
        _repeat.confirm(session, outcome)
        return outcome
    if _coverage.is_exhausted(session, search.plan):
        return None
    finding = others.wait()
    if finding is None:
        return None
    found.strategy = finding.strategy
    return _repeat.fails_again(session, finding.trace)


def _search_beside(
    new_session: Callable[[], Session],
    new_search: Callable[..., Search],
    new_plan: Callable[[int], Strategy],
    executions: int | None,
    number: int,
    tell: Callable[[int], None],
) -> Finding | None:
    """What another process does to search beside the one that explores; see `Workers`."""
    session = new_session()
    anew = functools.partial(new_plan, number)
    found = Exploration("")
    search = new_search(
        session,
        found,
        anew(),
        anew,
        max_executions=executions,
        progress=lambda found: tell(found.executions),
        looks_for_races=False,
    )
    with session, _with_a_guess(session):
        outcome = search.run(())
        tell(found.executions)
        if outcome is None:
            return None
        return Finding(traces.encode(session.named(outcome.decisions)), search.finder(()))


def _divided(executions: int | None, workers: int) -> tuple[int | None, int | None]:
    """How many of so many executions are for this process, and for each of the others."""
    if executions is None:
        return None, None
    share = executions // workers
    return executions - (workers - 1) * share, share


def _plan_beside(strategy: str | Strategy, seed: int, workers: int) -> Callable[[int], Strategy]:
    """What makes the strategy of another process, by its number."""
    if isinstance(strategy, Strategy):
        if workers > 1:
            raise TypeError("a Strategy object can't be divided among workers: say its name, or leave workers at 1")
        return lambda _number: strategy
    if workers > 1:
        beside(strategy, seed, 1)
    return functools.partial(beside, strategy, seed)


def _plan(
    strategy: str | Strategy, seed: int, bound: int | None, memory: bool
) -> tuple[Strategy, Callable[[], Strategy] | None]:
    """The strategy, and what makes another one like it where it is known by name."""
    if isinstance(strategy, Strategy):
        return strategy, None
    if not isinstance(strategy, str):
        raise TypeError(f"strategy must be a name or a Strategy, not {type(strategy).__name__}")
    anew = functools.partial(by_name, strategy, seed, bound, memory)
    return anew(), anew


def _check(fn: Any, include: Sequence[object], **words: str) -> None:
    if not callable(fn):
        raise TypeError(f"what is explored must be a function, not {type(fn).__name__}")
    _must_run(fn, "what is explored are")
    if isinstance(include, str):
        raise TypeError(f"include must be a list of names of modules, not {include!r}: write [{include!r}]")
    for name in include:
        if not isinstance(name, str):
            raise TypeError(f"include must be a list of names of modules, with no {name!r} in it")
    for name, word in words.items():
        known = _WORDS[name]
        if word not in known:
            raise ValueError(f"{name} must be {', '.join(map(repr, known[:-1]))} or {known[-1]!r}, not {word!r}")


def _must_run(fn: Callable[..., object], who: str) -> None:
    """TypeError for a function whose call runs nothing of it."""
    name = getattr(fn, "__qualname__", repr(fn))
    if inspect.iscoroutinefunction(fn) or inspect.isasyncgenfunction(fn):
        raise TypeError(f"{name} is async: {who} the schedules of threads")
    if inspect.isgeneratorfunction(fn):
        raise TypeError(f"{name} is a generator function: a call of it runs nothing")


def _check_store(store: object, first: Sequence[str]) -> None:
    if store is not None and not isinstance(store, Store):
        raise TypeError(f"store must be a Store or None, not {type(store).__name__}")
    if isinstance(first, str):
        raise TypeError(f"first must be a list of traces, not one: write [{first!r}]")
    for trace in first:
        traces.decode(trace)


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


def _remember(store: Store, name: str, kept: list[str], found: Exploration) -> None:
    """Forget the traces that were tried (the last one failed, if any did), and keep what they have been shrunk to."""
    failing = None if found.failure is None else found.failure.trace
    for trace in kept[: found.executions]:
        if trace != failing:
            store.remove(name, trace)
    if failing is not None:
        store.add(name, failing)


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
        return None if outcome is None else _repeat.explain(session, outcome, replay_command)


def _session_for(fn: Callable[[], object], decisions: list[tuple[str, str]], options: dict[str, Any]) -> Session:
    steps = len(decisions)
    options = {"max_steps": steps if steps > MOST_STEPS + 1 else MOST_STEPS, **options}
    early = options.pop("timeouts", "due") == "early" or any(op == "timeout" for _path, op in decisions)
    include, root = options.pop("include", ()), options.pop("root", None)
    memory = watched(options.pop("memory", True), include, root, fn)
    return Session(fn, early=early, memory=memory, **options)


def _strictly(session: Session, decisions: list[tuple[str, str]]) -> Outcome | None:
    with _with_a_guess(session):
        return session.run(Replay(session.numbered(decisions)))


@contextlib.contextmanager
def _with_a_guess(session: Session) -> Iterator[None]:
    """A ReplayDivergence that is raised inside says where it happened, and guesses at the cause."""
    try:
        yield
    except ReplayDivergence as error:
        raise divergence(session, error) from None


def interleave(**options: Any) -> Callable[[F], F]:
    """Make a test function run under many schedules: a decorator, with the arguments of `explore`.

    If a schedule fails, what it raised is raised, with the report as a note (before Python 3.11: printed). Under pytest
    the plugin does the same, and more; see docs/testing.md. A test that `hypothesis.given` has made is explored with
    each example, which has its part of `max_executions` and `max_seconds`. TypeError for a coroutine function, which
    has no threads, and for a generator function.
    """
    def decorate(fn: F) -> F:
        _must_run(fn, "interleave explores")

        @functools.wraps(fn)
        def explored(*args: Any, **kwargs: Any) -> None:
            __tracebackhide__ = True
            run = functools.partial(fn, *args, **kwargs)
            if not _examples.has_examples(fn):
                check(run, **{"name": fn.__qualname__, **options})
                return
            of_one = _examples.options_of_one(fn, options)
            with _examples.each_example(fn, lambda example: check(example, **of_one)):
                run()

        def check(run: Callable[[], object], **options: Any) -> None:
            __tracebackhide__ = True
            found = explore(run, **options)
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
    raise exc.with_traceback(traceback_of_the_program(exc.__traceback__) or exc.__traceback__)
