"""`RLock`: a lock that its owner may take again, for threads of both kinds, in any number of schedulers.

Built as `Lock` is, and for the same reasons: an atomic test-and-set in C where nobody contends, handover to the oldest
waiter where somebody does. The owner is a *thread* of either kind, not the greenlet or the kernel thread that it
happens to run on, both of which other threads use too.

The main user thread of a scheduler and the kernel thread that runs the scheduler are one thread with two records: what
it took outside of `run_scheduler` it may take again inside, and the reverse (`_is_mine`).

`_owner` may be read without any lock, since all that is asked of it is "is it me?": only I make it me, or whoever
hands the lock over to me while I wait, and only I make it somebody else after that.
"""

from __future__ import annotations

import sys
from _thread import RLock as _StandardRLock
from _thread import allocate_lock
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeVar

from greenthreads._handover import HandedOver
from greenthreads._time import deadline_of
from scheduler import control
from scheduler.continuation import current
from scheduler.kernel import current_task
from scheduler.task import UserTask, Wait

if TYPE_CHECKING:
    from scheduler.task import Task

__all__ = ["RLock"]

_Self = TypeVar("_Self", bound="RLock")

# Before, the standard function takes anything, and warns of it from 3.14 on.
_TAKES_NOTHING = sys.version_info >= (3, 15)


def _thread_of(task: Task) -> Task:
    return task.host if isinstance(task, UserTask) and task is task.scheduler.main else task


class RLock(HandedOver):
    """A reentrant lock, as `threading.RLock`: the thread that holds it may take it again, and releases it as often.

    Works between user threads of any scheduler and kernel threads. FIFO among waiters.
    """

    __slots__ = ("_count",)
    _like = _StandardRLock

    # For a controlled scheduler: threads that wait for one another's are lost.
    only_the_owner_releases = True

    # Invariant: at least 1 whenever the owner's own code looks.
    _count: int

    # In __new__, so that a subclass whose __init__ does not call ours works, as it does with the standard one.
    def __new__(cls: type[_Self], *args: Any, **kwargs: Any) -> _Self:
        """Make an open lock. Arguments are for the `__init__` of subclasses."""
        if (args or kwargs) and cls is RLock and _TAKES_NOTHING:
            what = (
                f"got an unexpected keyword argument {next(iter(kwargs))!r}"
                if kwargs
                else f"takes 0 positional arguments but {len(args)} {'was' if len(args) == 1 else 'were'} given"
            )
            raise TypeError(f"RLock() {what}")
        self = super().__new__(cls)
        self._bar = allocate_lock()
        self._waiters = OrderedDict()
        self._owner = None
        self._count = 0
        return self

    if TYPE_CHECKING:

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock, waiting for it at most `timeout` seconds (-1: without limit) if `blocking`.

        At once if the calling thread has it already. Blocks the calling thread. True if it was taken. ValueError and
        OverflowError as `threading.RLock`.
        """
        if timeout != -1 or blocking is not True:
            deadline = deadline_of(blocking, timeout)
        else:
            deadline = None
        try:
            me: Task = current().task
        except (AttributeError, RuntimeError):
            me = current_task()
        if control.active is not None:
            if self._is_mine(me):
                control.active.step("acquire_again", self)
            elif not control.active.step(
                "acquire", self, self._bar.locked, deadline if blocking and timeout != 0 else control.AT_ONCE
            ):
                return False
        if self._owner is me:
            self._count += 1
            return True
        if self._bar.acquire(False):
            self._owner = me
            self._count = 1
            return True
        if self._is_mine(me):
            self._count += 1
            return True
        if not blocking or timeout == 0:
            return False
        return self._wait(me, deadline)

    def __enter__(self) -> bool:
        try:
            me: Task = current().task
        except (AttributeError, RuntimeError):
            me = current_task()
        if control.active is not None:
            if self._is_mine(me):
                control.active.step("acquire_again", self)
            else:
                control.active.step("acquire", self, self._bar.locked)
        if self._owner is me:
            self._count += 1
            return True
        if self._bar.acquire(False):
            self._owner = me
            self._count = 1
            return True
        if self._is_mine(me):
            self._count += 1
            return True
        return self._wait(me, None)

    def _wait(self, me: Task, deadline: float | None) -> bool:
        waiters = self._waiters
        waiters[me] = None
        if self._bar.acquire(False):
            # It was opened since. Whoever came first among the waiters is its owner now. We are still among them:
            # only the owner takes a waiter out, and that is us.
            oldest, _none = waiters.popitem(False)
            self._owner = oldest
            if oldest is me:
                self._count = 1
                return True
            oldest.unpark()
        if not me.park(waiters, self, deadline, self._hand_over):
            return False
        self._count = 1
        return True

    def release(self) -> None:
        """Undo one `acquire`; with the last one open the lock, or hand it to the oldest waiter.

        RuntimeError if the calling thread does not hold it.
        """
        if control.active is not None:
            control.active.step("release_one" if self._count > 1 else "release", self)
        try:
            me = current().task
        except (AttributeError, RuntimeError):
            me = current_task()
        if self._owner is not me and not self._is_mine(me):
            raise RuntimeError("cannot release un-acquired lock")
        if self._count > 1:
            self._count -= 1
            return
        self._count = 0
        self._open()

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> None:
        if control.active is not None:
            control.active.step("release_one" if self._count > 1 else "release", self)
        try:
            me = current().task
        except (AttributeError, RuntimeError):
            me = current_task()
        if self._owner is not me and not self._is_mine(me):
            raise RuntimeError("cannot release un-acquired lock")
        if self._count > 1:
            self._count -= 1
            return
        self._count = 0
        if self._waiters:
            self._hand_over()
            return
        self._owner = None
        self._bar.release()
        if self._waiters:
            self._rescue()

    def _is_mine(self, me: Task) -> bool:
        """Whether the owner is the calling thread, `me`, under either of its records."""
        owner = self._owner
        return owner is me or (owner is not None and _thread_of(owner) is _thread_of(me))

    # ---- What Condition asks of a lock -----------------------------------------------------------------------------

    def _is_owned(self) -> bool:
        return self._is_mine(current_task())

    def _recursion_count(self) -> int:
        """How often the calling thread holds the lock."""
        return self._count if self._is_mine(current_task()) else 0

    def _release_save(self) -> tuple[int, Task]:
        """Release the lock however often it is held; what this returns makes `_acquire_restore` take it as often."""
        me = current_task()
        if self._owner is not me and not self._is_mine(me):
            raise RuntimeError("cannot release un-acquired lock")
        state = self._count, me
        self._count = 0
        self._open()
        return state

    def _acquire_restore(self, state: tuple[int, Task]) -> None:
        self.__enter__()
        self._count = state[0]

    def _at_fork_reinit(self) -> None:
        """Forget the holder and the waiters: they stayed in the parent."""
        self._bar = allocate_lock()
        self._waiters = OrderedDict()
        self._owner = None
        self._count = 0

    def waiting_for(self, task: Task) -> Wait:
        """See `scheduler.task.Waitable`."""
        return Wait("RLock", self._owner)

    def __repr__(self) -> str:
        state = "locked" if self._bar.locked() else "unlocked"
        owner = self._owner
        return (
            f"<{state} {type(self).__module__}.{type(self).__qualname__} object "
            f"owner={0 if owner is None else owner.ident} count={self._count} at {id(self):#x}>"
        )
