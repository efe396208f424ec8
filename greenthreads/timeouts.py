"""`timeout`: a limit for all that a thread does in a `with` block.

In a user thread the limit is a timer of its scheduler, and what it does is an interrupt: it is raised where the thread
waits, or next waits or yields. A computation that never does is not cut short.

In a kernel thread somebody else has to watch the clock: a kernel thread for each block. It interrupts as
`Thread.interrupt` does there, asynchronously: at once where the thread waits on one of our primitives, at some bytecode
soon where it computes, and not before it returns where it is in a blocking system call.
"""

from __future__ import annotations

from _thread import TIMEOUT_MAX, allocate_lock, start_new_thread
from time import sleep
from typing import TYPE_CHECKING

from greenthreads.carriers import refuse_at_exit
from scheduler.kernel import KernelTask, current_task
from scheduler.task import UserTask

if TYPE_CHECKING:
    from _thread import LockType
    from types import TracebackType

    from scheduler.task import Task

__all__ = ["timeout"]


class _TimeUp(BaseException):
    """What is raised inside the block. No `Exception`, so that handlers there let it pass."""


class timeout:
    """Raise TimeoutError if a `with` block takes longer than `seconds` (None: without limit).

    For threads of both kinds; blocks may be nested, and the limit of each is its own. See the top of this file for
    where the block is left.
    """

    def __init__(self, seconds: float | None) -> None:
        if seconds is not None:
            if not isinstance(seconds, (int, float)):
                raise TypeError(f"timeout must be a number of seconds or None, not {type(seconds).__name__}")
            if seconds != seconds:
                raise ValueError("Invalid value NaN (not a number)")
        self.seconds = seconds
        self._expired = False
        self._task: Task | None = None
        self._timer: int | None = None
        # On the scheduler's clock.
        self.deadline = 0.0
        self._watch: _Watch | None = None
        self._interrupt: BaseException | None = None

    @property
    def expired(self) -> bool:
        """Whether the block was left because its time was up."""
        return self._expired

    @property
    def interrupts(self) -> Task | None:
        """Whom it may interrupt: the thread that is in the block. For a scheduler that decides when."""
        return None if self._timer is None else self._task

    def __enter__(self) -> timeout:
        if self._task is not None:
            raise RuntimeError("a timeout serves one block: make another")
        self._task = task = current_task()
        if self.seconds is None:
            return self
        if isinstance(task, UserTask):
            self._interrupt = _TimeUp()
            self.deadline = task.now() + self.seconds
            self._timer = task.scheduler.timers.add(self.deadline, self)
        elif isinstance(task, KernelTask):
            self._watch = _Watch(task, self.seconds)
        return self

    def expire(self) -> None:
        """Called by the scheduler when the time is up."""
        task = self._task
        if isinstance(task, UserTask) and self._interrupt is not None:
            task.interrupt_now(self._interrupt)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task = self._task
        if isinstance(task, UserTask) and self._timer is not None and self._interrupt is not None:
            timer, self._timer = self._timer, None
            if not task.scheduler.timers.cancel(timer):
                # Too late to be raised, if it was not.
                task.retract(self._interrupt)
            self._expired = value is self._interrupt
        elif self._watch is not None:
            self._watch.end()
            self._expired = type(value) is self._watch.interrupt
        if self._expired:
            raise TimeoutError(f"timed out after {self.seconds} seconds") from None


class _Watch:
    """Watches the clock for a kernel thread."""

    def __init__(self, task: KernelTask, seconds: float) -> None:
        refuse_at_exit()
        self._task = task
        # A class of its own: an asynchronous exception is raised as a class.
        self.interrupt: type[BaseException] = type("_TimeUp", (_TimeUp,), {})
        self._over = False
        self._bell = allocate_lock()
        self._bell.acquire()
        self._ended = allocate_lock()
        self._ended.acquire()
        started = allocate_lock()
        started.acquire()
        start_new_thread(self._wait, (max(0.0, min(seconds, TIMEOUT_MAX)), started))
        # Not seen before it runs: a scheduler in the block might find that nothing can wake its threads.
        started.acquire()

    def _wait(self, seconds: float, started: LockType) -> None:
        started.release()
        try:
            if not self._bell.acquire(True, seconds):
                # Inside the library it may be on its way out of the block, and then has been in time.
                looks = 0
                while not self._over and not self._task.try_interrupt(self.interrupt(), at_end=looks > 100):
                    looks += 1
                    sleep(0.0001)
        finally:
            self._ended.release()

    def end(self) -> None:
        """Stop watching. Whatever it interrupts with was raised before this is called, or never will be."""
        self._over = True
        self._bell.release()
        self._ended.acquire()
