"""Time slices: the end of a run that does not end by itself. Opted into, per scheduler.

A user thread that computes and never yields is switched out between two bytecodes, and the others go on: those whose
deadline has passed meanwhile first, then the ring in its order. What ends the run is, by where the scheduler runs,
- on the main kernel thread: a timer signal (here);
- on others: a ticking kernel thread that asks for events of the interpreter (`stepping`);
- with `Steps`, on either: events of the interpreter, counted (`stepping`). No clock, so the same switches each time.

While there are no slices none of this is there: no check anywhere, no timer, no events.

**Where a thread may be switched out** is `place`'s to say. Cooperative code relies on a primitive not being left in the
middle: a thread that stands among the waiters and in the ready queue at once would be resumed twice. So not in a
function of this library, nor in what one calls, a comparison in a priority queue or a finalizer that the collector
happens to run there. Nor while the program imports or logs: the locks there know their owner by its kernel thread, and
would let in a second user thread of the same one. That goes for standard `RLock`s at large; see the guide.

**A signal handler may run in the middle of C code**, not only between bytecodes: in a `write` that was interrupted the
file's own lock is held, and another thread that prints would find it taken by its own kernel thread. The instruction
that the frame stands at tells: jumps and the start of a function call no C code. In any other place the handler asks
to be run again at the interpreter's next look at signals, a few instructions on. Every loop jumps, so it gets there.
"""

from __future__ import annotations

import dis
import enum
import signal
import sys
import weakref
from _thread import interrupt_main

# By name: a program may put ours into the module later.
from signal import getsignal
from signal import signal as set_handler
from typing import TYPE_CHECKING, Any, TypeVar

from scheduler.continuation import Continuation, current
from scheduler.errors import SchedulerError
from scheduler.frames import OURS, is_ours
from scheduler.task import UserTask

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType, TracebackType

    from scheduler.loop import Scheduler
    from scheduler.task import Task

__all__ = [
    "Place",
    "SliceBySignal",
    "Slices",
    "Steps",
    "checked",
    "fences_nothing",
    "may_end",
    "no_preemption",
    "place",
]

F = TypeVar("F", bound="Callable[..., Any]")

# Instructions at which the interpreter looks at signals, and that call nothing.
_SAFE = {number for name, number in dis.opmap.items() if name.startswith(("JUMP_", "POP_JUMP_")) or name == "RESUME"}
if sys.version_info[:2] == (3, 11):
    # There a comparison and the jump after it may be one instruction, and stand at the place of the first.
    _SAFE.add(dis.opmap["COMPARE_OP"])
# Modules whose locks are by kernel thread: not while they are on the stack. The import system has two names.
_FRAGILE = ("importlib._bootstrap", "_frozen_importlib", "logging")
# How often a handler that came at a bad moment asks to be run again, before it waits for the next tick.
_PATIENCE = 100


class Steps:
    """A time slice that is counted in loop iterations and calls, not in seconds."""

    def __init__(self, count: int) -> None:
        if not isinstance(count, int):
            raise TypeError(f"steps must be an integer, not {type(count).__name__}")
        if count < 1:
            raise ValueError(f"steps must be at least 1, not {count}")
        self.count = count

    def __repr__(self) -> str:
        return f"Steps({self.count})"


# How many `no_preemption` blocks a thread stands in. Those that stand in none are not here.
_held: dict[Task, int] = {}


class no_preemption:
    """While a thread is in the `with` block, no end of a time slice switches it out. It may still yield and wait.

    For threads of either kind, nested at will; without time slices, and in a kernel thread, it does nothing.
    """

    def __enter__(self) -> None:
        task: Task | None = getattr(current(), "task", None)
        if task is not None:
            _held[task] = _held.get(task, 0) + 1

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task: Task | None = getattr(current(), "task", None)
        if task is not None:
            count = _held.pop(task) - 1
            if count:
                _held[task] = count


class Place(enum.Enum):
    """What the end of a slice meets."""

    GOOD = "may be switched out"
    # A few instructions on it will be better.
    SOON = "not quite here"
    BAD = "not before the next end of a slice"


# Functions of ours that call the program's and have nothing half done meanwhile, by the address of their code.
_open: set[int] = {id(Continuation._run_tasks.__code__)}
# Files of functions that may stand at the bottom of a thread's stack, and call the program's with nothing half done. In
# any other of ours something is: a queue compares two items, the engine asks a policy who is next.
_BEARERS = {
    OURS[1] + name + ".py"
    for name in ("_thread", "_timer", "aio", "cli", "futures", "gunicorn", "profiling", "thread", "wsgi")
}


def fences_nothing(function: F) -> F:
    """Say of a function of this library that a thread may be switched out in what it calls."""
    _open.add(id(function.__code__))
    return function


