"""Kernel threads as waiters: what lets an ordinary OS thread stand in the same queues as user threads.

A kernel thread gets a record when it first touches a primitive. The record hangs on the thread's main greenlet, where
`current().task` finds it as fast as it finds a user thread's, and goes when the thread goes.

A blocked kernel thread sleeps on a *bell*, a raw lock made for the one wait: it can't be rung by a wakeup that was
meant for an earlier one.
"""

from __future__ import annotations

import errno
import os
import sys
import threading

# By name: a program may put other functions into the module `time` later.
from _thread import TIMEOUT_MAX, _local, allocate_lock, get_ident, get_native_id
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Protocol

from scheduler import fork, shield
from scheduler.continuation import current
from scheduler.errors import SchedulerError
from scheduler.task import GONE, Task, Waitable, Waiters

if TYPE_CHECKING:
    from _thread import LockType
    from collections.abc import Callable

    from scheduler.loop import Scheduler

__all__ = ["KernelTask", "current_task", "here", "kernel_ident", "longest_sleep", "on_main_kernel_thread"]

# How long the main kernel thread sleeps at a time.
SIGNAL_ROUND = 0.5
# Identifiers of user threads are counted from 1, those of kernel threads are addresses.
_LEAST_ADDRESS = 1 << (32 if sys.maxsize > 1 << 32 else 24)


class _Here(_local):
    """What belongs to the calling kernel thread."""

    def __init__(self) -> None:
        # The scheduler that runs on this kernel thread, if one does.
        self.scheduler: Scheduler | None = None
        self.task: KernelTask | None = None
        # Whatever the layer above wants to go together with the kernel thread.
        self.life: object = None


here = _Here()

# Whose thread runs the signal handlers. In the child of a fork, the one that forked.
_main_ident = threading.main_thread().ident


def on_main_kernel_thread() -> bool:
    """Whether the calling kernel thread is the one that the interpreter started with."""
    return get_ident() == _main_ident


def longest_sleep() -> float:
    """How many seconds the calling kernel thread may sleep on a lock before it looks round.

    On the main one not for ever: a signal sets a flag, for the interpreter to run the handler, and cuts a sleep short.
    One that comes after the interpreter has last looked at the flag, and before the system has gone to sleep, cuts
    nothing short; neither does one that the system gives to another kernel thread, or any on Windows. Nobody can close
    that gap from here, so it is made short: the flag is looked at after each sleep.
    """
    return SIGNAL_ROUND if on_main_kernel_thread() else TIMEOUT_MAX


def kernel_ident(ident: int) -> int:
    """The system's identifier of the kernel thread that runs the thread `ident`, of either kind.

    For system calls: to the C library an identifier is an address, and one that it does not know ends the process. So
    one that was a user thread's, which has ended, is refused with ProcessLookupError.
    """
    for host, scheduler in list(fork.running.items()):
        if any(task.ident == ident for task in list(scheduler.tasks)):
            return host
    if 0 <= ident < _LEAST_ADDRESS:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
    return ident


def _in_child() -> None:
    global _main_ident
    _main_ident = get_ident()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)


class Carrier(Protocol):
    """The system's thread under one that the layer above started."""

    def join(self) -> None:
        """Wait until the system is done with it."""


