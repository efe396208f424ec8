"""The scheduler: a ring of ready threads, and a root that takes its turn in the ring.

A thread that gives way switches straight to the next ready one: one greenlet switch, where a hub needs two. Around
that stands the loop, on the greenlet that called `run`, the *root*. It does what nobody else may: fire due timers, run
what other kernel threads posted, start new continuations, and sleep.

**The root stands in the ready queue like a thread.** So the queue is never empty while threads run, a switch needs no
check for that, and timers and posted calls are looked at once a round by construction. In a short round the root
passes its turn on a few times (`RootTask.switch`), so that two threads don't pay for it at every other switch; fewer
times where threads compute for long, so that its next turn comes in about `_TURN_SECONDS`.

Rejected: a hub that each switch goes through (gevent, eventlet): twice the switches.
Rejected: counting switches, and going to the root at the hundredth: 40 to 70 ns of a switch of 320 to 390.
"""

from __future__ import annotations

import functools
import itertools
import operator
import sys
import warnings
import weakref

# By name: a program may put other functions into the module `time` later.
from _thread import allocate_lock, get_ident
from collections import deque
from time import monotonic
from time import sleep as _system_sleep
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from scheduler import deadlock, fork, observers
from scheduler.clock import Clock, MonotonicClock
from scheduler.continuation import Continuation, current
from scheduler.errors import Deadlock, SchedulerBug, SchedulerError, TaskExit
from scheduler.kernel import KernelTask, current_task, here, longest_sleep
from scheduler.policy import Policy, ready_queue
from scheduler.poller import Poller
from scheduler.signals import CtrlC
from scheduler.stepping import slices_for
from scheduler.task import GONE, State, Suspension, Task, UserTask
from scheduler.timers import Timers
from scheduler.timeslices import Slices, Steps, checked, fences_nothing

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.task import Waitable, Waiters

__all__ = ["Scheduler", "run_scheduler", "sleep", "yield_now"]

T = TypeVar("T")

_numbers = itertools.count()

# How many turns the root passes on at the most, and the time that it aims to be away for at the most.
_MOST_PASSES = 32
_TURN_SECONDS = 0.005
# Idle continuations kept for the threads to come (6 kB each). One that would be more than this ends.
_MOST_IDLE = 10_000
# Unwinding daemons: how often one is thrown into, how many rounds and seconds it may go on each time.
_UNWIND_THROWS = 3
_UNWIND_ROUNDS = 10_000
_UNWIND_SECONDS = 5.0
# How long to sleep at a time when only somebody outside can wake a thread: that somebody may end without a word.
_LOOK_ROUND = (0.01, 0.5)


class Ending(Protocol):
    """What wants to know that a scheduler is ending."""

    def scheduler_ends(self) -> None:
        """Called on the scheduler's root: must not block."""


class RootTask(Task):
    """The root's place in the ready queue, and the `task` that its greenlet carries: no thread, it may not wait."""

    __slots__ = ("continuation", "has_turn", "misses_one", "passes", "scheduler", "switch")

    ready = None

    def __init__(self, scheduler: Scheduler, continuation: Continuation) -> None:
        super().__init__(None, daemon=True)
        self.scheduler: Scheduler = scheduler
        self.continuation = continuation
        self.has_turn = True
        # Whether a thread was taken out of the ready queue and then could not be switched to: see `yield_now`.
        self.misses_one = False
        # How many turns to pass on before the next one is taken.
        self.passes = _MOST_PASSES
        self.switch = self._make_switch(scheduler.ready, continuation.switch)

    def _make_switch(self, ready: deque[Task], to_root: Callable[[], object]) -> Callable[[], object]:
        append, popleft = ready.append, ready.popleft

        # A closure, not a method: it runs, on the stack of the thread that gives way, at each round.
        def switch() -> object:
            if ready and self.passes:
                self.passes -= 1
                append(self)
                return popleft().switch()
            self.has_turn = True
            return to_root()

        return switch

    @property
    def name(self) -> str:
        """For reports."""
        return "the scheduler"

    def park(
        self,
        waiters: Waiters | None,
        reason: Waitable | str,
        deadline: float | None = None,
        undo: Callable[[], object] | None = None,
    ) -> bool:
        """Refuse: if the root waited, every thread would."""
        if waiters is not None and waiters.pop(self, GONE) is GONE and undo is not None:
            undo()
        raise SchedulerError(
            "the scheduler itself can't wait: signal handlers, observers and posted calls that run between two "
            "threads must not block; start a thread for that"
        )

    def unpark(self) -> None:
        """Nothing to do: a kernel thread took us out of a queue in which `park` was about to refuse to wait."""

    def give_way(self) -> None:
        """Refuse, like `park`."""
        self.park(None, "yield")

    def sleep(self, seconds: float) -> None:
        """Refuse, like `park`."""
        self.park(None, "sleep")

    def now(self) -> float:
        """See `Task.now`."""
        return self.scheduler.clock.now()


