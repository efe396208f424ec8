"""A session: one function, run under control as often as somebody wants, and what became of each execution.

The layer between the scheduler, which knows tasks, and those who explore, replay, shrink and explain.
"""

from __future__ import annotations

import os
import sys
import threading
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import TYPE_CHECKING, Any, NamedTuple

from greenthreads._lock import Lock
from greenthreads._rlock import RLock
from greenthreads.testing._environment import Environment
from greenthreads.testing._functions import settle
from greenthreads.testing._races import RaceWatch
from greenthreads.testing._watchdog import NoStep, Watchdog
from scheduler import control
from scheduler.continuation import current
from scheduler.controlled import ControlledScheduler, ControlledTask
from scheduler.deadlock import Waiting
from scheduler.deadlock import report as _report
from scheduler.errors import Deadlock, ReplayDivergence
from scheduler.frames import of_the_program
from scheduler.strategy import Strategy

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType, TracebackType

    from greenthreads.testing._memory import Memory
    from scheduler import controlled

__all__ = ["MOST_STEPS", "Livelock", "LockLeftHeld", "Outcome", "Session", "ThreadNotJoined", "fail_now"]


# How many steps an execution may have, if nobody says otherwise.
MOST_STEPS = 20_000


class Livelock(RuntimeError):
    """An execution had more steps than are allowed: its threads run on and on, and get nowhere.

    Or it had none any more: `without_steps`.
    """

    without_steps = False


class LockLeftHeld(AssertionError):
    """A lock was still held when all threads had ended."""


class ThreadNotJoined(AssertionError):
    """A thread was started, and nobody has waited for its end."""


class Outcome(NamedTuple):
    """How an execution has failed."""

    # "assertion", "exception", "deadlock", "livelock", "data race", "lock left held" or "thread not joined".
    kind: str
    exception: BaseException
    # In which thread; by its descent, see scheduler/descent.py.
    thread: str
    # What must stay the same when the failure is shrunk: the same error, at the same place.
    signature: tuple[object, ...]
    # The decisions that led there: who, by number, and to do what.
    decisions: list[tuple[int, str]]
    # Which of them are preemptions: the running thread could have gone on.
    preemptions: list[int]


