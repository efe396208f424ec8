"""The two adapters that a `Thread` runs on: a user thread of a scheduler, or a kernel thread.

A carrier turns a `Thread` that was told to start into a running task. Everything else, joining, interrupting, being
alive, is the task's, and the same for both.

**A kernel thread is started through `_thread`**, not as a standard Thread. What the standard class does around that it
looks up in its module, where a program may have put our own names (see patch.py); and two objects for one thread would
answer for it. The interpreter waits for it at exit, as for any other that is no daemon, and `threading.enumerate` and
`threading.current_thread` know it: there, too, it is the one `Thread` that the program made.
"""

from __future__ import annotations

import _thread
import builtins
import sys
import threading as _standard

# By name: a program may put ours into the module later.
from _thread import allocate_lock
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast

from scheduler import observers
from scheduler.continuation import current
from scheduler.kernel import KernelTask, current_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from greenthreads.thread import Thread

__all__ = ["Kind", "default_kind", "kernel_threads", "set_default_kind", "start_kernel", "start_user"]

Kind = Literal["user", "kernel"]

# Kernel threads that were started here and have not ended, in the order of their start.
kernel_threads: dict[Thread, None] = {}

# The kind of a `Thread` made without `kind=`.
default: Kind = "user"


def set_default_kind(kind: Kind) -> None:
    """Choose what `Thread(...)` without `kind=` makes from now on: "user" (as it is at first) or "kernel".

    One line that moves a whole program from one kind to the other.
    """
    global default
    default = checked_kind(kind)


def default_kind() -> Kind:
    """The kind of a `Thread` made without `kind=`."""
    return default


def checked_kind(kind: str) -> Kind:
    """`kind` itself; ValueError if there is no such kind."""
    if kind in ("user", "kernel"):
        return cast("Kind", kind)
    raise ValueError(f"kind must be 'user' or 'kernel', not {kind!r}")


def start_user(thread: Thread) -> None:
    """Start `thread` as a user thread of the caller's scheduler. Does not switch.

    A kernel thread starts it in the scheduler that it was started from. RuntimeError if there is none.
    """
    try:
        scheduler = current().task.scheduler
    except (AttributeError, RuntimeError):
        scheduler = current_task().scheduler
    if scheduler is None:
        if thread._falls_back:
            thread._kind = "kernel"
            start_kernel(thread)
            return
        raise RuntimeError(
            f"can't start user thread {thread.name!r}: no scheduler runs here. Start user threads inside "
            "run_scheduler(main), or make it a kernel thread with kind='kernel'"
        )
    first_call = thread._first_call()
    task = scheduler.task_type(scheduler, first_call, thread, thread._daemonic)
    if thread._context is not None:
        task.context = thread._context
    thread._task = task
    try:
        scheduler.add(task)
    except BaseException:
        thread._task = None
        raise
    if first_call is thread._target:
        # As `run` does at its end: a cycle through the target must not keep the thread.
        thread._target = None


def start_kernel(thread: Thread) -> None:
    """Start `thread` as a kernel thread; returns once it runs. RuntimeError if the system can't have another."""
    refuse_at_exit()
    task = KernelTask(thread, thread._daemonic, current_task().scheduler)
    task.refuse_interrupts()
    thread._task = task
    kernel_threads[thread] = None
    running = allocate_lock()
    running.acquire()
    try:
        _start(partial(_be, thread, task, running), task)
    except BaseException:
        kernel_threads.pop(thread, None)
        thread._task = None
        raise
    running.acquire()


# Feature: since Python 3.13.
_AtExit: type[RuntimeError] = getattr(builtins, "PythonFinalizationError", RuntimeError)


def refuse_at_exit() -> None:
    """RuntimeError where a kernel thread that is started now would not run any more, as Python 3.12 and newer have it.

    For finalizers that run when the interpreter has ended: who waits until the thread runs would wait for ever.
    """
    if sys.is_finalizing():
        raise _AtExit("can't create new thread at interpreter shutdown")


def _be(thread: Thread, task: KernelTask, running: _thread.LockType) -> None:
    """Be `thread`, from its first line to its end."""
    task.adopt()
    ident = cast("int", task.ident)
    standard_threads[ident] = thread
    if observers.active:
        observers.spawned(task)
    name_in_system(thread)
    running.release()
    try:
        early = task.admit_interrupts()
        if early is not None:
            thread._fail(early)
        elif thread._context is None:
            thread._bootstrap()
        else:
            thread._context.run(thread._bootstrap)
    except BaseException:
        # An interrupt that came when the thread's own code had ended is none.
        if not task.interrupted:
            raise
    finally:
        # Not in a function: one that comes when that is entered would skip it all.
        task.interruptible = False
        while True:
            try:
                task.refuse_interrupts()
                break
            except BaseException:
                pass
        standard_threads.pop(ident, None)
        kernel_threads.pop(thread, None)
        task.finish()


_set_name: Callable[[str], None] | None = getattr(_thread, "set_name", None)  # since Python 3.14


def name_in_system(thread: Thread) -> None:
    """Give the calling kernel thread, which is `thread`, its name for the system's tools, where Python does that."""
    if _set_name is not None and thread.name:
        try:
            _set_name(thread.name)
        except OSError:
            pass  # As the standard class has it: a name is for people.


# What `threading` knows of threads, by ident: as it was when this module was imported.
standard_threads: dict[int, Any] = _standard._active  # type: ignore[attr-defined]

if hasattr(_thread, "start_joinable_thread"):
    _start_joinable = _thread.start_joinable_thread

    def _start(body: partial[None], task: KernelTask) -> None:
        """Run `body` in a new kernel thread, which the interpreter waits for at exit unless it is a daemon."""
        task.carrier = _start_joinable(body, daemon=task.daemon)

else:  # before Python 3.13

    _start_new = _thread.start_new_thread
    _set_sentinel = _thread._set_sentinel  # type: ignore[attr-defined]

    class _Sentinel:
        """A lock that the interpreter opens when it is done with a kernel thread."""

        def __init__(self, lock: _thread.LockType) -> None:
            self._lock = lock

        def join(self) -> None:
            """Wait until it is."""
            self._lock.acquire()
            self._lock.release()

    def _start(body: partial[None], task: KernelTask) -> None:
        """Run `body` in a new kernel thread, which the interpreter waits for at exit unless it is a daemon."""
        _start_new(_with_sentinel, (body, task))

    def _with_sentinel(body: partial[None], task: KernelTask) -> None:
        lock = _set_sentinel()
        lock.acquire()
        task.carrier = _Sentinel(lock)
        if not task.daemon:
            with _standard._shutdown_locks_lock:  # type: ignore[attr-defined]
                _standard._shutdown_locks.add(lock)  # type: ignore[attr-defined]
        try:
            body()
        finally:
            # At once: the standard class leaves it there, and looks through all of them at each start.
            _standard._shutdown_locks.discard(lock)  # type: ignore[attr-defined]
