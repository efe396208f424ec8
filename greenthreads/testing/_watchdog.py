"""The watchdog: ends an execution whose running thread takes no step any more.

A loop over plain variables (`while not flag: pass`) has no choice point, so under control it runs for good: no other
thread can set the flag. Nobody inside can notice. A kernel thread looks on, and when no step was taken for some seconds
of real time, raises `NoStep` asynchronously in the thread that runs.

A thread that swallows it is told again, sooner, and at last left behind with its stack: from the constructor of the
exception, which runs in that thread, there is a way out of any loop. Before Python 3.12 there is none from there, but
from its finalizer, which runs where it is swallowed; only a loop that keeps all that it swallows has no end then.

Not while a debugger has stopped the program: no steps are taken then, either. A blocking call into C that is not under
control (a socket of a C library's own) can't be ended from here: `NoStep` is raised when it returns.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING

from greenthreads import patch
from greenthreads._thread import _standard_start
from scheduler.continuation import current
from scheduler.controlled_end import abandon
from scheduler.controlled_task import ControlledTask
from scheduler.frames import is_ours, of_the_program

if TYPE_CHECKING:
    from types import FrameType

    from scheduler.controlled import ControlledScheduler

__all__ = ["NoStep", "Watchdog"]

_DEBUGGERS = ("bdb", "debugpy", "pdb", "pydevd", "_pydevd_bundle")


# How often a thread is told, in one execution, before it is left behind.
_MOST_TIMES = 5
# Before 3.12 the interpreter counts, for the kernel thread, the exceptions that it is making, and tolerates no deep
# recursion meanwhile: one that is never finished would have the next RecursionError abort the process.
_MAY_LEAVE_CONSTRUCTOR = sys.version_info >= (3, 12)


class NoStep(BaseException):
    """Raised in a thread that takes no step. Not an Exception, so that ordinary handlers let it pass."""

    # The thread that is to be left behind if it swallows this one, too.
    leaves: ControlledTask | None = None

    def __init__(self) -> None:
        task = getattr(current(), "task", None)
        if Watchdog.active is not None and isinstance(task, ControlledTask):
            Watchdog.active.has_raised(self, task)

    def __del__(self) -> None:
        task: object = getattr(current(), "task", None)
        # In a frame of ours it is not swallowed: the thread ends by it.
        if isinstance(task, ControlledTask) and task is self.leaves and not is_ours(sys._getframe(1).f_code):
            abandon(task)


class Watchdog:
    """Watches the executions of one session, from `start` to `stop`. `seconds` without a step are too many."""

    active: Watchdog | None = None

    def __init__(self, scheduler: ControlledScheduler, seconds: float) -> None:
        self._scheduler = scheduler
        self._seconds = seconds
        self._ident = 0
        self._stop = patch._allocate_lock()
        self._stopped = patch._allocate_lock()
        # Set by the session around each execution: between them nobody takes steps.
        self.armed = False
        # Where the thread stood that was interrupted last; and how often one was, in this execution.
        self.place = ""
        self._times = 0

    def start(self) -> int:
        """Begin to watch the calling kernel thread; returns the ident of the watchdog's own."""
        self._ident = patch._get_ident()
        self._stop.acquire()
        self._stopped.acquire()
        Watchdog.active = self
        return _standard_start(self._watch, ())

    def text(self) -> str:
        """What a NoStep that was raised means."""
        return (
            f"no step for {self._seconds:g} seconds of real time, at {self.place}: a loop over plain variables has no "
            "choice point, so no other thread gets its turn"
        )

    def stop(self) -> None:
        """Stop watching. Waits for the watchdog to have gone."""
        self._stop.release()
        self._stopped.acquire()
        Watchdog.active = None

    def has_raised(self, exc: NoStep, task: ControlledTask) -> None:
        """`exc` is about to be raised in `task`, the calling thread. Whatever that makes of it, the execution fails."""
        self._times += 1
        task.scheduler.fail("exception", exc, task)
        if self._times > _MOST_TIMES:
            if _MAY_LEAVE_CONSTRUCTOR:
                abandon(task)
            exc.leaves = task

    def _watch(self) -> None:
        try:
            last = None
            while not self._stop.acquire(True, self._seconds / (10 if self._times else 1)):
                # A trace is a list of its own for each execution, and grows by each step.
                scheduler = self._scheduler
                trace = scheduler.trace
                now = (trace, len(trace))
                stands = last is not None and last[0] is trace and last[1] == now[1]
                if last is None or last[0] is not trace:
                    self._times = 0
                if self.armed and stands and not (scheduler.outside.waiting or scheduler.resting):
                    self._interrupt()
                last = now
        finally:
            self._stopped.release()

    def _interrupt(self) -> None:
        frame = sys._current_frames().get(self._ident)
        if frame is None or _in_debugger(frame):
            return
        frame = of_the_program(frame)
        if frame is not None:
            self.place = f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno} in {frame.f_code.co_name}"
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(self._ident), ctypes.py_object(NoStep))


def _in_debugger(frame: FrameType | None) -> bool:
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] in _DEBUGGERS:
            return True
        frame = frame.f_back
    return False
