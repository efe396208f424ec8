"""The end of a scheduler: every thread that is left is ended by an exception, so that its `finally` blocks run.

They may wait there, yield and start others, but not for ever. Who swallows the exception meets another one, and who
swallows a few of them is abandoned, with a warning.
"""

from __future__ import annotations

import warnings

# By name: a program may put other functions into the module `time` later.
from time import monotonic
from typing import TYPE_CHECKING

from scheduler import fork
from scheduler.errors import TaskExit

if TYPE_CHECKING:
    from scheduler.loop import Scheduler
    from scheduler.task import UserTask

__all__ = ["unwind", "unwind_in_place"]

# How often a thread is thrown into, and how many rounds and seconds all may go on each time.
_THROWS = 3
_ROUNDS = 10_000
_SECONDS = 5.0


def unwind(scheduler: Scheduler) -> None:
    """End every thread that is left, by an exception, so that its `finally` blocks run; then the continuations."""
    scheduler._closed = True
    failure: BaseException | None = None
    for task in list(scheduler.suspended):
        task.resume_now()
    for _ in range(_THROWS):
        for task in list(scheduler.tasks):
            task.interrupt_now(TaskExit(), replace=True)
        failure = _run_bounded(scheduler) or failure
        if not scheduler.tasks:
            break
    else:
        names = ", ".join(repr(task.name) for task in scheduler.tasks)
        warnings.warn(f"threads that refuse to end are abandoned: {names}", RuntimeWarning, stacklevel=4)
        fork.vanished.append((list(scheduler.tasks), list(scheduler.ready)))
    for continuation in scheduler.idle:
        continuation.task = None
        continuation.switch()
    scheduler.idle.clear()
    if failure is not None:
        failure.__context__ = scheduler.main.exception
        raise failure


def _run_bounded(scheduler: Scheduler) -> BaseException | None:
    """Run until all threads are done or all wait, but not for ever. Returns what went wrong, if anything did."""
    until = monotonic() + _SECONDS
    failure: BaseException | None = None
    for _ in range(_ROUNDS):
        try:
            if scheduler._calls:
                scheduler._make_calls()
            scheduler.timers.fire(scheduler.clock.now())
            if scheduler.ready:
                scheduler._run_threads()
                if scheduler.poller is not None and scheduler.ready:
                    scheduler.poller.poll(0)
            elif scheduler.tasks and _may_wake(scheduler) and monotonic() < until:
                _wait_a_while(scheduler)
            else:
                break
        except BaseException as error:
            # A posted call that fails, or Ctrl-C: no reason to leave the others as they are. After a Ctrl-C they
            # don't get to sleep.
            failure = failure or error
            if not isinstance(error, Exception):
                until = 0.0
    return failure


def _may_wake(scheduler: Scheduler) -> bool:
    return len(scheduler.timers) > 0 or (scheduler.poller is not None and scheduler.poller.anybody_waits())


def _wait_a_while(scheduler: Scheduler) -> None:
    deadline = scheduler.timers.next_deadline()
    timeout = _SECONDS
    if deadline is not None:
        timeout = max(0.0, min(deadline - scheduler.clock.now(), timeout))
    # Others ring only while `asleep` says that somebody listens; see `Scheduler._idle`.
    scheduler.asleep = True
    try:
        if not (scheduler.ready or scheduler._calls):
            scheduler.clock.wait(scheduler._sleep, timeout)
    finally:
        scheduler.asleep = False


def unwind_in_place(scheduler: Scheduler, before: dict[UserTask, None]) -> None:
    """End the threads that were not there `before`, while those that were run on."""
    for _ in range(_THROWS):
        deadline = scheduler.clock.now() + _SECONDS
        left = scheduler.tasks_but(before)
        for task in left:
            task.resume_now()
            task.interrupt_now(TaskExit(), replace=True)
        for task in left:
            task.join(deadline)
    # Who refuses to end lives on as a daemon, until `run` unwinds it.
    for task in scheduler.tasks_but(before):
        task.daemon = True
