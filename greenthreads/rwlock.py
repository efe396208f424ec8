"""`RWLock`: many readers, or one writer, for threads of both kinds.

First come, first served across both: a reader that comes while a writer waits queues behind it. So a stream of readers
can't starve a writer, nor the reverse; the price is that a thread that reads must not ask to read again.

Who gives the lock up hands it to the oldest waiter, with all readers that stand right behind a reader. All of that is
done under a guard that is held for a few bytecodes and never across a switch.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from greenthreads._time import deadline_of
from scheduler import control
from scheduler.kernel import current_task
from scheduler.task import GONE, Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.task import OldestFirst, Task

__all__ = ["RWLock"]

_READ, _WRITE = "to read", "to write"


class _Scope:
    """`with lock.read():` and `with lock.write():`."""

    __slots__ = ("_acquire", "_release")

    def __init__(self, acquire: Callable[[], bool], release: Callable[[], None]) -> None:
        self._acquire = acquire
        self._release = release

    def __enter__(self) -> None:
        self._acquire()

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        self._release()


class RWLock:
    """A lock that any number of threads hold to read, or one alone to write. FIFO; not reentrant."""

    def __init__(self) -> None:
        self._guard = allocate_lock()
        self._readers = 0
        self._writer: Task | None = None
        self._waiters: OldestFirst = OrderedDict()

    def read(self) -> Any:
        """A context manager that holds the lock to read."""
        return _Scope(self.acquire_read, self.release_read)

    def write(self) -> Any:
        """A context manager that holds the lock to write."""
        return _Scope(self.acquire_write, self.release_write)

    def acquire_read(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock to read, waiting for it at most `timeout` seconds (-1: without limit) if `blocking`.

        Blocks the calling thread. True if it was taken.
        """
        deadline = deadline_of(blocking, timeout)
        if control.active is not None:
            control.active.step("acquire_read", self)
        me = current_task()
        with self._guard:
            if self._writer is None and not self._waiters:
                self._readers += 1
                return True
            if not blocking or timeout == 0:
                return False
            me.value = _READ
            self._waiters[me] = None
        return self._wait(me, deadline)

    def acquire_write(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock to write; as `acquire_read`."""
        deadline = deadline_of(blocking, timeout)
        if control.active is not None:
            control.active.step("acquire_write", self)
        me = current_task()
        with self._guard:
            if self._writer is None and not self._readers and not self._waiters:
                self._writer = me
                return True
            if not blocking or timeout == 0:
                return False
            me.value = _WRITE
            self._waiters[me] = None
        return self._wait(me, deadline)

    def _wait(self, me: Task, deadline: float | None) -> bool:
        undo = self.release_read if me.value is _READ else self.release_write
        taken = False
        try:
            taken = me.park(self._waiters, self, deadline, undo)
        finally:
            me.value = None
            if not taken:
                # If there was no stack left for the call we still stand there.
                self._waiters.pop(me, None)
                # Those behind may have waited for nothing but us.
                with self._guard:
                    self._serve()
        return taken

    def release_read(self) -> None:
        """Give the lock up that was taken to read. RuntimeError if nobody reads."""
        if control.active is not None:
            control.active.step("release_read", self)
        with self._guard:
            if not self._readers:
                raise RuntimeError("release of a lock that nobody holds to read")
            self._readers -= 1
            self._serve()

    def release_write(self) -> None:
        """Give the lock up that was taken to write. RuntimeError if nobody writes."""
        if control.active is not None:
            control.active.step("release_write", self)
        with self._guard:
            if self._writer is None:
                raise RuntimeError("release of a lock that nobody holds to write")
            self._writer = None
            self._serve()

    def _serve(self) -> None:
        """Hand the lock to whom it is due. Under the guard."""
        waiters = self._waiters
        while self._writer is None:
            try:
                oldest = next(iter(waiters), None)
            except RecursionError:
                raise  # A RuntimeError, too; where C calls need stack (Python 3.10) it would come at each look.
            except RuntimeError:
                continue  # Somebody left, by a deadline or an interrupt, between the two calls.
            if oldest is None or (oldest.value is _WRITE and self._readers):
                return
            wants = oldest.value
            if waiters.pop(oldest, GONE) is GONE:
                continue  # Its deadline, or an interrupt, was first.
            if wants is _READ:
                self._readers += 1
            else:
                self._writer = oldest
            oldest.unpark()

    def waiting_for(self, task: Task) -> Wait:
        """See `scheduler.task.Waitable`."""
        return Wait("RWLock", self._writer, str(task.value))

    def __repr__(self) -> str:
        held = "being written" if self._writer is not None else f"readers={self._readers}"
        return f"<{type(self).__module__}.{type(self).__qualname__} at {id(self):#x}: {held}>"
