"""Continuations: the only file that knows greenlet.

A continuation is a stack that runs one task after another. It is never thrown away between two tasks: creating and
ending a greenlet costs about 9 µs (its frame stack is mapped and unmapped), picking up the next task with an idle one
less than 1 µs.

What one task could leave behind for the next on the same stack:
- context variables: the continuation's context is dropped after each task, a fresh one appears at the first use;
- the exception being handled: each task runs inside a `try` of its own, and leaves no handler active;
- locals: the frame of the loop below holds nothing of a task that has ended.

A new greenlet inherits the recursion depth, and stands on the C stack, of whoever first switches to it. Continuations
are therefore started by the root alone; a chain of threads starting threads would otherwise end in RecursionError.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from greenlet import getcurrent, gettrace, greenlet, settrace

if TYPE_CHECKING:
    from contextvars import Context

    from scheduler.loop import Scheduler

__all__ = ["Continuation", "SwitchHook", "current", "set_switch_hook"]


class Continuation(greenlet):
    """A stack that tasks run on, one after the other.

    `task` is the one that runs on it now. The root of a running scheduler and the main greenlet of a kernel thread
    that uses the primitives carry a `task` too, so `current().task` is the calling thread's record wherever it runs.
    """

    __slots__ = ("scheduler", "task")

    scheduler: Scheduler
    # A UserTask, but on the greenlets that are not ours to make: see the class's docstring.
    task: Any

    def __init__(self, scheduler: Scheduler, root: greenlet) -> None:
        super().__init__(Continuation._run_tasks, root)
        self.scheduler = scheduler

    # No method, and as few locals as there can be: a bound method, and each local, would be there once a thread.
    @staticmethod
    def _run_tasks() -> None:
        # Of each frame below a switch greenlet takes note: with 10,000 threads, whose stacks are in no cache, a quarter
        # of the switch's price. So the thread's function is called right here, and not by a method of its task.
        self = current()
        while self.task is not None:
            try:
                self.task.value = self.task.begin(self)()
            except BaseException as exc:
                self.task.failed(exc)
            self.task.finish()
            if self.gr_context is not None:
                self.gr_context = None
            self.scheduler.recycle(self)

    def set_context(self, context: Context | None) -> None:
        """Give the task that runs here another context (None: an empty one, made at the first use)."""
        self.gr_context = context


# The calling kernel thread's current continuation. A plain greenlet there (the main one, or one that the user made)
# has no `task` until the engine gives it one, and reading it is AttributeError.
current = cast("Callable[[], Continuation]", getcurrent)


# What greenlet calls after a switch: with "switch" or "throw", and the two continuations.
SwitchHook = Callable[[str, "tuple[Continuation, Continuation]"], None]


def set_switch_hook(hook: SwitchHook | None) -> None:
    """Call `hook(event, (origin, target))` after every switch on this kernel thread; None takes it away.

    greenlet's own trace function: while there is none a switch costs nothing more.
    """
    settrace(hook)  # type: ignore[arg-type]


def has_switch_hook() -> bool:
    """Whether a hook (or another tool's greenlet trace function) is set on this kernel thread."""
    return gettrace() is not None
