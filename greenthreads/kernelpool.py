"""`run_in_kernel_thread`: blocking calls that must not stop the scheduler.

A pool of kernel threads, grown on demand and kept for a while. Not the standard executor: that one finds `Thread` and
`SimpleQueue` in modules that a program may have patched, and its threads can't be told from ones that might wake a
user thread, which hides deadlocks.
"""

from __future__ import annotations

import os
from _queue import SimpleQueue
from _thread import get_ident, start_new_thread
from functools import partial
from queue import Empty
from typing import TYPE_CHECKING, Any, TypeVar

from scheduler import control, deadlock
from scheduler.kernel import KernelTask, current_task
from scheduler.task import GONE, Task, Wait, unpark_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.task import Waiters

__all__ = ["run_in_kernel_thread"]

T = TypeVar("T")

# More calls than this at once wait for a worker.
_MOST_WORKERS = 128
# Seconds that a worker waits for the next call before it ends.
_PATIENCE = 10.0


class _Call:
    """One call: made by a worker, waited for by the thread that asked."""

    def __init__(self, function: Callable[[], Any], scheduler: Any) -> None:
        self.function = function
        self.scheduler = scheduler
        self.done = False
        self.result: Any = None
        self.error: BaseException | None = None
        self.waiters: Waiters = {}

    def make(self) -> None:
        try:
            self.result = self.function()
        except BaseException as error:
            self.error = error
        # Done first, the waiter second; the waiter stands there first and looks at done second.
        self.done = True
        unpark_all(self.waiters)
        deadlock.unfinished_calls.pop(self, None)

    def wait(self) -> Any:
        me = current_task()
        while not self.done:
            self.waiters[me] = None
            if not self.done or self.waiters.pop(me, GONE) is GONE:
                me.park(self.waiters, self)
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None
        return self.result

    def waiting_for(self, task: Task) -> Wait:
        """See `scheduler.task.Waitable`."""
        return Wait("a call in a kernel thread")


class _Pool:
    """The workers and the calls that wait for one."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[_Call] = SimpleQueue()
        # Each worker's ident while it waits for a call. A dict, whose operations are atomic.
        self.idle: dict[int, None] = {}
        self.workers: dict[int, None] = {}

    def submit(self, call: _Call) -> None:
        deadlock.unfinished_calls[call] = None
        self.calls.put(call)
        # Too many now and then rather than one too few: a surplus worker finds nothing and goes.
        if self.calls.qsize() > len(self.idle) and len(self.workers) < _MOST_WORKERS:
            start_new_thread(self._work, ())

    def _work(self) -> None:
        ident = get_ident()
        self.workers[ident] = None
        try:
            while True:
                try:
                    call = self.calls.get(False)
                except Empty:
                    call = self._wait_for_call(ident)  # type: ignore[assignment]
                    if call is None:
                        return
                task = KernelTask(_Worker, True, call.scheduler)
                task.adopt()
                call.make()
                task.make_last_calls()
                del call, task
        finally:
            self.workers.pop(ident, None)

    def _wait_for_call(self, ident: int) -> _Call | None:
        self.idle[ident] = deadlock.idle_workers[ident] = None
        try:
            return self.calls.get(True, _PATIENCE)
        except Empty:
            return None
        finally:
            self.idle.pop(ident, None)
            deadlock.idle_workers.pop(ident, None)


class _Worker:
    """What stands in for the thread object of a pool's worker, in reports."""

    name = "a worker of run_in_kernel_thread"


_pool = _Pool()


def worker_count() -> int:
    """How many kernel threads the pool has."""
    return len(_pool.workers)


def run_in_kernel_thread(fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
    """Call `fn(*args, **kwargs)` in a kernel thread of a pool; return what it returns, raise what it raises.

    The calling user thread parks and others run meanwhile. A kernel thread just makes the call. An interrupt ends the
    wait, not the call: its result is dropped. User threads that `fn` starts go to the caller's scheduler.
    """
    task = current_task()
    if isinstance(task, KernelTask):
        return fn(*args, **kwargs)
    if control.active is not None and control.active.controls():
        # In place: a kernel thread would be out of control.
        control.active.step("call", fn)
        return fn(*args, **kwargs)
    call = _Call(partial(fn, *args, **kwargs), task.scheduler)
    _pool.submit(call)
    return call.wait()  # type: ignore[no-any-return]


def _after_fork() -> None:
    global _pool
    _pool = _Pool()  # The workers stayed in the parent.
    deadlock.idle_workers.clear()
    deadlock.unfinished_calls.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
