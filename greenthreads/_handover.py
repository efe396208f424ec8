"""What the two locks share: how they are let go.

**Handover.** While somebody waits, `release` does not open the lock but makes the oldest waiter its owner, so a lock
under contention goes round first come, first served, and a thread that was woken has it, whatever else happens to it.

**No wakeup is lost.** Waiter: 1. stand in the waiters, 2. try the lock again, 3. park. Releaser without waiters:
1. open the lock, 2. look at the waiters again, 3. if there is one, take the lock back on its behalf (or leave that to
whoever took it meanwhile). Of the two first steps one comes first, so one of the second steps sees it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from greenthreads._unpicklable import Unpicklable
from scheduler import control

if TYPE_CHECKING:
    from _thread import LockType

    from scheduler.task import OldestFirst, Task

__all__ = ["HandedOver"]


class HandedOver(Unpicklable):
    """A lock that goes from its owner to the oldest of those who wait for it."""

    __slots__ = ("__weakref__", "_bar", "_owner", "_waiters")

    # For a controlled scheduler: who has acquired it keeps others from doing so.
    is_exclusive = True

    # An atomic test-and-set: closed while the lock is taken.
    _bar: LockType
    _waiters: OldestFirst
    # Who holds it.
    _owner: Task | None

    @property
    def is_open(self) -> bool:
        """For a controlled scheduler: whether nobody holds it. To ask is no step, as it is to ask `locked()`."""
        return not self._bar.locked()

    def _open(self) -> None:
        if self._waiters:
            self._hand_over()
            return
        self._owner = None
        self._bar.release()
        if self._waiters:
            self._rescue()

    def _hand_over(self) -> None:
        """Make the oldest waiter the owner; open the lock if all have gone. Only while the lock is taken."""
        if self._owner is None and not self._bar.locked():
            raise RuntimeError("release unlocked lock")
        try:
            waiter, _none = self._waiters.popitem(False)
        except KeyError:
            self._owner = None
            self._bar.release()
            if self._waiters:
                self._rescue()
            return
        self._owner = waiter
        waiter.unpark()

    def _rescue(self) -> None:
        """Somebody came to wait while the lock was being opened, and may have missed it."""
        if self._bar.acquire(False):
            self._hand_over()

    def locked(self) -> bool:
        """Whether any thread holds the lock."""
        if control.active is not None:
            control.active.step("locked", self)
        return self._bar.locked()
