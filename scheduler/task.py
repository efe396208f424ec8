"""Tasks: the engine's record of each thread, and the only place where a thread's state changes.

    NEW --start--> RUNNING --yield--> READY --resume--> RUNNING
                   RUNNING --park---> PARKED --unpark | expire | interrupt--> READY
                   RUNNING --finish-> DONE

State is not stored, it is where the task stands: in the ready queue, in the waiters of what it waits for, or on the
stack that runs. A stored copy would have to be written twice a switch, a quarter of the switch's price, and could
disagree with the truth. `UserTask.state` reads it off.

**Exactly one wins.** A parked task sits in one ordered dict of waiters (and, with a deadline, in the dict of timers).
Whoever takes it out, by an atomic `pop`, has the right to make it ready: the waker, the expiring deadline, or the
interrupt. The others find it gone and do nothing. A task that was taken out by a waker owns what it waited for (a
lock, an item), so an interrupt that comes too late is kept, and raised where the thread next parks or yields.

Two kinds of thread stand on this file: `UserTask`, a thread run by a scheduler, and `KernelTask` (kernel.py), a
kernel thread that waits on the same primitives. Each has `park` and `unpark`, so a primitive need not know the kinds.
"""

from __future__ import annotations

import enum
import itertools
from collections import OrderedDict
from types import MethodType
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from scheduler import observers
from scheduler.continuation import current
from scheduler.errors import SchedulerBug

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable
    from contextvars import Context

    from scheduler.continuation import Continuation
    from scheduler.kernel import KernelTask
    from scheduler.loop import Scheduler

__all__ = ["GONE", "OldestFirst", "State", "Task", "UserTask", "Wait", "Waitable", "Waiters", "unpark_all"]

# A wait queue in the flesh: tasks in the order in which they wait. A dict, because to take one out of the middle is an
# atomic C call in O(1). Where the oldest is taken alone it is an OrderedDict, which does that too in O(1).
Waiters = dict["Task", None]
OldestFirst = OrderedDict["Task", None]

# The default of `waiters.pop(task, GONE)`: a value that no waiters hold (they hold None).
GONE = object()

_numbers = itertools.count(1)
# The joiners of each task that has any and has not ended: see `Task.join`.
_joined: dict[Task, Waiters] = {}


class Wait(NamedTuple):
    """What a parked thread waits for: a thing of some kind ("Lock"; reports number them), or a phrase in lower case;
    the task that holds it, if one does; and what the thread wants there, where there is more than one thing to want.
    """

    kind: str
    holder: Task | None = None
    wants: str = ""


class Waitable(Protocol):
    """Something that threads wait for, able to say so in a report."""

    def waiting_for(self, task: Task) -> Wait:
        """What `task`, which is parked with this as its reason, waits for."""


class State(enum.Enum):
    """Where a task stands."""

    NEW = "new"
    READY = "ready"
    RUNNING = "running"
    PARKED = "parked"
    DONE = "done"


