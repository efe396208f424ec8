"""`Lock`: mutual exclusion for threads of both kinds, in any number of schedulers.

An uncontended lock is one atomic test-and-set in C. Only who finds it taken touches the waiters; how it is handed over
to them is in _handover.py.
"""

from __future__ import annotations

from _thread import allocate_lock
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from greenthreads._handover import HandedOver
from greenthreads._time import deadline_of
from scheduler import control
from scheduler.continuation import current
from scheduler.kernel import current_task
from scheduler.task import Wait

if TYPE_CHECKING:
    from scheduler.task import Task

__all__ = ["Lock"]


class Lock(HandedOver):
    """A mutual exclusion lock, as `threading.Lock`: not reentrant, and any thread may release it.

    Works between user threads of any scheduler and kernel threads. FIFO among waiters.
    """

    __slots__ = ()

    def __init__(self) -> None:
        self._bar = allocate_lock()
        self._waiters = OrderedDict()
        self._owner = None

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, waiting for it at most `timeout` seconds (-1: without limit) if `blocking`.

        Blocks the calling thread. True if it was taken. ValueError and OverflowError as `threading.Lock`.
        """
        if timeout != -1 or blocking is not True:
            deadline = deadline_of(blocking, timeout)
        else:
            deadline = None
        if control.active is not None:
            until = deadline if blocking and timeout != 0 else control.AT_ONCE
            if not control.active.step("acquire", self, self._bar.locked, until):
                return False
        try:
            me: Task = current().task
        except (AttributeError, RuntimeError):
            me = current_task()
        if self._bar.acquire(False):
            self._owner = me
            return True
        if not blocking or timeout == 0:
            return False
        return self._wait(me, deadline)

    def __enter__(self) -> bool:
        if control.active is not None:
            control.active.step("acquire", self, self._bar.locked)
        try:
            me: Task = current().task
        except (AttributeError, RuntimeError):
            me = current_task()
        if self._bar.acquire(False):
            self._owner = me
            return True
        # `_wait(me, None)`, written out: the commonest way to wait.
        waiters = self._waiters
        waiters[me] = None
        try:
            if self._bar.acquire(False) and self._pass_to_oldest() is me:
                return True
            return me.park(waiters, self, None, self.release)
        except RecursionError:
            # As in `_wait`.
            if me in waiters:
                del waiters[me]
            raise

    def _wait(self, me: Task, deadline: float | None) -> bool:
        waiters = self._waiters
        waiters[me] = None
        try:
            if self._bar.acquire(False) and self._pass_to_oldest() is me:
                return True
            return me.park(waiters, self, deadline, self.release)
        except RecursionError:
            # There may have been no stack left for a call: then we still stand there, and do not wait.
            if me in waiters:
                del waiters[me]
            raise

    def release(self) -> None:
        """Open the lock, or hand it to the oldest waiter. From any thread. RuntimeError if it is not taken."""
        if control.active is not None:
            control.active.step("release", self)
        self._open()

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        if control.active is not None:
            control.active.step("release", self)
        if self._waiters:
            self._hand_over()
            return
        self._owner = None
        self._bar.release()
        if self._waiters:
            self._rescue()

    def _pass_to_oldest(self) -> Task:
        """We took the lock while standing among its waiters: whoever came first there is its owner.

        Nobody but the owner takes a waiter out, and that is us; so there is one.
        """
        oldest, _none = self._waiters.popitem(False)
        self._owner = oldest
        if oldest is not current().task:
            oldest.unpark()
        return oldest

    # The names that `_thread` had before these.
    acquire_lock = acquire
    release_lock = release
    locked_lock = HandedOver.locked

    def __init_subclass__(cls, **kwargs: Any) -> None:
        raise TypeError(f"type '{Lock.__module__}.{Lock.__qualname__}' is not an acceptable base type")

    def _at_fork_reinit(self) -> None:
        """Open the lock, and forget who waits: they stayed in the parent."""
        self._bar = allocate_lock()
        self._waiters = OrderedDict()
        self._owner = None

    def waiting_for(self, task: Task) -> Wait:
        """See `scheduler.task.Waitable`."""
        return Wait("Lock", self._owner)

    def __repr__(self) -> str:
        state = "locked" if self._bar.locked() else "unlocked"
        return f"<{state} {type(self).__module__}.{type(self).__qualname__} object at {id(self):#x}>"
