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

__all__ = ["in_kernel_thread", "run_in_kernel_thread"]

T = TypeVar("T")

# More calls than this at once wait for a worker.
_MOST_WORKERS = 128
# Seconds that a worker waits for the next call before it ends.
_PATIENCE = 10.0


class _Call:
    """One call: made by a worker, waited for by the thread that asked."""

    def __init__(self, pool: _Pool, function: Callable[[], Any], scheduler: Any) -> None:
        self.pool = pool
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
        # Before the caller is told, who may have another call for this worker.
        self.pool.unfinished.pop(self, None)
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
    """The workers and the calls that wait for one.

    A call may last for ever, so none waits for another's end: there are as many workers as calls that have not ended,
    up to `_MOST_WORKERS`. Who submits one puts it among the calls first and counts the workers second; a worker that
    goes takes itself out of them first and counts the calls second. Of the two first steps one comes first.

    Rejected: to count the workers that wait. One that has waited long enough, or has just been given a call, is counted
    until it runs again, and the next call is left to it.
    """

    def __init__(self) -> None:
        self.calls: SimpleQueue[_Call] = SimpleQueue()
        # Dicts, whose operations are atomic.
        self.unfinished: dict[_Call, None] = {}
        self.workers: dict[object, None] = {}

    def submit(self, call: _Call) -> None:
        deadlock.unfinished_calls[call] = self.unfinished[call] = None
        if len(self.unfinished) > len(self.workers) and len(self.workers) < _MOST_WORKERS:
            try:
                self._start_worker()
            except BaseException:
                del deadlock.unfinished_calls[call], self.unfinished[call]
                raise
        self.calls.put(call)

    def _start_worker(self) -> None:
        worker = object()
        self.workers[worker] = None
        try:
            start_new_thread(self._work, (worker,))
        except BaseException:
            del self.workers[worker]
            raise

    def _work(self, worker: object) -> None:
        try:
            while True:
                try:
                    call = self._wait_for_call()
                except Empty:
                    self.workers.pop(worker, None)
                    if len(self.unfinished) <= len(self.workers):
                        return
                    self.workers[worker] = None
                    continue
                task = KernelTask(_Worker, True, call.scheduler)
                task.adopt()
                call.make()
                task.make_last_calls()
                del call, task
        finally:
            self.workers.pop(worker, None)

    def _wait_for_call(self) -> _Call:
        ident = get_ident()
        deadlock.idle_workers[ident] = None
        try:
            return self.calls.get(True, _PATIENCE)
        finally:
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
    wait, not the call: its result is dropped. User threads that `fn` starts go to the caller's scheduler. Of more than
    128 calls at once the others wait for one to end.
    """
    task = current_task()
    if isinstance(task, KernelTask):
        return fn(*args, **kwargs)
    if control.active is not None and control.active.controls():
        # In place: a kernel thread would be out of control.
        control.active.step("call", fn)
        return fn(*args, **kwargs)
    call = _Call(_pool, partial(fn, *args, **kwargs), task.scheduler)
    _pool.submit(call)
    return call.wait()  # type: ignore[no-any-return]


def in_kernel_thread(function: Callable[..., Any], name: str) -> Any:
    """What makes each call of `function`, called `name` (with its module), by `run_in_kernel_thread`."""

    def called(*args: Any) -> Any:
        return run_in_kernel_thread(function, *args)

    called.__name__ = called.__qualname__ = name.rpartition(".")[2]
    called.__doc__ = f"`{name}`, in a kernel thread while the calling user thread is parked."
    return called


def _after_fork() -> None:
    global _pool
    _pool = _Pool()  # The workers stayed in the parent.
    deadlock.idle_workers.clear()
    deadlock.unfinished_calls.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