class Session:
    """Runs `fn` under control. A context manager; inside it the standard modules are replaced."""

    def __init__(
        self,
        fn: Callable[[], object],
        *,
        early: bool = False,
        max_steps: int = MOST_STEPS,
        check_locks: bool = False,
        check_joined: bool = False,
        passes: tuple[type[BaseException], ...] = (),
        stuck_after: float | None = 10.0,
        memory: Memory | None = None,
        races: str = "off",
    ) -> None:
        self.fn = fn
        # What memory is watched, if any is.
        self.memory = memory
        self.scheduler = ControlledScheduler(Strategy(), early=early, max_steps=max_steps)
        self._environment = Environment(self.scheduler, fn)
        self._watchdog = None if stuck_after is None else Watchdog(self.scheduler, stuck_after)
        self._unraisablehook: Any = None
        # Kernel threads that were there before, and the watchdog's: by ident.
        self.kernel_threads: set[int] = set()
        # The names of those of them that may be the program's.
        self.threads_beside: list[str] = []
        self._main_thread: Any = None
        self._check_locks = check_locks
        self._check_joined = check_joined
        # Exceptions of the main thread that are no failure but end the session, such as a test runner's "skip".
        self._passes: tuple[type[BaseException], ...] = (KeyboardInterrupt, *passes)
        self._outcome: Outcome | None = None
        # Who waits for what in a deadlock, and how many of them make it up.
        self._deadlock: list[Waiting] = []
        self._cycle = 0
        # What looks for data races, and whether it looks at the next execution; see `explore`.
        self.race_watch = RaceWatch(self.scheduler)
        self.looks_for_races = False
        self._races = races
        # Called at each step, where somebody wants to know about each.
        self.observer: Callable[[ControlledTask, str, object, FrameType | None], None] | None = None
        # Called with a failure while the threads still stand where they stood.
        self.on_failure: Callable[[controlled.Failure], object] | None = None
        # For the checks at the end: where locks were acquired, by whom, and threads started; and who was joined.
        self._acquired: dict[tuple[Any, ControlledTask], str] = {}
        self._started: dict[threading.Thread, str] = {}
        self._joined: dict[threading.Thread, None] = {}
        self.executions = 0
        self.steps = 0

    def __enter__(self) -> Session:
        if control.active is not None:
            raise RuntimeError("an exploration is going on already: one can't be made inside another")
        self._look_for_kernel_threads()
        self.scheduler.__enter__()
        try:
            self._environment.__enter__()
        except BaseException:
            self.scheduler.__exit__()
            raise
        self._main_thread = threading.main_thread()
        if self._watchdog is not None:
            self.kernel_threads.add(self._watchdog.start())
        self._unraisablehook, sys.unraisablehook = sys.unraisablehook, self._on_unraisable
        self.scheduler.on_failure = self._on_failure
        control.active = self.scheduler
        try:
            if self.memory is not None:
                self.memory.begin(self.scheduler)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.memory is not None:
            self.memory.end()
        control.active = None
        sys.unraisablehook = self._unraisablehook
        if self._watchdog is not None:
            self._watchdog.stop()
        self._environment.__exit__()
        self.scheduler.__exit__()
        if self.memory is not None:
            settle()

    def _look_for_kernel_threads(self) -> None:
        mine = threading.get_ident()
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        frames = sys._current_frames()
        self.kernel_threads = set(frames)
        for ident, frame in frames.items():
            name = names.get(ident) or f"thread {ident}"
            if ident != mine and not _is_of_a_runner(name, frame):
                self.threads_beside.append(repr(name))

    # ---- One execution -----------------------------------------------------------------------------------------------

    def run(self, strategy: Strategy) -> Outcome | None:
        """Run one execution, which `strategy` has begun; how it failed, if it did.

        ReplayDivergence if the strategy could not repeat what it wanted to. Raises what may pass.
        """
        scheduler = self.scheduler
        scheduler.strategy = strategy
        self._outcome = None
        looks = self.looks_for_races or self._races == "fail"
        if looks:
            self.race_watch.begin()
        if looks or self._check_locks or self._check_joined:
            for each in (self._acquired, self._started, self._joined):
                each.clear()
            is_all = looks and not (self._check_locks or self._check_joined or self.observer is not None)
            scheduler.observer = self.race_watch.step if is_all else self._watch
        else:
            scheduler.observer = self.observer
        self._environment.begin(self._on_exception)
        watchdog = self._watchdog
        if watchdog is None:
            failure = scheduler.execute(self._main, self._main_thread)
        else:
            watchdog.armed = True
            try:
                failure = scheduler.execute(self._main, self._main_thread)
            finally:
                watchdog.armed = False
        self.executions += 1
        self.steps += len(scheduler.trace)
        race = self.race_watch.end() if looks else None
        if failure is not None:
            return self._judge(failure)
        if race is not None and self._races == "fail":
            signature = ("data race", race.what, race.places)
            return Outcome("data race", race, "0", signature, scheduler.trace, scheduler.preemptions)
        if self._check_locks or self._check_joined:
            return self._look_for_leftovers()
        return None

    def _main(self) -> None:
        result: Any = self.fn()
        if isinstance(result, (CoroutineType, GeneratorType, AsyncGeneratorType)):
            if not isinstance(result, AsyncGeneratorType):
                result.close()  # Without a warning that nobody has awaited it.
            raise TypeError(f"the function has returned a {type(result).__name__} that nobody has run")
        self._environment.end_main()

    def _on_exception(self, args: Any) -> None:
        """`threading.excepthook` of an execution: an exception has left a thread."""
        if args.exc_type is SystemExit:
            return
        thread = args.thread
        task = getattr(thread, "_task", None)
        self.scheduler.fail("exception", args.exc_value, task if isinstance(task, ControlledTask) else None)

    def _on_unraisable(self, args: Any) -> None:
        """`sys.unraisablehook`: also hears of exceptions that leave a thread of `_thread.start_new_thread`."""
        if str(args.err_msg).startswith("Exception ignored in thread started by"):
            self.scheduler.fail("exception", args.exc_value, getattr(current(), "task", None))
        else:
            self._unraisablehook(args)

    def _on_failure(self, failure: controlled.Failure) -> None:
        if failure.kind == "deadlock":
            cycle = failure.cycle
            others = self.scheduler.cycles.beside(cycle)
            self._deadlock = _report([*cycle, *others])
            self._cycle = len(cycle) or len(others)
        if self.on_failure is not None:
            self.on_failure(failure)

    def _judge(self, failure: controlled.Failure) -> Outcome:
        exc = failure.exception
        scheduler = self.scheduler
        thread = "0" if failure.task is None else scheduler.descent.path_of(failure.task.id)
        decisions, preemptions = scheduler.trace, scheduler.preemptions
        if failure.kind == "divergence" and isinstance(exc, ReplayDivergence):
            raise exc
        if failure.kind == "deadlock":
            waiting, self._deadlock = self._deadlock, []
            # The threads that make the deadlock; the others just happen to be somewhere.
            where = sorted((row.what.split()[0], row.file, row.line) for row in waiting[: self._cycle])
            signature = ("deadlock", *where)
            return Outcome("deadlock", Deadlock(waiting), thread, signature, decisions, preemptions)
        if failure.kind == "livelock":
            exc = Livelock(
                f"no end after {scheduler.max_steps} steps\n(if the test is just that long, give it more by max_steps)"
            )
            return Outcome("livelock", exc, thread, ("livelock",), decisions, preemptions)
        assert exc is not None
        if isinstance(exc, NoStep) and self._watchdog is not None:
            livelock = Livelock(self._watchdog.text())
            livelock.without_steps = True
            return Outcome("livelock", livelock, thread, ("livelock",), decisions, preemptions)
        if isinstance(exc, self._passes) or _is_a_timeout(exc):
            raise exc
        kind = "assertion" if isinstance(exc, AssertionError) or _is_of_a_test_runner(exc) else "exception"
        return Outcome(kind, exc, thread, (kind, type(exc), _place_of(exc)), decisions, preemptions)

    # ---- What is left at the end, where somebody asks ---------------------------------------------------------------

    def _watch(self, task: ControlledTask, op: str, obj: Any, frame: FrameType | None) -> None:
        if self._check_locks or self._check_joined:
            if op == "acquire" and isinstance(obj, (Lock, RLock)):
                self._acquired[obj, task] = _place_in(frame)
            elif op == "join" and isinstance(obj, threading.Thread):
                self._joined[obj] = None
            elif op == "start" and isinstance(obj, threading.Thread):
                self._started[obj] = _place_in(frame)
        if self.looks_for_races or self._races == "fail":
            self.race_watch.step(task, op, obj, frame)
        if self.observer is not None:
            self.observer(task, op, obj, frame)

    def _look_for_leftovers(self) -> Outcome | None:
        error: AssertionError
        if self._check_locks:
            for (lock, task), place in self._acquired.items():
                if lock._owner is task and lock._bar.locked():
                    error = LockLeftHeld(f"{type(lock).__name__} left held, taken by {task.name!r} at {place}")
                    return self._left_over("lock left held", error, task, place)
        if self._check_joined:
            for thread, place in self._started.items():
                if thread not in self._joined and not thread.daemon:
                    error = ThreadNotJoined(f"thread {thread.name!r}, started at {place}, was never joined")
                    return self._left_over("thread not joined", error, None, place)
        return None

    def _left_over(self, kind: str, error: BaseException, task: ControlledTask | None, place: str) -> Outcome:
        scheduler = self.scheduler
        path = "0" if task is None else scheduler.descent.path_of(task.id)
        return Outcome(kind, error, path, (kind, place), scheduler.trace, scheduler.preemptions)

    # ---- Decisions as a trace, and back -----------------------------------------------------------------------------

    def named(self, decisions: Sequence[tuple[int, str]]) -> list[tuple[str, str]]:
        """Decisions with threads by their descent."""
        paths: dict[int, str] = {}
        for number, _op in decisions:
            if number not in paths:
                paths[number] = self.scheduler.descent.path_of(number)
        return [(paths[number], op) for number, op in decisions]

    def numbered(self, decisions: Sequence[tuple[str, str]]) -> list[tuple[int, str]]:
        """Decisions with threads by their numbers in this session."""
        return [(self.scheduler.descent.number_of(path), op) for path, op in decisions]


