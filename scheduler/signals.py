"""Signal handlers under a scheduler: what one raises belongs to the main user thread.

CPython runs signal handlers between two bytecodes of whatever the main kernel thread is doing: any user thread, the
loop, or the middle of a primitive. An exception would come up right there. In `threading` it is the main thread's, and
so it is here, by standing between the interpreter and the handler:
- the main user thread was running its own code: it is raised there, as ever;
- another thread was: the main one is interrupted, or if that has not raised an earlier one yet, it is raised where we
  are, for this thread does not let go of the kernel thread;
- the engine was running, or slept: an interrupt of the main user thread is posted, which wakes the loop.

All of this is on the one kernel thread, where a handler may come between any two bytecodes, also those of another one.
What is posted is looked at and taken in one assignment, so of two that come before the root's turn the later is raised;
and a main thread that has yet to raise an interrupt raises that one: an exception is never raised twice, or later on.

Ctrl-C is such a handler, the interpreter's own. While a scheduler runs on the main kernel thread, and the program has
none of its own for it, it is stood for. Handlers of the program are by `greenthreads.signal`, and where that is patched
in; those that it has installed by the standard module are left alone.
"""

from __future__ import annotations

import functools
import signal

# By name: a program may put ours into the module later.
from signal import getsignal
from signal import signal as set_handler
from typing import TYPE_CHECKING, Any

from scheduler import control
from scheduler.continuation import current
from scheduler.kernel import here, on_main_kernel_thread

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from scheduler.loop import Scheduler

__all__ = ["CtrlC", "Handler", "interrupted"]

# The tasks on whose stacks handlers run just now.
interrupted: list[object] = []


class Handler:
    """Stands for the handler `function`, which is called at once, wherever that is: it may wake, start and post, but
    not wait in the midst of the engine.
    """

    def __init__(self, function: Callable[[int, FrameType | None], Any]) -> None:
        self.function = function
        self._posted: BaseException | None = None

    @property
    def wakes_nobody(self) -> bool:
        """See deadlock.py."""
        return self.function is signal.default_int_handler or bool(getattr(self.function, "wakes_nobody", False))

    def __call__(self, number: int, frame: FrameType | None) -> Any:
        """Run by the interpreter, on the main kernel thread."""
        scheduler = here.scheduler
        if scheduler is None or control.active is not None:
            return self.function(number, frame)
        task = getattr(current(), "task", None)
        interrupted.append(task)
        try:
            return self.function(number, frame)
        except BaseException as exc:
            if not self._takes(scheduler, exc, frame):
                raise
        finally:
            interrupted.remove(task)
        return None

    def _takes(self, scheduler: Scheduler, exc: BaseException, frame: FrameType | None) -> bool:
        """Whether the main thread will raise `exc`; False if it is to be raised where we are."""
        main = getattr(scheduler, "main", None)
        if main is None:
            return False  # It has yet to begin.
        if not _in_engine(frame):
            if getattr(current(), "task", None) is main or self._posted is not None or main.pending is not None:
                return False
            if not main.done:
                scheduler.interrupt_main(exc)
                return True
        self._posted = exc
        scheduler.post(functools.partial(self._deliver, scheduler))
        return True

    def _deliver(self, scheduler: Scheduler) -> None:
        exc, self._posted = self._posted, None
        if exc is not None:
            scheduler.interrupt_main(exc)


class CtrlC(Handler):
    """Stands for the interpreter's handler of SIGINT while a scheduler runs."""

    def __init__(self) -> None:
        super().__init__(signal.default_int_handler)
        self._installed = False

    def install(self) -> None:
        """Take SIGINT over, on the main kernel thread and from the default handler only."""
        if on_main_kernel_thread():
            if getsignal(signal.SIGINT) is signal.default_int_handler:
                set_handler(signal.SIGINT, self)
                self._installed = True

    def restore(self) -> None:
        """Give SIGINT back, if it is still ours."""
        if self._installed and getsignal(signal.SIGINT) is self:
            set_handler(signal.SIGINT, signal.default_int_handler)


def _in_engine(frame: FrameType | None) -> bool:
    name = "" if frame is None else str(frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] in ("scheduler", "greenthreads")