class KernelTask(Task):
    """The record of a kernel thread. `scheduler` is where the user threads that it starts go, if anywhere."""

    __slots__ = (
        "_bell", "_ident", "_woken", "carrier", "interrupted", "interruptible", "native_id", "scheduler", "since",
    )  # fmt: skip

    ready = None
    continuation = None
    now = staticmethod(monotonic)

    def __init__(
        self,
        thread: Any = None,
        daemon: bool = False,
        scheduler: Scheduler | None = None,
        *,
        ident: int | None = None,
        native_id: int | None = None,
    ) -> None:
        super().__init__(thread, daemon)
        self.scheduler: Scheduler | None = scheduler
        self._ident = ident
        self.native_id = native_id
        # The system's thread under it, if the layer above started it and nobody has joined it yet.
        self.carrier: Carrier | None = None
        self._bell: LockType = _new_bell()
        self._woken = False
        # Whether exceptions may be raised in it asynchronously, and whether one has been.
        self.interruptible = True
        self.interrupted = False

    @property
    def name(self) -> str:
        """The thread's name, for reports."""
        return str(getattr(self.thread, "name", None) or f"kernel thread {self.ident}")

    @property
    def ident(self) -> int | None:
        """See `Task.ident`: the operating system's. None before the thread runs."""
        return self._ident

    @property
    def host(self) -> KernelTask:
        """See `Task.host`."""
        return self

    def adopt(self) -> None:
        """Make this the record of the calling kernel thread."""
        self._ident = get_ident()
        self.native_id = get_native_id()
        here.task = self
        current().task = self

    def park(
        self,
        waiters: Waiters | None,
        reason: Waitable | str,
        deadline: float | None = None,
        undo: Callable[[], object] | None = None,
    ) -> bool:
        """See `Task.park`. Blocks the kernel thread."""
        self.waiters = waiters
        self.wait = reason
        self.since = monotonic()
        bell = self._bell
        try:
            woken = self._block(bell, waiters, deadline)
        except BaseException:
            if waiters is not None and waiters.pop(self, GONE) is GONE:
                # A signal handler raised, but a waker was first: what it hands over is on the way, and goes back.
                while not self._woken:
                    _let_others_run()
                if undo is not None and self.pending is None:
                    undo()
                self.pending = None  # An interrupt that was first; one exception is raised, and it is this one.
            raise
        finally:
            self.wait = self.waiters = None
            self._woken = False
            self._bell = _new_bell()
        exc = self.pending
        if exc is not None:
            self.pending = None
            raise exc
        return woken

    def _block(self, bell: LockType, waiters: Waiters | None, deadline: float | None) -> bool:
        longest = longest_sleep()
        while deadline is not None:
            left = min(deadline - monotonic(), longest)
            if bell.acquire(True, left if left > 0 else 0):
                return True
            if deadline <= monotonic():
                if waiters is None or waiters.pop(self, GONE) is not GONE:
                    return False
                break  # A waker was first: its ring is on the way.
        while not bell.acquire(True, longest):
            pass
        return True

    def give_way(self) -> None:
        """Let another kernel thread run."""
        _let_others_run()

    def sleep(self, seconds: float) -> None:
        """Block the kernel thread for `seconds`, or until it is interrupted."""
        if self.wait is None:
            self.park({self: None}, "sleep", monotonic() + seconds)
        else:
            sleep(seconds)  # In a signal handler, while it is parked.

    def unpark(self) -> None:
        """See `Task.unpark`."""
        # `park` makes the next bell as soon as it sees `_woken`, so the ring must go to the one it has now.
        bell = self._bell
        self._woken = True
        bell.release()

    def interrupt(self, exc: BaseException) -> None:
        """Raise `exc` in the kernel thread.

        At once if it waits on one of our primitives. Else CPython's asynchronous exception: it is raised, as a new
        instance of its class, when the thread next runs a bytecode of the program's own, and so not before a blocking
        call returns. A kernel thread that runs a scheduler is interrupted as its main user thread.
        """
        mine = self._ident == get_ident()
        place, until = None, 0.0
        tired = monotonic() + _LONG_AT_END
        while not self.try_interrupt(
            exc, anywhere=mine or (place is not None and monotonic() > until), at_end=monotonic() > tired
        ):
            # A thread that moves on is not blocked, however often it is met inside.
            before, place = place, shield.place_of(self._ident)
            if place != before:
                until = monotonic() + _LONG_INSIDE
            _let_others_run()

    def try_interrupt(self, exc: BaseException, *, anywhere: bool = False, at_end: bool = False) -> bool:
        """`interrupt`, unless the thread is inside the library just now and not parked: then False.

        Nor if a `with` block of its may just be ending, unless `at_end`. `anywhere`: there, too.
        """
        scheduler = fork.running.get(self._ident or 0)
        if scheduler is not None:
            scheduler.main.interrupt(exc)
            return True
        waiters = self.waiters
        if waiters is not None and waiters.pop(self, GONE) is not GONE:
            self.pending = exc
            self.unpark()
            return True
        with _interrupting:
            if self.interruptible and not self.done and self._ident is not None:
                before, self.interrupted = self.interrupted, True
                if not shield.raise_outside(self._ident, type(exc), anywhere=anywhere, at_end=at_end):
                    self.interrupted = before
                    return False
            elif not self.interrupted:
                # For `admit_interrupts`, if the thread has not got so far; else the thread has ended.
                self.pending = exc
        return True

    def refuse_interrupts(self) -> None:
        """Have no exception raised asynchronously from now on: not in the first lines, nor in the last.

        Those are the library's own, and must be gone through. Before the thread starts, or from itself. One that was
        set before may still be raised here; call again then.
        """
        self.interruptible = False
        with _interrupting:
            if self.interrupted and self._ident is not None:
                shield.take_back()

    def admit_interrupts(self) -> BaseException | None:
        """Let interrupts come from now on; returns the one that came before, if one did. From the thread itself."""
        with _interrupting:
            self.interruptible = True
            early, self.pending = self.pending, None
            return early


# For a thread that always seems to be at the end of a block: a short loop in one.
_LONG_AT_END = 0.02

# No code of the library stays in one place for as many seconds. Should some block, it is interrupted there.
_LONG_INSIDE = 1.0

# Held while it is decided whether an asynchronous exception is still in time.
_interrupting = allocate_lock()


def _let_others_run() -> None:
    # sleep(0) really sleeps since Python 3.11, 75 µs of it.
    os.sched_yield() if hasattr(os, "sched_yield") else sleep(0)


def _new_bell() -> LockType:
    bell = allocate_lock()
    bell.acquire()
    return bell


def current_task() -> Task:
    """The record of the calling thread, of either kind; made now for a kernel thread that had none.

    SchedulerError in a greenlet that the program made inside a scheduler: it is no thread, and can't wait as one.
    """
    try:
        mine: Task = current().task
        return mine
    except AttributeError:
        pass
    except RuntimeError:
        # The interpreter ends, and greenlet knows of no current one any more. What still runs, finalizers for the most
        # part, runs on this kernel thread, and nobody else does.
        if here.task is None:
            here.task = make_record()
        return here.task
    if here.scheduler is not None:
        raise SchedulerError(
            "this greenlet is not a user thread: inside run_scheduler, only threads may use threading operations"
        )
    task = here.task
    if task is None:
        task = make_record()
    task.adopt()
    return task


def _after_fork() -> None:
    if here.task is not None:
        here.task.native_id = get_native_id()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

# Makes the record of a kernel thread that has none. The layer above sets its own, which knows of thread objects.
make_record: Callable[[], KernelTask] = KernelTask