class Scheduler:
    """Runs user threads on the kernel thread that calls `run`.

    One a kernel thread; several kernel threads may each run one. `clock` is where it reads the time (`VirtualClock`
    for tests); `timeslice` and `policy` are as in `run_scheduler`. A scheduler is used once.
    """

    __slots__ = (
        "__weakref__", "_at_end", "_awaited", "_bell", "_calls", "_closed", "_early", "_passes", "_slices", "_started",
        "_timeslice",
        "ambient", "asleep", "clock", "forked", "host", "idle", "main", "orphaned", "poller", "ready", "root", "start",
        "suspended", "tasks", "timers", "turn",
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
        # Invariant: a task is here iff it is READY, or NEW; the root is here iff threads run.
        self.ready: deque[Task] = ready_queue(policy)
        # Every task that was started and is not done, in the order of their start.
        self.tasks: dict[UserTask, None] = {}
        self.timers = Timers()
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
        self._closed = False
        self._started = False
        # What a task that is NEW does to be run: once there is a root, a switch to that with the task as its value.
        self.start: Callable[[UserTask], object] = _start
        self.root: RootTask
        self._passes = _MOST_PASSES
        # When the root's last turn ended: the time as threads can have it for nothing.
        self.turn = self.clock.now()
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
        if self.asleep:
            self.ring()

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
        return self.poller

    def interrupt_main(self, exc: BaseException) -> None:
        """Raise `exc` in the main user thread, or out of `run` if that has ended. On the root only."""
        if self.main.done:
            raise exc
        self.main.interrupt_now(exc)

    # ---- The loop --------------------------------------------------------------------------------------------------

    def run(self, main: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Run `main(*args, **kwargs)` as the main user thread, round robin with everything it starts.

        Returns its result, or raises its exception, after all non-daemon user threads have ended; daemons are then
        unwound. Blocks the calling kernel thread. SchedulerError where a scheduler is running already.
        """
        outer = self._enter()
        ctrl_c = CtrlC(self)
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
                self._unwind()
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
        result: T = self.main.result  # type: ignore[assignment]
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
        self.ready.append(task)
        self._early = self.root.has_turn = True
        self.root.continuation.switch()

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
                while awaited := [task for task in self._tasks_but(before) if not task.daemon]:
                    for task in awaited:
                        task.join()
            finally:
                self._unwind_in_place(before)
                if not sliced:
                    self._end_slices()
                self.ambient = True

    def _unwind_in_place(self, before: dict[UserTask, None]) -> None:
        for _ in range(_UNWIND_THROWS):
            deadline = self.clock.now() + _UNWIND_SECONDS
            left = self._tasks_but(before)
            for task in left:
                task.resume_now()
                task.interrupt_now(TaskExit(), replace=True)
            for task in left:
                task.join(deadline)
        # Who refuses to end lives on as a daemon, until `run` unwinds it.
        for task in self._tasks_but(before):
            task.daemon = True

    def _tasks_but(self, before: dict[UserTask, None]) -> list[UserTask]:
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
        root = current()
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
            if self._early:
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
        for task in list(self.tasks):
            if not task.daemon:
                self._awaited = task
                return True
        return False

    def _make_calls(self) -> None:
        # Only what was here on entry: a call may post again, and an unbounded drain would starve the threads.
        for _ in range(len(self._calls)):
            if self._calls:  # One that forks leaves none in the child.
                self._calls.popleft()()

    def _run_threads(self) -> None:
        """Let threads switch among themselves until the root's turn comes."""
        root, ready = self.root, self.ready
        self.turn = began = self.clock.now()
        root.has_turn = False
        if self._early:
            self._early = False
        else:
            ready.append(root)
        # What the switch back to us brought: a task to start (see `UserTask.switch`), or nothing.
        came: Any = None
        while True:
            if came:
                continuation = self.idle.pop() if self.idle else Continuation(self, root.continuation)
                continuation.task = came
                came = None
                came = continuation.switch()
            elif root.has_turn:
                break
            else:
                # At first, or after a continuation has ended and fallen back to us.
                came = ready.popleft().switch()
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
        following = self.ready.popleft()
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
        timeout = None if deadline is None else max(0.0, deadline - self.clock.now())
        pause = _LOOK_ROUND[0]
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
                if not deadlock.anybody_outside():
                    # Whoever was outside may have woken a thread and ended since we looked.
                    if not (self.ready or self._calls):
                        self._deadlocked()
                    return
                self._sleep(pause)
                pause = min(2 * pause, _LOOK_ROUND[1])
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
        longest = longest_sleep()
        seconds = longest if timeout is None else min(timeout, longest)
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

    def _unwind(self) -> None:
        """End every thread that is left, by an exception, so that its `finally` blocks run; then the continuations."""
        self._closed = True
        failure: BaseException | None = None
        for task in list(self.suspended):
            task.resume_now()
        for _ in range(_UNWIND_THROWS):
            for task in list(self.tasks):
                task.interrupt_now(TaskExit(), replace=True)
            failure = self._run_bounded() or failure
            if not self.tasks:
                break
        else:
            names = ", ".join(repr(task.name) for task in self.tasks)
            warnings.warn(f"threads that refuse to end are abandoned: {names}", RuntimeWarning, stacklevel=4)
            fork.vanished.append((list(self.tasks), list(self.ready)))
        for continuation in self.idle:
            continuation.task = None
            continuation.switch()
        self.idle.clear()
        if failure is not None:
            failure.__context__ = self.main.exception
            raise failure

    def _run_bounded(self) -> BaseException | None:
        """Run until all threads are done or all wait, but not for ever. Returns what went wrong, if anything did."""
        until = monotonic() + _UNWIND_SECONDS
        failure: BaseException | None = None
        for _ in range(_UNWIND_ROUNDS):
            try:
                if self._calls:
                    self._make_calls()
                self.timers.fire(self.clock.now())
                if self.ready:
                    self._run_threads()
                    if self.poller is not None and self.ready:
                        self.poller.poll(0)
                elif self.tasks and self._may_wake() and monotonic() < until:
                    self._wait_a_while()
                else:
                    break
            except BaseException as error:
                # A posted call that fails, or Ctrl-C: no reason to leave the others as they are. After a Ctrl-C they
                # don't get to sleep.
                failure = failure or error
                if not isinstance(error, Exception):
                    until = 0.0
        return failure

    def _may_wake(self) -> bool:
        return len(self.timers) > 0 or (self.poller is not None and self.poller.anybody_waits())

    def _wait_a_while(self) -> None:
        deadline = self.timers.next_deadline()
        timeout = _UNWIND_SECONDS
        if deadline is not None:
            timeout = max(0.0, min(deadline - self.clock.now(), timeout))
        # Others ring only while `asleep` says that somebody listens; see `_idle`.
        self.asleep = True
        try:
            if not (self.ready or self._calls):
                self.clock.wait(self._sleep, timeout)
        finally:
            self.asleep = False

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
        self.timers = Timers()
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
        self._early = False
        if self._slices is not None:
            self._slices.in_child()
        if isinstance(me, UserTask):
            # It is the main thread now: the child lives as long as it does, daemon or not.
            me.daemon = False
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


# What becomes of an exception that leaves a task, and is being handled. The layer above sets its own, which knows of
# thread objects.
report_failure: Callable[[UserTask, BaseException], None] = _report_failure


@fences_nothing
def run_scheduler(
    main: Callable[..., T],
    /,
    *args: Any,
    timeslice: float | Steps | None = None,
    policy: Policy | None = None,
    **kwargs: Any,
) -> T:
    """Run `main(*args, **kwargs)` as the main user thread of a new scheduler on the calling kernel thread.

    Round robin with every user thread that it starts. Returns its result, or raises its exception, after all
    non-daemon user threads have ended; daemon threads are then unwound: `TaskExit` is raised where they wait, so their
    `finally` blocks run.

    `timeslice` ends the run of a user thread that computes without yielding after so many seconds, or `Steps`, and lets
    the others run; None (the default) lets each run until it yields or waits. `policy` chooses who runs next; None is
    round robin. Neither is passed on to `main`.

    Blocks the calling kernel thread. Raises `Deadlock` when every user thread waits and nothing can wake one, and
    `SchedulerError` (a RuntimeError) when called inside itself. Ctrl-C raises KeyboardInterrupt in `main`.

    In the main thread of a program that the `run_scheduler` command runs there is a scheduler already (an *ambient*
    one): `main` is called in place, and the same is awaited and unwound before this returns.
    """
    outer = here.scheduler
    if outer is not None and outer.ambient and getattr(current(), "task", None) is outer.main:
        if policy is not None:
            raise SchedulerError(
                "the run_scheduler command has chosen the policy: give it --policy, or run the program with python"
            )
        return outer.run_in_place(main, *args, timeslice=timeslice, **kwargs)
    return Scheduler(timeslice=timeslice, policy=policy).run(main, *args, **kwargs)


def yield_now() -> None:
    """Let every other ready thread of this scheduler run before the calling one goes on.

    In a kernel thread: let another kernel thread run.
    """
    me: Any
    try:
        me = current().task
    except AttributeError:
        me = current_task()
    ready = me.ready
    if ready is None:
        me.give_way()  # A kernel thread, or a task under another regime than the ring's.
        return
    try:
        ready.append(me)
        ready.popleft().switch()
    except RecursionError:
        # There was no stack left for the switch, which may be a few frames deep. So we go on; whom we took out of the
        # queue is missing there now, and the root shall look for it. No calls: they would fail as well.
        root = me.scheduler.root
        place = 0
        try:
            while ready[place] is not me:
                place += 1
            del ready[place]
            ready += (root,)
            root.has_turn, root.misses_one, root.passes = False, True, 0
        except IndexError:
            pass  # Thrown into us, by an interrupt: we had left.
        raise


def sleep(seconds: float) -> None:
    """Let at least `seconds` pass; other threads run meanwhile. `sleep(0)` yields.

    A user thread parks, a kernel thread blocks. Errors are `time.sleep`'s own.
    """
    delay = _seconds(seconds)
    if delay:
        current_task().sleep(delay)
    else:
        yield_now()


def _seconds(seconds: Any) -> float:
    """`seconds` as a float, checked as `time.sleep` checks it."""
    if isinstance(seconds, (int, float)) and 0 <= seconds <= 1e9:
        return float(seconds)
    if not isinstance(seconds, float) and hasattr(type(seconds), "__index__"):
        seconds = operator.index(seconds)
        if 0 <= seconds <= 1e9:
            return float(seconds)
    # Out of range, or no number: let time.sleep say so in its own words. It accepts up to about 292 years.
    if isinstance(seconds, (int, float)) and 1e9 < seconds < 9.2e9:
        return float(seconds)
    _system_sleep(seconds)
    raise SchedulerBug(f"time.sleep({seconds!r}) did not raise")
