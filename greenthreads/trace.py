"""Trace and profile functions: of each thread its own, of either kind.

CPython has one trace function a kernel thread, and knows nothing of the user threads on it. While somebody uses
`settrace` or `setprofile` an observer swaps them at each switch; while nobody does, all this costs a look at a flag for
each thread that starts.

A function that a user thread sets by `sys.settrace` alone, while nothing was set here, is not swapped: nobody tells us.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from scheduler import fork, observers
from scheduler.kernel import current_task
from scheduler.task import UserTask

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from scheduler.continuation import Continuation
    from scheduler.task import Task

__all__ = [
    "getprofile",
    "gettrace",
    "setprofile",
    "setprofile_all_threads",
    "settrace",
    "settrace_all_threads",
]

# What threads are started with.
_trace_hook: Any = None
_profile_hook: Any = None
# Whether either is set.
wanted = False
# A tool's profile function, in place of what any user thread may have: see `profiling`.
_over: Any = None


class _Functions(NamedTuple):
    """The trace and the profile function of a thread."""

    trace: Any
    profile: Any


_NONE = _Functions(None, None)


class _Swapper(observers.Observer):
    """Gives each user thread its own functions back when it runs."""

    def __init__(self) -> None:
        # Of the threads that do not run now. Those without any are not here.
        self._functions: dict[Task, _Functions] = {}

    def switched(self, origin: Continuation, target: Continuation) -> None:
        """Keep those of the one, set those of the other."""
        self._keep(getattr(origin, "task", None))
        functions = self._functions.pop(getattr(target, "task", None), _NONE)  # type: ignore[arg-type]
        if sys.gettrace() is not functions.trace:
            sys.settrace(functions.trace)
        profile = functions.profile if _over is None else _over
        if sys.getprofile() is not profile:
            sys.setprofile(profile)

    def _keep(self, task: Task | None) -> None:
        trace, profile = sys.gettrace(), sys.getprofile()
        if profile is _over:
            profile = None
        if task is not None and (trace is not None or profile is not None):
            self._functions[task] = _Functions(trace, profile)

    def ended(self, task: Task) -> None:
        """Take them away: the next thread may run on the same continuation, without a switch."""
        self._functions.pop(task, None)
        if isinstance(task, UserTask):
            sys.settrace(None)
            sys.setprofile(_over)

    def give_all(self, **change: Any) -> None:
        """Change a function of every user thread that does not run."""
        me = current_task()
        for scheduler in list(fork.running.values()):
            for task in list(scheduler.tasks):
                if task is not me:
                    self._functions[task] = self._functions.get(task, _NONE)._replace(**change)


_swapper = _Swapper()
_swapping = False


def _want() -> None:
    """Begin to swap, on all kernel threads that run user threads. It is not undone: a debugger comes back."""
    global wanted, _swapping
    before, wanted = wanted, _trace_hook is not None or _profile_hook is not None
    if wanted and not before:
        # Threads that have been started and not run yet begin with what is set now.
        for scheduler in list(fork.running.values()):
            for task in list(scheduler.tasks):
                if task.continuation is None and task.fn is not None:
                    task.fn = partial(_begin_and_call, task.fn)
    if wanted and not _swapping:
        _swapping = True
        observers.subscribe(_swapper)
        for scheduler in list(fork.running.values()):
            scheduler.post(observers.install)


def begin() -> None:
    """Set the functions for the calling thread, which is about to run its first line."""
    if _trace_hook is not None:
        sys.settrace(_trace_hook)
    if _profile_hook is not None and _over is None:
        sys.setprofile(_profile_hook)


def _begin_and_call(fn: Callable[[], object]) -> object:
    begin()
    return fn()


@contextmanager
def profiling(func: Any) -> Iterator[None]:
    """For a `with` block: `func` is the profile function of the calling kernel thread, whichever user thread runs."""
    global _over
    before = sys.getprofile()
    _over = func
    sys.setprofile(func)
    try:
        yield
    finally:
        _over = None
        sys.setprofile(before)


def settrace(func: Any) -> None:
    """Set a trace function for all threads, of either kind, that are started from now on.

    It is passed to `sys.settrace` in each before its `run` is called.
    """
    global _trace_hook
    _trace_hook = func
    _want()


def gettrace() -> Any:
    """The function set by `settrace`."""
    return _trace_hook


def setprofile(func: Any) -> None:
    """Set a profile function for all threads, of either kind, that are started from now on.

    It is passed to `sys.setprofile` in each before its `run` is called.
    """
    global _profile_hook
    _profile_hook = func
    _want()


def getprofile() -> Any:
    """The function set by `setprofile`."""
    return _profile_hook


def settrace_all_threads(func: Any) -> None:
    """`settrace`, and also for all threads that run already. For kernel threads only since Python 3.12."""
    settrace(func)
    _swapper.give_all(trace=func)
    _in_all_kernel_threads("_settraceallthreads", sys.settrace, func)


def setprofile_all_threads(func: Any) -> None:
    """`setprofile`, and also for all threads that run already. For kernel threads only since Python 3.12."""
    setprofile(func)
    _swapper.give_all(profile=func)
    _in_all_kernel_threads("_setprofileallthreads", sys.setprofile, func)


def _in_all_kernel_threads(name: str, in_this_one: Callable[[Any], object], func: Any) -> None:
    getattr(sys, name, in_this_one)(func)
