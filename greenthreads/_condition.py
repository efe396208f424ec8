"""`Condition`: wait, with a lock open meanwhile, until somebody notifies.

A waiter stands among the waiters before it opens the lock, and `notify` is called with the lock held: so a notification
given after the state changed finds everybody who looked at the state before.

A woken waiter takes the lock again by itself. Rejected: to move it from here straight into the lock's waiters, which
saves a switch. A thread's deadline and its interrupts refer to the waiters that it parked in; moved, it would wait for
a lock under the deadline of a condition, or be out of reach for a report of a deadlock.

**The lock comes back whatever happens.** `with condition:` will release it, so `wait` must not end without it, also
when it ends by an exception: an interrupt that arrives while the thread waits for the lock is kept until it has it.
If the thread was notified before that, the notification goes to the next who waits. Only with no stack left to wait on,
and a lock that is taken, does it end without.

Any lock with `acquire` and `release` will do, as in threading. With one that is not ours `wait` can't know whether
releasing it parks the thread, which would use up the notification; so the waiter there is a lock of its own, as in
threading's Condition.
"""

from __future__ import annotations

import sys
import warnings
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, TypeVar

from greenthreads._lock import Lock
from greenthreads._rlock import RLock
from greenthreads._time import deadline_after
from scheduler import control
from scheduler.continuation import current
from scheduler.errors import Deadlock, SchedulerError, TaskExit
from scheduler.kernel import current_task
from scheduler.task import GONE, Wait

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.task import Task

__all__ = ["Condition"]

T = TypeVar("T")

# Since then a condition's lock must have this method, too.
_LOCKED_IS_NEEDED = sys.version_info >= (3, 14)


