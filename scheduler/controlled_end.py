"""The end of an execution: who is left is unwound, so that its `finally` blocks run.

`TaskExit` is raised where a thread stands. On its way out it may take steps, and nobody else runs meanwhile: a step
that would have to wait raises `TaskExit` again. So does each further one of a thread that goes on and on; and if that
does not help either, it is left behind with its stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from scheduler import fork
from scheduler.continuation import current
from scheduler.errors import TaskExit

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.controlled import ControlledScheduler
    from scheduler.controlled_task import ControlledTask

__all__ = ["abandon", "refuse", "step_of_unwound", "unwind"]

# How many steps a thread may take while it is unwound, before it is told to end once more at each further one; and how
# often it may be told.
_MOST_STEPS = 1_000
_MOST_REFUSALS = 100


def unwind(scheduler: ControlledScheduler) -> None:
    """End every thread that is left. From the root."""
    scheduler.stopping = True
    for task in list(scheduler.alive):
        if task.continuation is None or task.continuation.dead:
            # It has not begun, so there is nobody to tell; or Ctrl-C came where its end was being recorded.
            task.done = True
            scheduler.tasks.pop(task, None)
            continue
        task.pending = TaskExit()
        task.blocked = None
        if task.waiters is not None:
            task.waiters.pop(task, None)
        task._throw_pending()
        if not task.done:
            task.done = True
            scheduler.tasks.pop(task, None)
    scheduler.alive.clear()


def step_of_unwound(me: ControlledTask, blocked: Callable[[], object] | None, deadline: float | None) -> bool:
    """A step of the calling thread while it is unwound; see `control.Controller.step`."""
    goes_on = blocked is None or not blocked()
    # What it polls for may never come, for nobody else runs: its patience has an end here.
    me.refusals += 1
    if me.refusals > _MOST_STEPS or not (goes_on or deadline is not None):
        refuse(me)
    return goes_on


def refuse(me: ControlledTask) -> NoReturn:
    """Raise in the calling thread, which is unwound and would wait; one that goes on and on stays behind."""
    me.refusals += _MOST_STEPS
    if me.refusals > _MOST_STEPS * _MOST_REFUSALS:
        abandon(me)
    raise TaskExit


def abandon(me: ControlledTask) -> None:
    """Leave the calling thread behind, with its stack, and end the execution without it. Does not return."""
    scheduler = me.scheduler
    scheduler.abandoned += 1
    fork.vanished.append(current())
    if me in scheduler.alive:
        scheduler.alive.remove(me)
    scheduler.tasks.pop(me, None)
    me.done = scheduler.stopping = True
    scheduler.root.continuation.switch()