def place(frame: FrameType | None) -> Place:
    """Whether the calling thread may be switched out in `frame`."""
    if frame is None or is_ours(frame.f_code):
        return Place.SOON
    fenced = False
    while frame is not None:
        if is_ours(frame.f_code):
            if id(frame.f_code) not in _open:
                if frame.f_code.co_filename not in _BEARERS:
                    return Place.BAD
                # At the bottom of a stack, if there are none of the program's beyond.
                fenced = True
        elif fenced or str(frame.f_globals.get("__name__")).startswith(_FRAGILE):
            return Place.BAD
        frame = frame.f_back
    return Place.GOOD


def may_end(scheduler: Scheduler) -> UserTask | None:
    """The calling thread, if it is a user thread of `scheduler` that time slices apply to."""
    task = getattr(current(), "task", None)
    if isinstance(task, UserTask) and task.scheduler is scheduler and task not in _held:
        return task
    return None


class Slices:
    """The time slices of one scheduler. All of it is called on the scheduler's own kernel thread."""

    def begin(self) -> None:
        """From now on end runs."""

    def end(self) -> None:
        """Undo `begin`."""

    def pause(self) -> None:
        """The scheduler is about to sleep."""

    def resume(self) -> None:
        """It has slept."""

    def in_child(self) -> None:
        """In the child of a fork, which inherits no timers and no other kernel threads."""
        self.resume()


class SliceBySignal(Slices):
    """Slices by a timer signal: for the main kernel thread, where handlers run."""

    # The deadlock detector asks: this handler switches threads that are ready, and makes none so.
    wakes_nobody = True

    def __init__(self, scheduler: Scheduler, seconds: float) -> None:
        self._scheduler = scheduler
        self._seconds = seconds
        self._timer = 0
        self._number = 0
        self._patience = _PATIENCE
        self._deciding = False
        self._again: _Again | None = None

    def begin(self) -> None:
        """Take a timer and its signal. SchedulerError if the program uses all of them itself."""
        for timer, number in (
            (signal.ITIMER_REAL, signal.SIGALRM),
            (signal.ITIMER_VIRTUAL, signal.SIGVTALRM),
        ):
            if getsignal(number) is signal.SIG_DFL and signal.getitimer(timer) == (0.0, 0.0):
                self._timer, self._number = int(timer), int(number)
                break
        else:
            raise SchedulerError(
                "time slices need a timer, and this program has handlers for both SIGALRM and SIGVTALRM"
            )
        set_handler(self._number, self)
        # System calls go on by themselves: C code that knows nothing of us need not expect to be interrupted.
        signal.siginterrupt(self._number, False)
        self.resume()

    def end(self) -> None:
        """Stop the timer, and give the signal back."""
        self.pause()
        handler: object = getsignal(self._number)
        if handler is self:
            set_handler(self._number, signal.SIG_DFL)

    def pause(self) -> None:
        """Stop the timer: nobody runs."""
        signal.setitimer(self._timer, 0)
        _look_at_signals()

    def resume(self) -> None:
        """Start the timer."""
        signal.setitimer(self._timer, self._seconds, self._seconds)

    def __call__(self, number: int, frame: FrameType | None) -> object:
        """Run by the interpreter at the end of each slice."""
        task = None if self._deciding else may_end(self._scheduler)
        if task is None:
            return None
        self._deciding = True
        where = place(frame)
        if where is Place.GOOD and not _between_bytecodes(frame):
            where = Place.SOON
        self._deciding = False
        if where is Place.SOON and self._patience:
            self._patience -= 1
            ghost = _Ghost()
            self._again = _Again(ghost, interrupt_main)  # type: ignore[arg-type]
            self._again.number = number
            return ghost
        self._patience = _PATIENCE
        if where is Place.GOOD:
            self._scheduler.cut_short(task)
        return None


class _Ghost:
    """What a handler returns to be run again at the interpreter's next look at signals.

    The signal must be raised anew when no frame of the handler is left: the interpreter would look right there. What a
    handler returns is dropped by C code, after that; and what follows from it, `_Again`, is C code as well.
    """

    __slots__ = ("__weakref__",)


class _Again(weakref.ref["_Ghost"]):
    """The weak reference to a ghost. Its callback is `interrupt_main`, and takes it for the number of the signal."""

    __slots__ = ("number",)

    number: int

    def __index__(self) -> int:
        return self.number


def _look_at_signals() -> None:
    """Being called is a moment at which the interpreter does: a tick that has come is handled by the handler."""


def _between_bytecodes(frame: FrameType | None) -> bool:
    """Whether `frame` stands where no C code can have been called. -1: at its very start, before Python 3.11."""
    return frame is None or frame.f_lasti < 0 or frame.f_code.co_code[frame.f_lasti] in _SAFE


def checked(timeslice: Any) -> float | Steps | None:
    """`timeslice` itself; TypeError or ValueError if it is none."""
    if timeslice is None or isinstance(timeslice, Steps):
        return timeslice
    if isinstance(timeslice, bool) or not isinstance(timeslice, (int, float)):
        raise TypeError(f"timeslice must be a number of seconds, Steps or None, not {type(timeslice).__name__}")
    if not 0 < timeslice < float("inf"):
        raise ValueError(f"timeslice must be a positive number of seconds, not {timeslice!r}")
    return float(timeslice)