def _is_of_a_runner(name: str, frame: FrameType | None) -> bool:
    """Whether a kernel thread is a test runner's, and touches nothing that the program has."""
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).startswith(("execnet.", "xdist.")):
            return True
        frame = frame.f_back
    return name.startswith("pytest_timeout")


def _place_in(frame: FrameType | None) -> str:
    frame = of_the_program(frame)
    return "?" if frame is None else f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def fail_now(exc: BaseException) -> None:
    """The calling thread is about to end with `exc`: the execution ends here, and what it does yet is cleaning up."""
    task = getattr(current(), "task", None)
    if isinstance(task, ControlledTask):
        task.scheduler.fail("exception", exc, task)


def _is_a_timeout(exc: BaseException) -> bool:
    """Whether a watchdog's signal handler has raised `exc`: that no schedule is to blame for, and none repeats it."""
    traceback = exc.__traceback__
    while traceback is not None:
        if traceback.tb_frame.f_globals.get("__name__") == "pytest_timeout":
            return True
        traceback = traceback.tb_next
    return False


def _is_of_a_test_runner(exc: BaseException) -> bool:
    # pytest.fail() raises what is no AssertionError, and no Exception.
    return not isinstance(exc, Exception) and type(exc).__module__.startswith(("_pytest", "builtins.Failed"))


def _place_of(exc: BaseException) -> tuple[str, int] | None:
    traceback = exc.__traceback__
    if traceback is None:
        return None
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback.tb_frame.f_code.co_filename, traceback.tb_lineno