class Task:
    """What the engine knows of a thread of either kind.

    `thread` is the object that the layer above made for it (the engine reads nothing but its `name`).
    """

    __slots__ = (
        "__weakref__", "at_end", "daemon", "done", "joiners", "number", "pending", "thread", "value", "wait", "waiters",
    )  # fmt: skip

    # Where the task is put to be made ready; None for those that no scheduler runs.
    ready: deque[Task] | None
    scheduler: Scheduler | None
    # Called to let it run. What stands in for its continuation's own returns what that returns: that may be a task to
    # start, where the root calls it.
    switch: Callable[[], object]
    # What it runs on; None iff it is NEW (or done).
    continuation: Any
    # When it parked. Unset before the first park.
    since: float

    def __init__(self, thread: Any, daemon: bool) -> None:
        self.thread = thread
        self.daemon = daemon
        self.done = False
        self.joiners: Waiters | None = None
        self.number = next(_numbers)
        # What it waits for, while it is parked (and until it runs again), and the waiters that it stands in.
        self.wait: Waitable | str | None = None
        self.waiters: Waiters | None = None
        # An interrupt that came while the task could not be thrown into.
        self.pending: BaseException | None = None
        # What a waker hands over (a queue's item), or a waiter brings along. At the end, what the thread returned.
        self.value: Any = None
        # Calls to be made in the thread when it ends, by keys of those who asked for them.
        self.at_end: dict[object, Callable[[], object]] | None = None

    @property
    def name(self) -> str:
        """The thread's name, for reports."""
        return str(name_of(self.thread) or f"task {self.number}")

    @property
    def ident(self) -> int | None:
        """The thread's identifier: never 0, unique among threads of both kinds that are alive."""
        return self.number

    @property
    def host(self) -> KernelTask:
        """The record of the kernel thread that this one runs on."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number} {self.name!r}>"

    def park(
        self,
        waiters: Waiters | None,
        reason: Waitable | str,
        deadline: float | None = None,
        undo: Callable[[], object] | None = None,
    ) -> bool:
        """Wait until somebody takes this task out of `waiters` and unparks it. Only for the calling thread's own task.

        True if unparked, False if `deadline` (absolute, on `now()`'s clock) passed first. Raises what the task is
        interrupted with. The caller has put the task into `waiters` before, and looked again at what it waits for
        since. `undo` gives back what a waker handed over, in the one case where an exception must follow a wakeup: a
        signal handler raising in a blocked kernel thread.
        """
        raise NotImplementedError

    def unpark(self) -> None:
        """Make a parked task ready. From any kernel thread, by whoever took it out of its waiters. Does not switch."""
        raise NotImplementedError

    def interrupt(self, exc: BaseException) -> None:
        """Raise `exc` in the thread: at once if it waits, else where it next parks or yields. From anywhere."""
        raise NotImplementedError

    def give_way(self) -> None:
        """Let others run, where there is no ready queue to do it by (see `yield_now`)."""
        raise NotImplementedError

    def sleep(self, seconds: float) -> None:
        """Let `seconds` (not negative) pass."""
        raise NotImplementedError

    def now(self) -> float:
        """The time on the clock that this task's deadlines are measured by, in seconds."""
        raise NotImplementedError

    def waits_for(self) -> Waitable | str | None:
        """What the thread waits for, or None if it does not."""
        return self.wait

    def waiting_for(self, task: Task) -> Wait:
        """As the reason of a park: to join this task."""
        return Wait(f"the end of {self.name!r}")

    def is_going_on(self) -> bool:
        """Whether the thread has not ended."""
        return not self.done

    def join(self, deadline: float | None = None) -> bool:
        """Park the calling thread, of either kind, until this one is done; False if `deadline` passed first."""
        if self.done:
            return True
        joiners = self.joiners
        if joiners is None:
            # Most are never joined before they end. Atomic: who comes first at the same moment gets the same ones.
            joiners = self.joiners = _joined.setdefault(self, {})
        me: Task
        try:
            me = current().task
        except (AttributeError, RuntimeError):
            me = _current_task()
        joiners[me] = None
        # `finish` sets done before it looks at the joiners; we stood among them before we look at done.
        if self.done and joiners.pop(me, GONE) is not GONE:
            _joined.pop(self, None)
            return True
        try:
            return me.park(joiners, self, deadline)
        except RecursionError:
            # There may have been no stack left for the call: then we still stand there, and do not wait.
            if me in joiners:
                del joiners[me]
            raise

    def vanish(self) -> None:
        """In the child of a fork, where the thread does not exist: nobody shall wake it, or wait for it."""
        self.done = True
        if self.waiters is not None:
            self.waiters.pop(self, None)

    def finish(self) -> None:
        """Mark the task done and wake who joins it. The last thing its thread does."""
        if self.at_end is not None:
            self.make_last_calls()
        self.done = True
        if self.joiners is not None:
            _joined.pop(self, None)
            unpark_all(self.joiners)
        if observers.active:
            observers.ended(self)

    def make_last_calls(self) -> None:
        """Make the calls of `at_end`, also those that come up meanwhile."""
        calls = self.at_end
        while calls:
            try:
                _key, call = calls.popitem()
            except KeyError:
                break
            call()
        self.at_end = None


class Suspension:
    """Of a thread that is on hold: how it will go on, and whether its turn has come meanwhile."""

    __slots__ = ("due", "switch")

    def __init__(self, switch: Callable[[], object], due: bool) -> None:
        self.switch = switch
        self.due = due


class UserTask(Task):
    """A thread that a scheduler runs.

    Invariant: `continuation` is None iff the task is NEW (or done).
    Invariant: the task is in its scheduler's ready queue exactly once iff it is READY (or NEW and started).
    """

    __slots__ = (
        "context",
        "continuation",
        "exception",
        "fn",
        "ready",
        "scheduler",
        "since",
        "switch",
        "timed_out",
        "timer",
    )

    ready: deque[Task]
    scheduler: Scheduler
    continuation: Continuation | None
    context: Context | None
    exception: BaseException | None
    timer: int | None

    def __init__(self, scheduler: Scheduler, fn: Callable[[], object], thread: Any, daemon: bool) -> None:
        # `Task.__init__` written out: a tenth of the price of a short thread.
        self.thread = thread
        self.daemon = daemon
        self.done = False
        self.number = next(_numbers)
        self.joiners = self.wait = self.waiters = self.pending = self.value = self.at_end = None
        self.scheduler = scheduler
        self.ready = scheduler.ready
        self.fn: Callable[[], object] | None = fn
        # While it is NEW its switch hands it to the root, which starts it. All in C: a frame of ours would stay on the
        # stack of the thread that gave way, and be noted at each of its switches, until that runs again.
        self.switch = MethodType(scheduler.start, self)
        self.timed_out = False
        self.continuation = self.context = self.exception = self.timer = None

    @property
    def state(self) -> State:
        """Where the task stands. Exact on the scheduler's own kernel thread, a snapshot from others."""
        if self.done:
            return State.DONE
        continuation = self.continuation
        if continuation is None:
            return State.NEW
        if self.wait is not None and self._is_waiting():
            return State.PARKED
        return State.READY if continuation.gr_frame is not None else State.RUNNING

    @property
    def ident(self) -> int | None:
        """See `Task.ident`. The main user thread has that of the kernel thread that it runs on."""
        scheduler = self.scheduler
        return scheduler.host.ident if self is scheduler.main else self.number

    @property
    def host(self) -> KernelTask:
        """See `Task.host`."""
        return self.scheduler.host

    def _is_waiting(self) -> bool:
        if self.waiters is not None:
            return self in self.waiters
        return self.timer in self.scheduler.timers

    # NEW -> RUNNING

    def begin(self, continuation: Continuation) -> Callable[[], object]:
        """Begin to run, on `continuation`: it shall call what this returns, and `finish` after that."""
        self.continuation = continuation
        self.switch = continuation.switch
        if self.context is not None:
            continuation.set_context(self.context)
        # What it holds is let go when it returns, while the thread may still wait.
        fn, self.fn = self.fn, None
        return fn if self.pending is None else self._raise_pending  # type: ignore[return-value]

    # RUNNING -> DONE

    def failed(self, exc: BaseException) -> None:
        """`exc`, which is being handled, leaves the thread. It is reported here, where the thread is still alive."""
        try:
            self.scheduler.failed(self, exc)
        except BaseException as error:
            # Whoever was told failed, or was interrupted: `finish` tells of that.
            self.exception = error

    def finish(self) -> None:
        """Mark the task done, wake who joins it, let go of what it held."""
        if self.at_end is not None:
            self.make_last_calls()
        if self.exception is None:
            self.thread = kept_of(self.thread)
        scheduler = self.scheduler
        scheduler.tasks.pop(self, None)
        self.done = True
        self.continuation = self.context = None
        del self.switch
        if self.joiners is not None:
            _joined.pop(self, None)
            unpark_all(self.joiners)
        if self.exception is not None:
            scheduler.failed_at_last(self)
        if observers.active:
            observers.ended(self)

    # RUNNING -> PARKED -> READY -> RUNNING

    def park(
        self,
        waiters: Waiters | None,
        reason: Waitable | str,
        deadline: float | None = None,
        undo: Callable[[], object] | None = None,
    ) -> bool:
        """See `Task.park`. Switches to the next ready thread."""
        if self.pending is not None:
            if waiters is None or waiters.pop(self, GONE) is not GONE:
                self._raise_pending()
            # A waker was first, on another kernel thread: what it hands over is ours, the interrupt waits.
            self.switch = self.continuation.switch  # type: ignore[union-attr]
        self.waiters = waiters
        self.wait = reason
        try:
            self.since = self.scheduler.now()
            if observers.active:
                observers.parked(self)
            if deadline is not None:
                self.timer = self.scheduler.timers.add(deadline, self)
            (self.ready.popleft() if self.ready else self.scheduler.root).switch()
        except RecursionError:
            # As in `yield_now`: there was no stack left for the switch, so we have not left. Or it is an interrupt,
            # which has cleared `wait`.
            if self.wait is None:
                raise
            ready, root, timer = self.ready, self.scheduler.root, self.timer
            self.wait = self.timer = None
            if timer is not None:
                del self.scheduler.timers[timer]
            if waiters is not None and self in waiters:
                del waiters[self]
            ready += (root,)
            root.has_turn, root.misses_one, root.passes = False, True, 0
            raise
        self.wait = None
        if self.pending is not None:
            self.switch = self._throw_pending
        timer = self.timer
        if timer is None:
            return True
        self.timer = None
        if self.timed_out:
            self.timed_out = False
            return False
        self.scheduler.timers.cancel(timer)
        return True

    def sleep(self, seconds: float) -> None:
        """See `Task.sleep`."""
        self.park(None, "sleep", self.scheduler.clock.now() + seconds)

    def unpark(self) -> None:
        """See `Task.unpark`."""
        # The append comes first, the look at `asleep` second: see `Scheduler._idle` for why no wakeup is lost.
        self.ready.append(self)
        if self.scheduler.asleep:
            self.scheduler.ring()

    def expire(self) -> None:
        """The deadline has passed: make the task ready, unless a waker was first."""
        waiters = self.waiters
        if waiters is None or waiters.pop(self, GONE) is not GONE:
            self.timed_out = True
            self.ready.append(self)

    # Interrupts

    def interrupt(self, exc: BaseException) -> None:
        """See `Task.interrupt`. A second interrupt that comes before the first was raised is dropped."""
        if current_is_on(self.scheduler):
            self.interrupt_now(exc)
        else:
            self.scheduler.post(lambda: self.interrupt_now(exc))

    def interrupt_now(self, exc: BaseException, replace: bool = False) -> None:
        """`interrupt`, on the scheduler's own kernel thread; `replace` one that was not raised yet."""
        if self.done:
            return
        if self.pending is not None:
            if replace:
                self.pending = exc
            return
        self.pending = exc
        if self.continuation is None:
            return  # NEW: raised in place of the first line
        if self.wait is None:
            # READY after a yield, or RUNNING: raised when the thread is next resumed, or at its next park.
            self._go_on_by(self._throw_pending)
        elif self._claim():
            self._go_on_by(self._throw_pending)
            self.unpark()
        # else: a waker was first. The thread owns what it waited for; `park` arms the interrupt when it returns.

    def retract(self, exc: BaseException) -> None:
        """Take back an interrupt that was not raised yet. Only for the thread itself."""
        if self.pending is exc:
            self.pending = None
            if self.continuation is not None:
                self.switch = self.continuation.switch

    def _claim(self) -> bool:
        """Take this parked task out of what it waits in. False: somebody did before."""
        timer, waiters = self.timer, self.waiters
        if waiters is None:
            claimed = timer is not None and self.scheduler.timers.cancel(timer)
        else:
            claimed = waiters.pop(self, GONE) is not GONE
            if claimed and timer is not None:
                self.scheduler.timers.cancel(timer)
        return claimed

    def _throw_pending(self) -> object:
        """Resume the thread by raising its interrupt where it stands. Stands in for `switch`."""
        continuation, exc = self.continuation, self.pending
        if continuation is None or exc is None:
            raise SchedulerBug(f"{self!r} is armed with no interrupt")
        self.switch = continuation.switch
        self.wait = self.pending = self.timer = None
        return continuation.throw(exc)

    def _raise_pending(self) -> None:
        exc = self.pending
        self.pending = None
        if self.continuation is not None:
            self.switch = self.continuation.switch
        if exc is not None:
            raise exc

    # On hold

    def _go_on_by(self, switch: Callable[[], object]) -> None:
        suspension = self.scheduler.suspended.get(self)
        if suspension is None:
            self.switch = switch
        else:
            suspension.switch = switch

    def suspend_now(self) -> None:
        """Put the thread on hold until `resume_now`. On the scheduler's own kernel thread; the thread itself may, too.

        It keeps its place in what it waits for, and is given what it waits for; it only does not run.
        """
        suspended = self.scheduler.suspended
        if self.done or self in suspended:
            return
        running = current().task is self
        due = running
        try:
            self.ready.remove(self)
            due = True
        except ValueError:
            pass  # It is parked, or runs.
        suspended[self] = Suspension(self.switch, due)
        self.switch = self._stay
        if running:
            (self.ready.popleft() if self.ready else self.scheduler.root).switch()

    def _stay(self) -> object:
        """The turn of a thread on hold has come: it is the next one's. Stands in for `switch`."""
        suspended = self.scheduler.suspended
        task: Task = self
        # A loop, not a call by each of them: many may have been woken at once.
        while (suspension := suspended.get(task)) is not None:  # type: ignore[call-overload]
            suspension.due = True
            task = self.ready.popleft() if self.ready else self.scheduler.root
        return task.switch()

    def resume_now(self) -> None:
        """Undo `suspend_now`."""
        suspension = self.scheduler.suspended.pop(self, None)
        if suspension is not None:
            self.switch = suspension.switch
            if suspension.due:
                self.unpark()

    def now(self) -> float:
        """See `Task.now`."""
        return self.scheduler.clock.now()


def _hear_wakeups(on: bool) -> None:
    """Have `unpark` and `expire` tell observers. Other methods, not a check in these: that would cost each wakeup."""
    UserTask.unpark = _unpark_aloud if on else _unpark  # type: ignore[method-assign]
    UserTask.expire = _expire_aloud if on else _expire  # type: ignore[method-assign]


_unpark, _expire = UserTask.unpark, UserTask.expire


def _unpark_aloud(self: UserTask) -> None:
    # First: it may run, on another kernel thread, before this returns.
    observers.woken(self)
    _unpark(self)


def _expire_aloud(self: UserTask) -> None:
    if self.waiters is None or self in self.waiters:
        observers.woken(self)
    _expire(self)


observers.hear_wakeups = _hear_wakeups


def _name_of(thread: Any) -> str | None:
    return getattr(thread, "name", None)


def _kept_of(thread: Any) -> Any:
    return thread


# What a task keeps of its thread's object when that has ended, for reports; and the name of what it has. The object and
# the task would be a cycle, and the collector's to find. The layer above sets its own.
kept_of: Callable[[Any], Any] = _kept_of
name_of: Callable[[Any], str | None] = _name_of


def unpark_all(waiters: Waiters) -> None:
    """Unpark those who stand in `waiters` on entry, oldest first."""
    for waiter in list(waiters):
        if waiters.pop(waiter, GONE) is not GONE:
            waiter.unpark()


def _current_task() -> Task:
    from scheduler.kernel import current_task  # which stands on this module

    return current_task()


def current_is_on(scheduler: Scheduler) -> bool:
    """Whether the calling code runs in a user thread of `scheduler`."""
    task = getattr(current(), "task", None)
    return isinstance(task, UserTask) and task.scheduler is scheduler
