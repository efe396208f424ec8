"""Which threads there are, and which one is calling: of both kinds, also those that were not started through `Thread`.

The main thread has an object of its own, made here. A kernel thread that the standard library or C has started gets one
when it first touches this library; so does a task that was spawned through the engine's own interface, when it asks.
"""

from __future__ import annotations

import itertools
import os
import threading as _standard
from _thread import get_ident as _get_ident
from typing import TYPE_CHECKING

from greenthreads._event import Event
from greenthreads.carriers import kernel_threads, standard_threads
from greenthreads.thread import Thread, deprecated, native_id_of
from scheduler import control, fork, kernel, signals
from scheduler.kernel import KernelTask, current_task, here
from scheduler.root import RootTask
from scheduler.task import UserTask

if TYPE_CHECKING:
    from typing import Any

    from greenthreads.carriers import Kind
    from scheduler.task import Task

__all__ = [
    "activeCount",
    "active_count",
    "currentThread",
    "current_thread",
    "enumerate",
    "get_ident",
    "get_native_id",
    "main_thread",
]

_StandardThread = _standard.Thread


class _MainThread(Thread):
    """The thread that the interpreter started with: a kernel thread, and a user thread while it runs a scheduler."""

    def __init__(self) -> None:
        standard: Any = _standard.main_thread()
        self._host = KernelTask(self, ident=standard.ident, native_id=standard.native_id)
        super().__init__(name="MainThread", daemon=False, kind="kernel")

    @property
    def _task(self) -> Task:  # type: ignore[override]
        scheduler = fork.running.get(self._host.ident)  # type: ignore[arg-type]
        return self._host if scheduler is None or scheduler.main.done else scheduler.main

    @property
    def kind(self) -> Kind:
        """ "user" while a scheduler runs on the main kernel thread, for this is then its main user thread."""
        return "kernel" if self._task is self._host else "user"


class _DummyThread(Thread):
    """Stands for a thread that was not started through this class, and can't be joined."""

    def __init__(self, name: str, task: Task, kind: Kind, daemon: bool) -> None:
        super().__init__(name=name, daemon=daemon, kind=kind)
        self._task = task
        self._started = Event()
        self._started.set()

    def is_alive(self) -> bool:
        """Whether the thread has not ended."""
        if not self._started.is_set():
            raise RuntimeError("thread is not alive")
        return super().is_alive()

    def join(self, timeout: float | None = None) -> None:
        """Refuse."""
        raise RuntimeError("cannot join a dummy thread")


class _Life:
    """Goes when the kernel thread goes to whose locals it belongs: nobody else tells of that thread's end."""

    def __init__(self, task: KernelTask) -> None:
        self._task = task

    def __del__(self) -> None:
        self._task.make_last_calls()
        self._task.done = True


_dummy_numbers = itertools.count(1)
# Of the kernel threads that the standard library, or C, started: the last one that had each ident.
_dummies: dict[int, _DummyThread] = {}
# Whether standard threads have the methods of ours, and stand for themselves: see patch.py.
standard_are_ours = False


def _record_of_caller() -> KernelTask:
    """The record for a kernel thread that touches the library for the first time, and was not started by it."""
    ident = _get_ident()
    if ident == _first_thread._host.ident:
        return _first_thread._host
    standard = standard_threads.get(ident)
    name = f"Dummy-{next(_dummy_numbers)}" if standard is None else standard.name
    task = KernelTask(daemon=True if standard is None else standard.daemon, ident=ident)
    here.life = _Life(task)
    # Creating the thread asks for the creator's record: let it find this one.
    task.adopt()
    if standard_are_ours and standard is not None:
        task.thread = standard
    else:
        task.thread = _dummies[ident] = _DummyThread(name, task, "kernel", task.daemon)
    return task


def current_thread() -> Thread:
    """The calling thread, of either kind; in a signal handler of `greenthreads.signal` the main one."""
    task = current_task()
    thread = task.thread
    if isinstance(task, RootTask) or task in signals.interrupted:
        # A signal handler, which is the main thread's business, whomever it has interrupted.
        return here.scheduler.main.thread  # type: ignore[no-any-return, union-attr]
    if isinstance(thread, _StandardThread):
        return thread  # type: ignore[return-value]
    # A task that was spawned from the engine's own interface, or a worker of `run_in_kernel_thread`.
    kind: Kind = "user" if isinstance(task, UserTask) else "kernel"
    task.thread = dummy = _DummyThread(task.name, task, kind, task.daemon)
    return dummy


def main_thread() -> Thread:
    """The main thread. In the child of a fork, the thread that forked."""
    return _main_thread


def enumerate() -> list[Thread]:
    """All threads that are alive, of both kinds, in all schedulers; the main one first."""
    if control.active is not None and here.scheduler is not None and control.active.controls():
        # Threads that are not under control belong to another world, in which the test runner lives.
        control.active.step("enumerate", None)
        tasks = list(here.scheduler.tasks)
        return [task.thread for task in tasks if isinstance(task.thread, _StandardThread)]  # type: ignore[misc]
    threads: dict[Thread, None] = {_main_thread: None}
    for scheduler in list(fork.running.values()):
        for task in list(scheduler.tasks):
            if isinstance(task.thread, _StandardThread):
                threads[task.thread] = None  # type: ignore[index]
    threads.update(dict.fromkeys(list(kernel_threads)))
    if standard_are_ours:
        first = _first_thread._host.ident
        threads.update(dict.fromkeys(thread for ident, thread in list(standard_threads.items()) if ident != first))
    threads.update(dict.fromkeys(dummy for dummy in list(_dummies.values()) if dummy.is_alive()))
    return list(threads)


def active_count() -> int:
    """How many threads are alive: `len(enumerate())`."""
    return len(enumerate())


def get_ident() -> int:
    """The calling thread's `ident`."""
    ident = current_task().ident
    assert ident is not None
    return ident


def get_native_id() -> int:
    """A number that no other thread in the system has while the calling one lives.

    The system's own for a kernel thread, and for a scheduler's main user thread. Other user threads run on the same
    kernel thread: theirs has its number in the lower 32 bits.
    """
    native_id = native_id_of(current_task())
    assert native_id is not None
    return native_id


def currentThread() -> Thread:
    """`current_thread()`."""
    deprecated("currentThread() is deprecated, use current_thread() instead")
    return current_thread()


def activeCount() -> int:
    """`active_count()`."""
    deprecated("activeCount() is deprecated, use active_count() instead")
    return active_count()


def _after_fork() -> None:
    """In the child of a fork only the calling thread is left, and it is the main one."""
    global _main_thread
    for thread in list(kernel_threads):
        if thread._task is not here.task and thread._task is not None:
            thread._task.vanish()
            kernel_threads.pop(thread, None)
    if here.task is not _first_thread._host:
        _first_thread._host.vanish()
    survivor = current_thread()
    for ident in list(_dummies):
        if _dummies[ident] is not survivor:
            task = _dummies.pop(ident)._task
            if task is not None:
                task.vanish()
    _main_thread = survivor


_first_thread = _MainThread()
_main_thread: Thread = _first_thread
kernel.make_record = _record_of_caller
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