class _Ticket:
    """Stands for a thread among the waiters of a condition whose lock is not ours."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = Lock()
        self._lock.acquire()

    def park(self, waiters: Any, deadline: float | None, undo: Callable[[], object]) -> bool:
        """Wait until `unpark`; False if `deadline` passed first. `undo` as for `Task.park`."""
        try:
            if deadline is None:
                return self._lock.acquire()
            return self._lock.acquire(timeout=max(0.0, deadline - current_task().now())) or (
                waiters.pop(self, GONE) is GONE
            )
        except BaseException:
            if waiters.pop(self, GONE) is GONE:
                undo()
            raise

    def unpark(self) -> None:
        """Wake the thread."""
        self._lock.release()


class Condition:
    """A condition variable, as `threading.Condition`, over `lock` or a new `RLock`.

    Works between user threads of any scheduler and kernel threads. Notifies in the order in which threads came.
    """

    def __init__(self, lock: Any = None) -> None:
        if lock is None:
            lock = RLock()
        self._lock = lock
        # As threading has it: the lock's methods become the condition's.
        self.acquire = lock.acquire
        self.release = lock.release
        if hasattr(lock, "locked") or _LOCKED_IS_NEEDED:
            self.locked = lock.locked
        for name in ("_release_save", "_acquire_restore", "_is_owned"):
            if hasattr(lock, name):
                setattr(self, name, getattr(lock, name))
        self._ours = type(lock) in (Lock, RLock)
        self._waiters: OrderedDict[Task | _Ticket, None] = OrderedDict()

    @property
    def opened_by_waiting(self) -> Any:
        """For a controlled scheduler: the lock that `wait` opens, and takes again."""
        return self._lock

    def __enter__(self) -> bool:
        return self._lock.__enter__()  # type: ignore[no-any-return]

    def __exit__(self, kind: Any, value: Any, traceback: Any) -> Any:
        if self._ours and isinstance(value, (Deadlock, TaskExit, RecursionError)):
            owner = self._lock._owner
            # (Taken, and nobody's: the stack ended in the middle of opening it.)
            if owner is not current_task() and (owner is not None or not self._lock._bar.locked()):
                return None  # `wait` gave up on the lock.
        return self._lock.__exit__(kind, value, traceback)

    # ---- What a lock without these is asked in their place -----------------------------------------------------------

    def _release_save(self) -> Any:
        self._lock.release()

    def _acquire_restore(self, state: Any) -> None:
        self._lock.acquire()

    def _is_owned(self) -> bool:
        """Whether somebody holds the lock; whether it is the calling thread, a plain lock can't say."""
        if self._ours:
            return self._lock._bar.locked()  # type: ignore[no-any-return]
        if self._lock.acquire(False):
            self._lock.release()
            return False
        return True

    # ------------------------------------------------------------------------------------------------------------------

    def wait(self, timeout: float | None = None) -> bool:
        """Release the lock, wait to be notified, take the lock again. False if `timeout` seconds passed first.

        Blocks the calling thread. RuntimeError if it does not hold the lock.
        """
        if control.active is not None:
            control.active.step("wait", self)
        if not self._is_owned():
            raise RuntimeError("cannot wait on un-acquired lock")
        deadline = None if timeout is None else deadline_after(timeout)
        if not self._ours:
            return self._wait_by_ticket(deadline)
        me = current_task()
        waiters: Any = self._waiters
        waiters[me] = None
        if control.active is not None and control.active.controls():
            return self._wait_controlled(me, control.AT_ONCE if timeout is not None and timeout <= 0 else deadline)
        try:
            state = self._release_save()
        except BaseException:
            waiters.pop(me, None)
            raise
        notified = False
        try:
            if timeout is not None and timeout <= 0:
                notified = waiters.pop(me, GONE) is GONE
            else:
                notified = me.park(waiters, self, deadline, self._pass_on)
            return notified
        finally:
            self._take_back(state, notified)

    def _wait_controlled(self, me: Task, deadline: float | None) -> bool:
        """Open the lock and wait in one step, and take it again in the one that a notified thread wakes up in."""
        waiters: Any = self._waiters
        lock = self._lock
        is_held = lock._bar.locked
        state = self._release_save() if type(lock) is RLock else lock._open()
        woken = False
        try:
            assert control.active is not None
            woken = control.active.step("wake", self, lambda: me in waiters or is_held(), deadline)
            return waiters.pop(me, GONE) is GONE
        finally:
            waiters.pop(me, None)
            if not woken:
                self._take_back(state, False)
            else:
                lock._bar.acquire(False)
                lock._owner = me
                if state is not None:
                    lock._count = state[0]

    def _take_back(self, state: Any, notified: bool) -> None:
        interrupt: BaseException | None = None
        while True:
            try:
                self._acquire_restore(state)
                break
            except (Deadlock, SchedulerError, TaskExit):
                raise  # There is no waiting for it any more.
            except RecursionError as exc:
                # Nor with no stack left; but it may be there for the taking.
                if not self._ours or not self._lock._bar.acquire(False):
                    raise
                self._lock._owner = current().task
                if type(state) is tuple:
                    self._lock._count = state[0]
                interrupt = exc
                break
            except BaseException as exc:
                interrupt = exc
        if interrupt is not None:
            if notified:
                self._pass_on()  # It is of no use to a thread that leaves with an exception.
            try:
                raise interrupt
            finally:
                del interrupt

    def _wait_by_ticket(self, deadline: float | None) -> bool:
        ticket = _Ticket()
        self._waiters[ticket] = None
        try:
            state = self._release_save()
        except BaseException:
            self._waiters.pop(ticket, None)
            raise
        notified = False
        try:
            notified = ticket.park(self._waiters, deadline, self._pass_on)
            return notified
        finally:
            self._take_back(state, notified)

    def _pass_on(self) -> None:
        """Undo a notification: the kernel thread that it was given to is leaving with an exception."""
        self._wake(1)

    def wait_for(self, predicate: Callable[[], T], timeout: float | None = None) -> T:
        """Wait until `predicate()` is true, at most `timeout` seconds (None: without limit); what it returned last.

        The lock is held while the predicate is called. Blocks the calling thread.
        """
        if control.announcing is not None:
            predicate = control.announcing(predicate)
        result = predicate()
        if timeout is None:
            while not result:
                self.wait()
                result = predicate()
            return result
        if result:
            return result
        now = current_task().now
        end = now() + timeout
        left = timeout
        while not result:
            self.wait(left)
            result = predicate()
            left = end - now()
            if left <= 0:
                break
        return result

    def notify(self, n: int = 1) -> None:
        """Wake the `n` threads that have waited longest; they go on once they get the lock. Does not switch.

        RuntimeError if the calling thread does not hold the lock.
        """
        if control.active is not None:
            control.active.step("notify", self)
        if not self._is_owned():
            raise RuntimeError("cannot notify on un-acquired lock")
        self._wake(n)

    def _wake(self, n: int) -> None:
        waiters = self._waiters
        while waiters and n > 0:
            try:
                waiter, _none = waiters.popitem(False)
            except KeyError:
                return
            waiter.unpark()
            n -= 1

    def notify_all(self) -> None:
        """Wake all who wait. RuntimeError if the calling thread does not hold the lock."""
        self.notify(len(self._waiters))

    def notifyAll(self) -> None:
        """`notify_all()`."""
        warnings.warn("notifyAll() is deprecated, use notify_all() instead", DeprecationWarning, stacklevel=2)
        self.notify_all()

    def _at_fork_reinit(self) -> None:
        self._lock._at_fork_reinit()
        self._waiters.clear()

    def waiting_for(self, task: Task) -> Wait:
        """See `scheduler.task.Waitable`."""
        return Wait("Condition")

    def __repr__(self) -> str:
        return f"<{type(self).__name__}({self._lock}, {len(self._waiters)})>"
