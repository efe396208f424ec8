"""The scheduler: a ring of ready threads, and a root that takes its turn in the ring.

A thread that gives way switches straight to the next ready one: one greenlet switch, where a hub needs two. Around
that stands the loop, on the greenlet that called `run`, the *root*. It does what nobody else may: fire due timers, run
what other kernel threads posted, start new continuations, and sleep.

**The root stands in the ready queue like a thread, as long as there may be something for it to do each round.** So
timers and descriptors are looked at once a round by construction. In a short round the root passes its turn on a few
times (`RootTask.switch`), so that two threads don't pay for it at every other switch; fewer times where threads compute
for long, so that its next turn comes in about `_TURN_SECONDS`.

**While nobody waits for a time or a descriptor, the root stays out of the ring**: two threads that hand an item to and
fro, or queue for a lock, need it for nothing. Who has something for it calls it (`call_root`): a first timer, a posted
call, the end of the thread that is awaited. And a thread that parks, with nobody ready after it, switches to it.

Rejected: a hub that each switch goes through (gevent, eventlet): twice the switches.
Rejected: counting switches, and going to the root at the hundredth: 40 to 70 ns of a switch of 320 to 390.
Rejected: the root in the ring at all times. Passing its turn on is a fifth of the price of handing a lock over, or an
item to and fro, and a quarter of a yield between two threads.
"""

from __future__ import annotations

import functools
import itertools
import sys
import weakref

# By name: a program may put other functions into the module `time` later.
from _thread import allocate_lock, get_ident
from collections import deque
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from scheduler import deadlock, fork, observers
from scheduler.clock import Clock, MonotonicClock
from scheduler.continuation import Continuation, current
from scheduler.errors import Deadlock, SchedulerBug, SchedulerError, TaskExit
from scheduler.kernel import SIGNAL_ROUND, KernelTask, current_task, here, longest_sleep
from scheduler.policy import Policy, PolicyQueue, ready_queue
from scheduler.poller import Poller
from scheduler.root import RootTask
from scheduler.signals import CtrlC
from scheduler.stepping import slices_for
from scheduler.task import State, Suspension, Task, UserTask
from scheduler.timers import Timers
from scheduler.timeslices import Slices, Steps, checked, fences_nothing
from scheduler.unwinding import unwind, unwind_in_place

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = ["Scheduler"]

T = TypeVar("T")

_numbers = itertools.count()

# How many turns the root passes on at the most, and the time that it aims to be away for at the most.
_MOST_PASSES = 32
_TURN_SECONDS = 0.005
# Idle continuations kept for the threads to come (6 kB each). One that would be more than this ends.
_MOST_IDLE = 10_000
# How long to sleep before we believe that nobody is outside.
_LOOK_AGAIN = 0.005
# How long to sleep at a time when only somebody outside can wake a thread: that somebody may end without a word.
_LOOK_ROUND = (0.01, 0.5)


class Ending(Protocol):
    """What wants to know that a scheduler is ending."""

    def scheduler_ends(self) -> None:
        """Called on the scheduler's root: must not block."""


