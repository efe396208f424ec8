"""A queue that threads of both kinds park in, first come, first woken.

The protocol that every primitive follows, this class in its simplest form:

    waiter: stand in the waiters, look again at what you wait for, park.
    waker:  make it so, take the oldest out of the waiters, unpark it.

No wakeup is lost: of the waiter's "stand in" and the waker's "make it so" one comes first. If the waiter's does, the
waker finds it among the waiters; if the waker's does, the waiter sees it when it looks again.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from scheduler.kernel import current_task

if TYPE_CHECKING:
    from scheduler.task import OldestFirst, Task, Waitable

__all__ = ["WaitQueue"]


class WaitQueue:
    """Threads of either kind, of any scheduler, waiting for somebody to unpark them."""

    __slots__ = ("waiters",)

    def __init__(self) -> None:
        self.waiters: OldestFirst = OrderedDict()

    def __len__(self) -> int:
        return len(self.waiters)

    def park(self, reason: Waitable | str, timeout: float | None = None) -> bool:
        """Wait until unparked; False if `timeout` seconds passed first.

        A user thread parks and lets its scheduler run others, a kernel thread blocks. `reason` appears in reports of
        deadlocks. Raises what the thread is interrupted with.
        """
        me = current_task()
        self.waiters[me] = None
        return me.park(self.waiters, reason, None if timeout is None else me.now() + timeout)

    def unpark(self, count: int = 1) -> list[Task]:
        """Make up to `count` waiting threads ready, oldest first, and return them.

        Does not switch. From any kernel thread.
        """
        woken: list[Task] = []
        while len(woken) < count:
            try:
                waiter, _none = self.waiters.popitem(False)
            except KeyError:
                break
            waiter.unpark()
            woken.append(waiter)
        return woken
