"""What a program calls of the engine: run a scheduler, give way, sleep."""

from __future__ import annotations

import operator

# By name: a program may put other functions into the module `time` later.
from time import sleep as _system_sleep
from typing import TYPE_CHECKING, Any, TypeVar

from scheduler.continuation import current
from scheduler.errors import SchedulerBug, SchedulerError
from scheduler.kernel import current_task, here
from scheduler.loop import Scheduler
from scheduler.timeslices import fences_nothing

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.policy import Policy
    from scheduler.timeslices import Steps

__all__ = ["run_scheduler", "sleep", "yield_now"]

T = TypeVar("T")


@fences_nothing
def run_scheduler(
    main: Callable[..., T],
    /,
    *args: Any,
    timeslice: float | Steps | None = None,
    policy: Policy | None = None,
    **kwargs: Any,
) -> T:
    """Run `main(*args, **kwargs)` as the main user thread of a new scheduler on the calling kernel thread.

    Round robin with every user thread that it starts. Returns its result, or raises its exception, after all
    non-daemon user threads have ended; daemon threads are then unwound: `TaskExit` is raised where they wait, so their
    `finally` blocks run.

    `timeslice` ends the run of a user thread that computes without yielding after so many seconds, or `Steps`, and lets
    the others run; None (the default) lets each run until it yields or waits. `policy` chooses who runs next; None is
    round robin. Neither is passed on to `main`.

    Blocks the calling kernel thread. Raises `Deadlock` when every user thread waits and nothing can wake one, and
    `SchedulerError` (a RuntimeError) when called inside itself. Ctrl-C raises KeyboardInterrupt in `main`.

    In the main thread of a program that the `run_scheduler` command runs there is a scheduler already (an *ambient*
    one): `main` is called in place, and the same is awaited and unwound before this returns.
    """
    outer = here.scheduler
    if outer is not None and outer.ambient and getattr(current(), "task", None) is outer.main:
        if policy is not None:
            raise SchedulerError(
                "the run_scheduler command has chosen the policy: give it --policy, or run the program with python"
            )
        return outer.run_in_place(main, *args, timeslice=timeslice, **kwargs)
    return Scheduler(timeslice=timeslice, policy=policy).run(main, *args, **kwargs)


def yield_now() -> None:
    """Let every other ready thread of this scheduler run before the calling one goes on.

    In a kernel thread: let another kernel thread run.
    """
    me: Any
    try:
        me = current().task
    except (AttributeError, RuntimeError):
        me = current_task()
    ready = me.ready
    if ready is None:
        me.give_way()  # A kernel thread, or a task under another regime than the ring's.
        return
    try:
        ready.append(me)
        ready.popleft().switch()
    except RecursionError:
        # There was no stack left for the switch, which may be a few frames deep. So we go on; whom we took out of the
        # queue is missing there now, and the root shall look for it. No calls: they would fail as well.
        root = me.scheduler.root
        place = 0
        try:
            while ready[place] is not me:
                place += 1
            del ready[place]
            ready += (root,)
            root.has_turn, root.misses_one, root.passes = False, True, 0
        except IndexError:
            pass  # Thrown into us, by an interrupt: we had left.
        raise


def sleep(seconds: float) -> None:
    """Let at least `seconds` pass; other threads run meanwhile. `sleep(0)` yields.

    A user thread parks, a kernel thread blocks. Errors are `time.sleep`'s own.
    """
    delay = _seconds(seconds)
    if delay:
        current_task().sleep(delay)
    else:
        yield_now()


def _seconds(seconds: Any) -> float:
    """`seconds` as a float, checked as `time.sleep` checks it."""
    if isinstance(seconds, (int, float)) and 0 <= seconds <= 1e9:
        return float(seconds)
    if not isinstance(seconds, float) and hasattr(type(seconds), "__index__"):
        seconds = operator.index(seconds)
        if 0 <= seconds <= 1e9:
            return float(seconds)
    # Out of range, or no number: let time.sleep say so in its own words. It accepts up to about 292 years.
    if isinstance(seconds, (int, float)) and 1e9 < seconds < 9.2e9:
        return float(seconds)
    _system_sleep(seconds)
    raise SchedulerBug(f"time.sleep({seconds!r}) did not raise")