class Scheduler:
    """Runs user threads on the kernel thread that calls `run`.

    One a kernel thread; several kernel threads may each run one. `clock` is where it reads the time (`VirtualClock`
    for tests); `timeslice` and `policy` are as in `run_scheduler`. A scheduler is used once.
    """

    __slots__ = (
        "__weakref__", "_at_end", "_awaited", "_bell", "_calls", "_closed", "_early", "_longest_sleep", "_must_tell",
        "_passes", "_root_comes", "_slices", "_started", "_take", "_timeslice",
        "ambient", "asleep", "clock", "forked", "host", "idle", "main", "now", "orphaned", "poller", "ready", "root",
        "start", "suspended", "tasks", "timers",
    )  # fmt: skip

    # What the engine keeps of each thread.
    task_type: type[UserTask] = UserTask

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        timeslice: float | Steps | None = None,
        policy: Policy | None = None,
    ) -> None:
        self._timeslice = checked(timeslice)
        self._slices: Slices | None = None
        # Whether the root's turn came early, and its place in the ring is kept: see `cut_short`.
        self._early = False
        self.clock: Clock = MonotonicClock() if clock is None else clock
        self.now = self.clock.now
        # Invariant: a task is here iff it is READY, or NEW. For the root, see `call_root`.
        self.ready: deque[Task] = ready_queue(policy)
        # What the root takes out of it the next one by. Threads take it out themselves, if there is no policy.
        self._take = self.ready.popleft
        # Every task that was started and is not done, in the order of their start.
        self.tasks: dict[UserTask, None] = {}
        # Invariant: while there are timers, `_root_comes`.
        self.timers = Timers(self.call_root)
        # Whether the root stands in the ready queue, or runs.
        self._root_comes = True
        # Those that are on hold. Invariant: none of them is in the ready queue for longer than until its turn.
        self.suspended: dict[UserTask, Suspension] = {}
        self.idle: list[Continuation] = []
        self.asleep = False
        # In the child of a fork; and there, whether the main thread stayed in the parent.
        self.forked = False
        self.orphaned = False
        # Whether it was there before the program, which therefore may ask for one: see `run_in_place`.
        self.ambient = False
        self._calls: deque[Callable[[], object]] = deque()
        self._at_end: weakref.WeakValueDictionary[int, Ending] = weakref.WeakValueDictionary()
        self._bell = allocate_lock()
        self._bell.acquire()
        # From the first descriptor that a thread waits for: then the root sleeps in it, not on the bell.
        self.poller: Poller | None = None
        # What the main thread was interrupted with, and must not be lost.
        self._must_tell: BaseException | None = None
        self._closed = False
        self._started = False
        # What a task that is NEW does to be run: once there is a root, a switch to that with the task as its value.
        self.start: Callable[[UserTask], object] = _start
        self.root: RootTask
        self._passes = _MOST_PASSES
        self._longest_sleep: float
        # The record of the kernel thread that runs the scheduler, and the main user thread's.
        self.host: KernelTask
        self.main: UserTask

    # ---- What threads and other kernel threads call ----------------------------------------------------------------

    def spawn(
        self, fn: Callable[[], object], *, thread: Any = None, daemon: bool = False, name: str | None = None
    ) -> UserTask:
        """Make a new thread that runs `fn()` ready, and return its task. From any kernel thread; does not switch.

        `thread` is an object of the caller's with a `name`, for reports. An exception that leaves `fn` goes to
        `sys.excepthook`. RuntimeError once the scheduler is ending.
        """
        task = self.task_type(self, fn, _Named(name) if thread is None and name is not None else thread, daemon)
        self.add(task)
        return task

    def add(self, task: UserTask) -> None:
        """Make a NEW task ready; see `spawn`."""
        self.tasks[task] = None
        # `_ended` closes first and looks at the tasks second: either it sees this one, or we see that it closed.
        if self._closed:
            self.tasks.pop(task, None)
            raise RuntimeError("can't start new thread: its scheduler is ending")
        if observers.active:
            observers.spawned(task)
        # Reserve an idle continuation: the switch then goes there without a detour by the root. No function of its own,
        # for from here to the end nothing may need more stack than what was called before.
        if self.idle:
            try:
                continuation = self.idle.pop()
            except IndexError:
                pass  # Another kernel thread has taken the last one.
            else:
                continuation.task = task
                task.switch = continuation.switch
        self.ready.append(task)
        if self.asleep:
            self.ring()

    def post(self, call: Callable[[], object]) -> None:
        """Have the root run `call()` soon. From any kernel thread, or a signal handler. `call` must not block."""
        self._calls.append(call)
        self.call_root()
        if self.asleep:
            self.ring()

    def call_root(self) -> None:
        """Have the root take a turn in this round, if it would not come anyway. From any kernel thread.

        What it is to see must be there before this is called: `_run_threads`, too, first says that the root does not
        come, and then looks whether it must. Two who call at once may both put it there; it then has a turn too many.
        """
        if not self._root_comes:
            self._root_comes = True
            self.root.passes = 0
            self.ready.append(self.root)

    def at_end(self, who: Ending) -> None:
        """Have `who.scheduler_ends()` called when the main thread has ended, before others are awaited.

        For those whose threads would wait for more work for ever. `who` is held weakly. From any kernel thread.
        """
        self._at_end[next(_numbers)] = who

    def make_last_calls(self, since: int = 0) -> None:
        """Make the calls that `at_end` was asked for, from number `since` on; only once each."""
        while numbers := [number for number in list(self._at_end.keys()) if number >= since]:
            for number in numbers:
                who = self._at_end.pop(number, None)
                if who is not None:
                    who.scheduler_ends()

    def ring(self) -> None:
        """Wake the root, if it sleeps. From any kernel thread."""
        poller = self.poller
        if poller is not None:
            # Made while the scheduler was awake, so whoever rings the bell instead, having looked before that, has
            # posted before that too: it was seen before the next sleep.
            poller.ring()
            return
        try:
            self._bell.release()
        except RuntimeError:
            pass  # Rung before, and not heard yet.

    def poller_of_descriptors(self) -> Poller:
        """The poller, made now if there was none. On the scheduler's own kernel thread only."""
        if self.poller is None:
            self.poller = Poller(self)
            self.call_root()
        return self.poller

    def interrupt_main(self, exc: BaseException) -> None:
        """Raise `exc` in the main user thread, or out of `run` if that ends first. On the root, or while it lives."""
        if self.main.done:
            raise exc
        self._must_tell = exc
        self.main.interrupt_now(exc)

    # ---- The loop --------------------------------------------------------------------------------------------------

    def run(self, main: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run `main(*args, **kwargs)` as the main user thread, round robin with everything it starts.

        Returns its result, or raises its exception, after all non-daemon user threads have ended; daemons are then
        unwound. Blocks the calling kernel thread. SchedulerError where a scheduler is running already.
        """
        outer = self._enter()
        ctrl_c = CtrlC()
        try:
            # The caller's record: the kernel thread's or, in the child of a fork, that of the user thread that forked.
            caller = self.root.thread or self.host
            self.main = self.spawn(functools.partial(main, *args, **kwargs), thread=caller.thread)
            # A thread that must end before we do; once it has, `_ended` looks for another.
            self._awaited = self.main
            # Only now: who finds us there asks for the main thread.
            fork.running[get_ident()] = self
            ctrl_c.install()
            if observers.active:
                observers.install()
            self._begin_slices(self._timeslice)
            try:
                self._loop()
            except BaseException as error:
                # What the main thread ended with must not be lost. If that was the same deadlock, its traceback says
                # where it stood.
                if not isinstance(error, Deadlock) or not isinstance(self.main.exception, Deadlock):
                    error.__context__ = self.main.exception
                    raise
            finally:
                unwind(self)
            if self.orphaned:
                fork.leave_child()
        finally:
            self._end_slices()
            ctrl_c.restore()
            self._leave(outer)
        exc, self.main.exception = self.main.exception, None
        if exc is not None:
            try:
                raise exc
            finally:
                del exc
        result: T = self.main.value
        return result

    def _begin_slices(self, timeslice: float | Steps | None) -> None:
        if timeslice is not None:
            slices = slices_for(self, timeslice)
            slices.begin()
            self._slices = slices

    def _end_slices(self) -> None:
        slices, self._slices = self._slices, None
        if slices is not None:
            slices.end()

    def cut_short(self, task: UserTask) -> None:
        """End the run of `task`, which is running, and give the root a turn. Returns when the task runs again.

        The root keeps its place in the ring; whom it wakes come before those who wait for their turn.
        """
        put_back = set_aside()
        try:
            self.ready.append(task)
            self._early = self.root.has_turn = True
            self.root.continuation.switch()
        finally:
            if put_back is not None:
                put_back()

    @fences_nothing
    def run_in_place(
        self, main: Callable[..., T], /, *args: Any, timeslice: float | Steps | None = None, **kwargs: Any
    ) -> T:
        """What `run` does, inside a scheduler that runs already: for `run_scheduler` in an ambient one's main thread.

        The `run_scheduler` command runs a whole program in an ambient scheduler, and the program may call
        `run_scheduler` itself. The threads that were there before live on; those started since are awaited, and the
        daemons among them unwound, before this returns. Not ambient meanwhile: inside itself it stays an error.

        Where the command has chosen a time slice, `timeslice` does not change it.
        """
        before = dict(self.tasks)
        since = next(_numbers)
        sliced = self._slices is not None
        if not sliced:
            self._begin_slices(checked(timeslice))
        self.ambient = False
        try:
            return main(*args, **kwargs)
        finally:
            try:
                self.make_last_calls(since)
                while awaited := [task for task in self.tasks_but(before) if not task.daemon]:
                    for task in awaited:
                        task.join()
            finally:
                unwind_in_place(self, before)
                if not sliced:
                    self._end_slices()
                self.ambient = True

    def tasks_but(self, before: dict[UserTask, None]) -> list[UserTask]:
        """The tasks that are not done, without those that were there `before`."""
        return [task for task in list(self.tasks) if task not in before]

    def _enter(self) -> Scheduler | None:
        outer = here.scheduler
        if outer is not None and not outer.forked:
            raise SchedulerError(
                "run_scheduler() is running on this kernel thread already: start threads instead of a second "
                "scheduler, or call it from another kernel thread"
            )
        if self._started:
            raise SchedulerError("this Scheduler has run before: make a new one")
        self._started = True
        host = current_task() if outer is None else outer.host
        if not isinstance(host, KernelTask):
            raise SchedulerBug(f"{host!r} is not the record of a kernel thread")
        self.host = host
        self._longest_sleep = longest_sleep()
        root = current()
        if isinstance(self.ready, PolicyQueue):
            self.ready.begin(root)
            self._take = self.ready.take
        self.root = RootTask(self, root)
        self.root.thread = getattr(root, "task", None)
        root.task = self.root
        self.start = root.switch
        here.scheduler = self
        return outer

    def _leave(self, outer: Scheduler | None) -> None:
        root = self.root.continuation
        root.task, self.root.thread = self.root.thread, None
        here.scheduler = outer
        if outer is None:
            fork.running.pop(get_ident(), None)
        else:
            fork.running[get_ident()] = outer
        if self.poller is not None:
            self.poller.close()
        self.ready.clear()
        self.timers.clear()

    def _loop(self) -> None:
        before = 0
        while not self._awaited.done or not self._ended():
            if self.root.misses_one:
                self._find_missing()
            if self._calls:
                self._make_calls()
            if self.timers:
                self.timers.fire(self.clock.now())
            if self._slices is not None:
                # Those who woke now are at the end, behind threads of which each may take its whole slice.
                self.ready.rotate(len(self.ready) - before)
            if self.ready:
                self._run_threads()
                before = len(self.ready)
                # If none is ready now, `_idle` asks. Else they must not keep those waiting that wait for descriptors.
                if before and self.poller is not None:
                    self.poller.poll(0)
                if before or self.root.misses_one:
                    continue
            # Without another round that finds nothing: a server whose threads have all answered does this all day.
            if not self._awaited.done or not self._ended():
                self._idle()

    def _ended(self) -> bool:
        if not self._awaited.done:
            return False
        if self._must_tell is not None:
            exc, self._must_tell = self._must_tell, None
            # It was woken before, and has ended without another wait to raise it in.
            if self.main.done and self.main.pending is exc:
                raise exc
        if self._at_end:
            self.make_last_calls()
        if self._await_another():
            return False
        # Closed first, looked at second: a kernel thread may be starting one (see `add`). Not closed on mere
        # suspicion: while a thread is left, others may be started.
        self._closed = True
        self._closed = not self._await_another()
        return self._closed

    def _await_another(self) -> bool:
        """Find a thread that must end before we do; False if there is none."""
        while True:
            try:
                # The newest: those that are ready have run by then, and are not awaited one by one.
                for task in reversed(self.tasks):
                    if not task.daemon:
                        self._awaited = task
                        return True
                return False
            except RecursionError:
                raise
            except RuntimeError:
                pass  # Another kernel thread has started one meanwhile.

    def _make_calls(self) -> None:
        # Only what was here on entry: a call may post again, and an unbounded drain would starve the threads.
        for _ in range(len(self._calls)):
            if self._calls:  # One that forks leaves none in the child.
                self._calls.popleft()()

    def _run_threads(self) -> None:
        """Let threads switch among themselves until the root's turn comes."""
        root, ready, take = self.root, self.ready, self._take
        began = self.clock.now()
        root.has_turn = False
        if self._early:
            self._early = False
        elif self.timers or self.poller is not None or self._closed:
            # (Who is being unwound may yield for ever.)
            ready.append(root)
        else:
            self._root_comes = False
            if self._calls:
                self.call_root()
        comes = self._root_comes
        # What the switch back to us brought: a task to start (see `UserTask.switch`), or nothing.
        came: Any = None
        while True:
            if came:
                continuation = self.idle.pop() if self.idle else Continuation(self, root.continuation)
                continuation.task = came
                came = None
                came = continuation.switch()
            elif root.has_turn or not ready:
                break
            else:
                # At first, or after a continuation has ended and fallen back to us.
                came = take().switch()
        if not self._early:
            self._root_comes = True
        if not comes:
            return  # It was not for the root's turn that this took as long as it did.
        if self.clock.now() - began > _TURN_SECONDS:
            self._passes = 0
        elif self._passes < _MOST_PASSES:
            self._passes += 1
        root.passes = self._passes

    def _find_missing(self) -> None:
        """Make those ready again that were taken out of the ready queue by a thread that had no stack left to switch.

        Whom another kernel thread has chosen to wake, and not yet put there, looks the same for a moment; that such a
        moment meets with a stack overflow is not provided for.
        """
        root = self.root
        root.misses_one = False
        # It has been put there, in case that it was the one.
        while root in self.ready:
            self.ready.remove(root)
        ready = set(self.ready)
        for task in list(self.tasks):
            if task in ready or task in self.suspended:
                continue
            if task.continuation is None or task.state is State.READY:
                self.ready.append(task)

    def recycle(self, continuation: Continuation) -> None:
        """Give way at the end of a task. Returns when `continuation` has its next one, or None to end."""
        if self._awaited.done and not self._root_comes:
            # At once: daemons that are ready have nothing to live for.
            self.call_root()
            self.ready.rotate(1)
        following = self.ready.popleft() if self.ready else self.root
        if following.continuation is None:
            # It has not started yet, so it may as well run right here, and leave to others what is reserved for it.
            continuation.task = following
            reserved = following.switch.__self__  # type: ignore[attr-defined]
            if reserved is not following:
                reserved.task = None
                self.idle.append(reserved)
            return
        continuation.task = None
        if len(self.idle) < _MOST_IDLE:
            self.idle.append(continuation)
            switch = following.switch
            del following
            switch()
        else:
            # This continuation ends and falls back to the root; who was next keeps its place.
            self.ready.appendleft(following)

    def _idle(self) -> None:
        """Sleep until a deadline, or until somebody rings.

        No wakeup from another kernel thread is lost:
            here:  1. set `asleep`    2. look at the ready queue and the calls   3. sleep unless there is any
            there: 1. append to it    2. look at `asleep`                        3. ring if it is set
        Of the two first steps one comes first. If theirs does, we see what they appended in our second; if ours does,
        they see that we sleep, and ring. A ring that comes before we sleep is kept by the bell, or by the poller.
        """
        deadline = self.timers.next_deadline()
        timeout = None if deadline is None else deadline - self.clock.now()
        if timeout is not None and timeout < 0.0:
            timeout = 0.0
        pause = _LOOK_ROUND[0]
        looks_alone = looked = False
        slices = self._slices
        if slices is not None:
            slices.pause()
        self.asleep = True
        try:
            while not (self.ready or self._calls):
                if timeout is not None:
                    self.clock.wait(self._sleep, timeout)
                    return
                if self.poller is not None and self.poller.anybody_waits():
                    # The world is outside.
                    self._sleep(None)
                    return
                if not looked:
                    # Most who are outside ring within a moment: no need to look at each of them before.
                    looked = True
                    self._sleep(_LOOK_AGAIN)
                elif deadlock.anybody_outside():
                    looks_alone = False
                    self._sleep(pause)
                    pause = min(2 * pause, _LOOK_ROUND[1])
                elif not looks_alone:
                    # A kernel thread that has just been started can't be seen before it runs.
                    looks_alone = True
                    self._sleep(_LOOK_AGAIN)
                else:
                    # Whoever was outside may have woken a thread and ended since we looked.
                    if not (self.ready or self._calls):
                        self._deadlocked()
                    return
        except (Deadlock, SchedulerBug):
            raise
        except BaseException as exc:
            # A signal handler raised while we slept: that is meant for the main thread.
            self.interrupt_main(exc)
        finally:
            self.asleep = False
            if slices is not None:
                slices.resume()

    def _sleep(self, timeout: float | None) -> bool:
        """Sleep until rung, `timeout` seconds at most and maybe less: see `longest_sleep`. Whether it was cut short."""
        longest = self._longest_sleep
        seconds = longest if timeout is None or timeout > longest else timeout
        if self.poller is not None:
            return self.poller.poll(seconds)
        return self._bell.acquire(True, seconds)

    def _deadlocked(self) -> None:
        error = Deadlock(deadlock.report(self.tasks))
        self.main.resume_now()
        if self.main.done:
            raise error
        self.main.interrupt_now(error)

    def failed(self, task: UserTask, exc: BaseException) -> None:
        """`exc`, being handled, leaves `task`. The main one's is raised by `run`; others' must not go unseen."""
        if task is getattr(self, "main", None):
            task.exception = exc
        elif not isinstance(exc, TaskExit):
            # The traceback is to begin with the thread's own first line, and not to hold the continuation's frame.
            traceback = exc.__traceback__
            if traceback is not None and traceback.tb_next is not None:
                exc.__traceback__ = traceback.tb_next
            report_failure(task, exc)

    def failed_at_last(self, task: UserTask) -> None:
        """A task has ended, and the exception that it is left with is the main one's, or was raised by a report."""
        exc = task.exception
        if task is getattr(self, "main", None):
            return
        task.exception = None
        if exc is not None and not isinstance(exc, TaskExit):
            try:
                raise exc
            except BaseException:
                report_failure(task, exc)

    # ---- The end ---------------------------------------------------------------------------------------------------

    def forget_others(self) -> None:
        """In the child of a fork: only the calling thread is left. See fork.py."""
        me = current().task
        others = [task for task in self.tasks if task is not me]
        fork.vanished.append((others, list(self.ready), list(self.idle), self.timers))
        for task in others:
            del self.tasks[task]
            task.vanish()
        self.ready.clear()
        self.idle.clear()
        self._calls.clear()
        self.timers = Timers(self.call_root)
        self.suspended.clear()
        self._bell = allocate_lock()
        self._bell.acquire()
        if self.poller is not None:
            # What the system watches for the parent is shared with it, and not ours to change.
            self.poller.close()
            self.poller = None
        self.asleep = False
        self.forked = True
        self.orphaned = me is not self.main
        self._longest_sleep = SIGNAL_ROUND  # The kernel thread that forked is the child's main one.
        self._early = False
        if self._slices is not None:
            self._slices.in_child()
        if isinstance(me, UserTask):
            # It is the main thread now: the child lives as long as it does, daemon or not.
            me.daemon = False
            self._root_comes = True
            self.ready.append(self.root)


def _start(task: UserTask) -> object:
    """`Scheduler.start` for a task that was made before its scheduler ran."""
    return task.scheduler.start(task)


class _Named:
    """What stands in for the thread object of a task that was spawned with a bare name."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name


def _report_failure(task: UserTask, exc: BaseException) -> None:
    sys.excepthook(type(exc), exc, exc.__traceback__)


def _set_aside() -> Callable[[], object] | None:
    return None


# Called before a thread is cut short, to put aside what belongs to it and is the kernel thread's; returns what undoes
# that, if there was any. The layer above sets its own, which knows of asyncio.
set_aside: Callable[[], Callable[[], object] | None] = _set_aside

# What becomes of an exception that leaves a task, and is being handled. The layer above sets its own, which knows of
# thread objects.
report_failure: Callable[[UserTask, BaseException], None] = _report_failure
