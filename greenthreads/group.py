"""`ThreadGroup`: threads that end where they began.

The threads that are started in a `with` block are joined at its end, so none outlives it, and none fails unseen: what
goes wrong in any of them is raised there, all of it, as an ExceptionGroup. When one fails there is no use in the
others: they, and the block itself, are interrupted.

What this is modelled on: trio's nurseries (N. J. Smith, "Notes on structured concurrency", 2018), asyncio's TaskGroup.
"""

from __future__ import annotations

import builtins
import importlib
from typing import TYPE_CHECKING, Any

from greenthreads.carriers import checked_kind
from greenthreads.thread import Thread, ThreadInterrupted
from scheduler.errors import Deadlock, TaskExit
from scheduler.kernel import current_task
from scheduler.task import UserTask

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from greenthreads.carriers import Kind
    from scheduler.task import Task

__all__ = ["ThreadGroup"]


class _SiblingFailed(ThreadInterrupted):
    """What a group interrupts with."""


class ThreadGroup:
    """Threads of either kind that are joined at the end of a `with` block.

    When one of them, or the block, fails, the others are interrupted; once all have ended, an ExceptionGroup with every
    failure is raised. `kind` is the default for `start`. Kernel threads are interrupted asynchronously: see
    `Thread.interrupt`. Before Python 3.11 it takes the package `exceptiongroup`, or the extra `groups`: else
    ImportError.
    """

    def __init__(self, *, kind: Kind | None = None) -> None:
        _exception_group_type()  # Better to hear now than when a thread has failed that there is none.
        self._kind = None if kind is None else checked_kind(kind)
        self._parent: Task | None = None
        self._interrupt = _SiblingFailed("another thread of the group failed")
        # Those that were started and not joined yet, in the order of their start.
        self._threads: dict[Thread, None] = {}
        self._failures: list[BaseException] = []
        self._failed: set[Task] = set()
        self._in_block = False
        self._ending = False

    def start(self, target: Callable[..., object], /, *args: Any, **kwargs: Any) -> Thread:
        """Start a thread that calls `target(*args, **kwargs)`, and return it. From any thread."""
        return self.add(Thread(target=target, args=args, kwargs=kwargs, kind=self._kind))

    def add(self, thread: Thread) -> Thread:
        """Start `thread`, which was not started before, as one of the group, and return it. From any thread.

        RuntimeError outside of the `with` block, and once a thread has failed.
        """
        if self._parent is None:
            raise RuntimeError("the group begins with its `with` block")
        if self._ending:
            raise RuntimeError("the group is ending: no thread can join it any more")
        thread._group = self
        self._threads[thread] = None
        try:
            thread.start()
        except BaseException:
            self._threads.pop(thread, None)
            raise
        if self._ending:
            self._stop(thread)
        return thread

    def failed(self, exc: BaseException) -> None:
        """Called in a thread of the group that `exc` leaves."""
        if isinstance(exc, (_SiblingFailed, SystemExit)):
            return
        self._failures.append(exc)
        self._failed.add(current_task())
        self._stop_all()
        parent = self._parent
        if self._in_block and parent is not None:
            parent.interrupt(self._interrupt)

    def _stop_all(self) -> None:
        if self._ending:
            return
        self._ending = True
        for thread in list(self._threads):
            self._stop(thread)

    def _stop(self, thread: Thread) -> None:
        task = thread._task
        # Nor one that has failed: in a kernel thread it may be about to interrupt the parent, and if that were to
        # interrupt it, each would wait until the other is out of the library. It has entered itself before it looks at
        # `_in_block` and `_ending`; the parent, which has set one or found the other, looks here after that.
        if task is None or task is current_task() or task in self._failed:
            return
        if isinstance(task, UserTask) and task.continuation is None:
            task.interrupt(TaskExit())  # It has not run, so there is nobody to tell.
        else:
            thread.interrupt(_SiblingFailed("another thread of the group failed"))

    def __enter__(self) -> ThreadGroup:
        if self._parent is not None:
            raise RuntimeError("a group serves one block: make another")
        self._parent = current_task()
        self._in_block = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._in_block = False
        parent = self._parent
        if isinstance(parent, UserTask):
            # Too late to be raised, if it was not.
            parent.retract(self._interrupt)
        own = None if value is None or isinstance(value, _SiblingFailed) else value
        if own is not None:
            self._stop_all()
        own = self._join_all(own)
        self._ending = True
        if own is not None:
            if not isinstance(own, Exception):
                raise own
            self._failures.append(own)
        if self._failures:
            failures, self._failures = self._failures, []
            try:
                raise _exception_group_type()("failures in a ThreadGroup", failures) from None
            finally:
                del failures, own

    def _join_all(self, own: BaseException | None) -> BaseException | None:
        """Join every thread, also those that are started meanwhile. Returns what the caller itself has to raise."""
        while self._threads:
            thread = next(iter(self._threads))
            try:
                thread.join()
            except _SiblingFailed:
                continue
            except BaseException as exc:
                # Somebody interrupts the group as a whole. Its threads still end before it does.
                own = own or exc
                # A deadlock of threads that were interrupted before stays one.
                hopeless = isinstance(exc, TaskExit) or (isinstance(exc, Deadlock) and self._ending)
                self._stop_all()
                if hopeless:
                    break
                continue
            self._threads.pop(thread, None)
        return own


def _exception_group_type() -> Any:
    """`BaseExceptionGroup`: Python's own since 3.11; before, the backport's."""
    if hasattr(builtins, "BaseExceptionGroup"):
        return builtins.BaseExceptionGroup
    try:
        return importlib.import_module("exceptiongroup").BaseExceptionGroup
    except ImportError:
        raise ImportError(
            "ThreadGroup needs exception groups, which Python has since 3.11: pip install 'greenthreads[groups]'"
        ) from None
