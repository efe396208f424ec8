"""`Event`: a flag that threads of both kinds wait for."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from greenthreads._condition import Condition
from greenthreads._lock import Lock
from greenthreads._time import deadline_after
from greenthreads._unpicklable import Unpicklable
from scheduler import control, observers
from scheduler.continuation import current
from scheduler.kernel import current_task
from scheduler.task import GONE, Wait, unpark_all

if TYPE_CHECKING:
    from scheduler.task import Task, Waiters

__all__ = ["Event"]


class Event(Unpicklable):
    """A flag, false at first, as `threading.Event`. Works between threads of both kinds, in any scheduler."""

    # Made when somebody asks: see `_cond`.
    _condition: Condition | None = None

    def __init__(self) -> None:
        self._flag = False
        self._waiters: Waiters = {}

    def is_set(self) -> bool:
        """Whether the flag is true."""
        if control.active is not None:
            control.active.step("is_set", self)
        return self._flag

    def isSet(self) -> bool:
        """`is_set()`."""
        warnings.warn("isSet() is deprecated, use is_set() instead", DeprecationWarning, stacklevel=2)
        return self.is_set()

    def set(self) -> None:
        """Make the flag true and wake all who wait, in the order in which they came. From any thread; no switch."""
        if control.active is not None:
            control.active.step("set", self)
        self._flag = True
        if self._waiters:
            unpark_all(self._waiters)

    def clear(self) -> None:
        """Make the flag false."""
        if control.active is not None:
            control.active.step("clear", self)
        self._flag = False

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the flag is true; False if `timeout` seconds passed first. Blocks the calling thread."""
        if control.active is not None:
            control.active.step("wait", self)
        if self._flag:
            return True
        deadline = None if timeout is None else deadline_after(timeout)
        waiters = self._waiters
        me: Any
        try:
            me = current().task
        except (AttributeError, RuntimeError):
            me = current_task()
        waiters[me] = None
        # `set` makes the flag true before it looks at the waiters; we stood there before we look at the flag.
        if self._flag and waiters.pop(me, GONE) is not GONE:
            return True
        if deadline is not None or me.ready is None or me.pending is not None or observers.active:
            return me.park(waiters, self, deadline)  # type: ignore[no-any-return]
        # `UserTask.park`, written out, for crowds of threads wait here: a frame less is 240 bytes less for each,
        # and a seventh of the time that it takes to wake them.
        me.waiters = waiters
        me.wait = self
        scheduler = me.scheduler
        try:
            me.since = scheduler.now()
            (me.ready.popleft() if me.ready else scheduler.root).switch()
        except RecursionError:
            if me.wait is not None:
                root = scheduler.root
                me.wait = None
                if me in waiters:
                    del waiters[me]
                me.ready += (root,)
                root.has_turn, root.misses_one, root.passes = False, True, 0
            raise
        me.wait = None
        if me.pending is not None:
            me.switch = me._throw_pending
        return True

    def _at_fork_reinit(self) -> None:
        """Forget who waits: they stayed in the parent."""
        self._waiters = {}
        self._condition = None

    @property
    def _cond(self) -> Condition:
        """What the standard Event is made of, for those who hold it to keep others of their kind out."""
        if self._condition is None:
            self._condition = Condition(Lock())
        return self._condition

    def waiting_for(self, task: Task) -> Wait:
        """See `scheduler.task.Waitable`."""
        return Wait("Event")

    def __repr__(self) -> str:
        state = "set" if self._flag else "unset"
        return f"<{type(self).__module__}.{type(self).__qualname__} at {id(self):#x}: {state}>"
