"""`Semaphore` and `BoundedSemaphore`: a number of permits, for threads of both kinds, in any number of schedulers.

**Permits are tokens in a list**, so that taking and giving one are single atomic calls in C: no lock inside, nothing
that an interrupt, a signal handler or a finalizer could find half done, and two calls where nobody waits.

**Handover.** While somebody waits, `release` gives the permit to the oldest waiter itself.
    waiter:   1. stand among the waiters   2. look for a permit again   3. park
    releaser: 1. put the permit there      2. look at the waiters again 3. take it back, for the oldest of them
Of the two first steps one comes first, so one of the second steps sees it.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import repeat
from operator import length_hint
from typing import TYPE_CHECKING, Any

from greenthreads._time import deadline_after, until
from greenthreads._unpicklable import Unpicklable
from scheduler import control
from scheduler.kernel import current_task
from scheduler.task import Wait

if TYPE_CHECKING:
    from scheduler.task import OldestFirst, Task

__all__ = ["BoundedSemaphore", "Semaphore"]

# More permits than this are counted by an iterator until they are taken, rather than laid out at once.
_AT_ONCE = 1024


class Semaphore(Unpicklable):
    """A semaphore with `value` permits at first, as `threading.Semaphore`. FIFO among waiters."""

    def __init__(self, value: int = 1) -> None:
        if value < 0:
            raise ValueError("semaphore initial value must be >= 0")
        at_once = value if value < _AT_ONCE else _AT_ONCE
        self._permits: list[None] = [None] * at_once
        self._reserve = iter(range(value - at_once))
        self._waiters: OldestFirst = OrderedDict()

    @property
    def _value(self) -> int:
        return len(self._permits) + length_hint(self._reserve)

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """Take a permit, waiting for one at most `timeout` seconds (None: without limit) if `blocking`.

        Blocks the calling thread. True if one was taken. ValueError for a timeout without blocking.
        """
        if not blocking and timeout is not None:
            raise ValueError("can't specify timeout for non-blocking acquire")
        if control.active is not None and not control.active.step(
            "acquire", self, self._is_empty, until(blocking, timeout)
        ):
            deadline_after(timeout)  # A bad one is refused where there is no permit.
            return False
        if self._take():
            return True
        if not blocking:
            return False
        return self._wait(timeout)

    __enter__ = acquire

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        self.release()

    def _is_empty(self) -> bool:
        return not self._permits and not length_hint(self._reserve)

    def _take(self) -> bool:
        try:
            self._permits.pop()
        except IndexError:
            return next(self._reserve, None) is not None
        return True

    def _wait(self, timeout: float | None) -> bool:
        if timeout is None:
            deadline = None
        else:
            deadline = deadline_after(timeout)
            if timeout <= 0:
                return False
        me = current_task()
        waiters = self._waiters
        waiters[me] = None
        if self._take():
            try:
                oldest, _none = waiters.popitem(False)
            except KeyError:
                self._give()  # All were served meanwhile, and so were we.
            else:
                if oldest is me:
                    return True
                oldest.unpark()
        return me.park(waiters, self, deadline, self._give)

    def release(self, n: int = 1) -> None:
        """Give `n` permits back, or to those who have waited longest. From any thread; does not switch."""
        if n < 1:
            raise ValueError("n must be one or more")
        if control.active is not None:
            control.active.step("release", self)
        for _ in repeat(None, n):
            self._give()

    def _give(self) -> None:
        while True:
            if self._waiters:
                try:
                    waiter, _none = self._waiters.popitem(False)
                except KeyError:
                    pass
                else:
                    waiter.unpark()
                    return
            self._permits.append(None)
            if not self._waiters or not self._take():
                return

    def waiting_for(self, task: Task) -> Wait:
        """See `scheduler.task.Waitable`."""
        return Wait("Semaphore")

    def __repr__(self) -> str:
        return f"<{type(self).__module__}.{type(self).__qualname__} at {id(self):#x}: value={self._value}>"


class BoundedSemaphore(Semaphore):
    """A semaphore that is never released more often than it was acquired, as `threading.BoundedSemaphore`."""

    def __init__(self, value: int = 1) -> None:
        super().__init__(value)
        self._initial_value = value
        # A token for each permit that somebody has. Whoever releases one takes a token out first.
        self._taken: list[None] = []

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        """See `Semaphore.acquire`."""
        if not super().acquire(blocking, timeout):
            return False
        self._taken.append(None)
        return True

    __enter__ = acquire

    def release(self, n: int = 1) -> None:
        """See `Semaphore.release`. ValueError, and nothing released, if that were more than were acquired."""
        if n < 1:
            raise ValueError("n must be one or more")
        # Before the tokens are counted: whoever acquires in between makes this release a right one.
        if control.active is not None:
            control.active.step("release", self)
        popped = 0
        try:
            while popped < n:
                self._taken.pop()
                popped += 1
        except IndexError:
            self._taken.extend(repeat(None, popped))
            raise ValueError("Semaphore released too many times") from None
        for _ in repeat(None, n):
            self._give()

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}/{self._initial_value}>"
