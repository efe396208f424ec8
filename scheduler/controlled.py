"""The controlled scheduler: every switch is a decision, time is virtual, and the same decisions give the same run.

Threads run as under the ordinary scheduler, on continuations, one at a time. What differs is when they switch, and to
whom. A thread announces each operation before it performs it (`step`, the seam in control.py), and so stands at a
*choice point*: of all threads whose pending operation could be performed now, the strategy says who goes on. Between
two choice points a thread runs alone.

**Who could go on.** A thread that has an operation pending and is not blocked at it. Blocked is not a state that
somebody must remember to end: it is a question, `blocked()`, asked anew at each choice point. So no wakeup can be lost
here, and of several threads that a release lets through any may be first. Threads that wait by the ordinary protocol
(stand in waiters, park, be unparked) are out of the reckoning until somebody unparks them. Who polls in vain is left
out as well, and waits may end as time passes: patience.py.

**An execution ends** when all threads have ended that are not daemons, or at the first failure. Who is left is then
unwound: controlled_end.py. The scheduler, with its idle continuations, then serves the next execution.

**What it costs.** An exploration is thousands of executions of a few dozen steps, so a step is written for speed: what
is rare (timed waits, polling, an observer) is behind one flag, `careful`, and no helper's frame is on the stack when
threads switch, for greenlet takes note of each.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from scheduler import observers
from scheduler.clock import VirtualClock
from scheduler.continuation import Continuation, current
from scheduler.control import AT_ONCE
from scheduler.controlled_end import step_of_unwound, unwind
from scheduler.controlled_task import ControlledTask, EndOfWait, Failure
from scheduler.cycles import Cycles
from scheduler.descent import Descent
from scheduler.errors import ReplayDivergence, SchedulerError, TaskExit
from scheduler.loop import Scheduler
from scheduler.memory_steps import MemorySteps
from scheduler.outside import DESCRIPTORS, OPERATIONS, Outside, Unready
from scheduler.patience import Patience
from scheduler.strategy import READS, Abandon

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from scheduler.control import Footprint
    from scheduler.strategy import Strategy
    from scheduler.task import UserTask

__all__ = ["ControlledScheduler", "ControlledTask", "Failure"]


class ControlledScheduler(Scheduler):
    """Runs executions, one after the other, under a strategy. Enter it once, on one kernel thread, for all of them."""

    __slots__ = (
        "_choose", "_of_execution", "_outer", "abandoned", "alive", "awaited_count", "careful", "changes", "cycles",
        "deeds", "descent", "early", "every_step", "failure", "max_steps", "memory_steps", "observer", "on_failure",
        "outside", "patience", "preemptions", "resting", "stopping", "strategy", "trace",
    )  # fmt: skip

    task_type = ControlledTask
    clock: VirtualClock

    def __init__(self, strategy: Strategy, *, early: bool = False, max_steps: int = 20_000) -> None:
        super().__init__(clock=VirtualClock())
        self.strategy = strategy
        # Whether timed waits may end before their time.
        self.early = early
        self.max_steps = max_steps
        # Called with each step as it is taken: the thread, and the frame of the code that takes it.
        self.observer: Callable[[ControlledTask, str, object, FrameType | None], None] | None = None
        # Called with a failure while the threads still stand where they stood.
        self.on_failure: Callable[[Failure], None] = _ignore
        # While an execution is looked back at: no thread runs, and no step is missing.
        self.resting = False
        # How many threads would not end when they were unwound.
        self.abandoned = 0
        # Lives as long as the exploration, so that a thread has one id whatever the order in which threads are started.
        self.descent = Descent()
        self.patience = Patience(self, early)
        self.cycles = Cycles(self)
        self.memory_steps = MemorySteps(self)
        self.outside = Outside()
        # Every thread that the execution has started.
        self._of_execution: list[ControlledTask] = []
        self._reset()

    def _reset(self) -> None:
        # Every thread that was started and has not ended, in the order of their start.
        self.alive: list[ControlledTask] = []
        # The steps so far: who took each, and to do what; and which of them are preemptions.
        self.trace: list[tuple[int, str]] = []
        self.preemptions: list[int] = []
        self.failure: Failure | None = None
        self.stopping = False
        # How often anybody has done anything but ask the same again; and how often anything but look.
        self.changes = 0
        self.deeds = 0
        # How many of the threads alive are no daemons. (The main one comes first.)
        self.awaited_count = 1
        self.patience.begin()
        self.cycles.last = ()
        self.memory_steps.begin()
        # Whether a decision takes more than to look who could go on.
        self.careful = self.early or self.observer is not None
        # Whether the strategy is asked where only one can go on, too: often not before a second thread starts.
        self.every_step = self.strategy.wants_every_step and self.strategy.wants_prelude
        self._choose = self.strategy.choose
        self.clock = VirtualClock(1_000_000.0)
        self.now = self.clock.now
        self.timers.clear()
        self.tasks.clear()
        self._calls.clear()
        if self._at_end:
            self._at_end.clear()
        self._closed = False
        # A thread's object and its task refer to one another: left to the garbage collector, they would keep it busy.
        for task in self._of_execution:
            task.thread = task.obj = None
        self._of_execution.clear()

    def wait_outside(self) -> bool:
        """Wait for what other processes may have to say to our threads; False if it is nothing."""
        return self.outside.wait(t.blocked for t in self.alive)

    # ---- The executions ----------------------------------------------------------------------------------------------

    def __enter__(self) -> ControlledScheduler:
        self._outer = self._enter()
        self.root.switch = self.root.continuation.switch
        return self

    def __exit__(self, *_: object) -> None:
        for continuation in self.idle:
            continuation.task = None
            continuation.switch()
        self.idle.clear()
        self._leave(self._outer)

    def execute(self, fn: Callable[[], object], thread: Any) -> Failure | None:
        """Run `fn()` as the main thread, to its end or to the first failure; the failure, if there was one.

        Blocks. `thread` is the object of the main thread. `trace` holds the decisions afterwards.
        """
        self._reset()
        self.main = main = ControlledTask(self, fn, thread, False)
        main.is_ready = True
        self.tasks[main] = None
        self.alive.append(main)
        self._of_execution.append(main)
        try:
            self._drive()
            self.resting = True
            self.memory_steps.end()
            self.strategy.end(self.trace, self.alive)
            self.resting = False
            if self.failure is not None:
                self.on_failure(self.failure)
        finally:
            self.resting = False
            unwind(self)
        return self.failure

    def _drive(self) -> None:
        """Let the threads run until it is the root's turn for good."""
        root = self.root
        # What the switch back to us brought: a task to start (see `UserTask.switch`), or nothing.
        came: Any = None
        while True:
            if came:
                continuation = self.idle.pop() if self.idle else Continuation(self, root.continuation)
                continuation.task = came
                came = None
                came = continuation.switch()
            else:
                task: Any = self.next_turn(None)
                if task is root:
                    return
                came = task.switch()

    def is_older(self, task: object) -> bool:
        """See `Controller.is_older`."""
        me = getattr(current(), "task", None)
        if not isinstance(task, ControlledTask) or not isinstance(me, ControlledTask):
            return False
        return self.descent.is_older(task.id, me.id)

    def add(self, task: UserTask) -> None:
        """See `Scheduler.add`. From a thread under control."""
        if self.stopping:
            raise RuntimeError("can't start new thread: its scheduler is ending")
        parent = getattr(current(), "task", None)
        if not isinstance(task, ControlledTask) or not isinstance(parent, ControlledTask):
            raise SchedulerError("a thread under control is started by another one: this one was started from outside")
        task.id = self.descent.number_of_child(parent.id, parent.children)
        parent.children += 1
        task.is_ready = True
        self.tasks[task] = None
        self.alive.append(task)
        self._of_execution.append(task)
        self.every_step = self.strategy.wants_every_step
        if not task.daemon:
            self.awaited_count += 1
        if observers.active:
            observers.spawned(task)

    # ---- A step ------------------------------------------------------------------------------------------------------

    def controls(self) -> bool:
        """See `control.Controller`."""
        return type(getattr(current(), "task", None)) is ControlledTask

    def step(
        self,
        op: str,
        obj: object,
        blocked: Callable[[], object] | None = None,
        deadline: float | None = None,
        footprint: Footprint | None = None,
        /,
    ) -> bool:
        """See `control.Controller`."""
        try:
            me: Any = current().task
        except AttributeError:
            return True
        if type(me) is not ControlledTask:
            return True
        if self.stopping:
            return step_of_unwound(me, blocked, deadline)
        if deadline is not None:
            return self._timed_step(me, op, obj, blocked, deadline)
        question = None
        if op in READS:
            # One that follows upon something done is no second round of a loop that polls.
            if (me.looks and len(self.alive) > 1) or op == "clock":
                question = self.patience.question(me, op, obj, footprint)
            me.looks = True
        else:
            me.looks = False
        me.op = op
        me.obj = obj
        me.footprint = footprint
        me.is_ready = True
        if blocked is None:
            me.waits = False
        else:
            me.waits = True
            # Who was interrupted won't wait.
            if me.pending is None:
                me.blocked = blocked
                if blocked():
                    self._begins_to_wait(me)
        following = self.next_turn(me)
        if following is not me:
            following.switch()
        elif me.pending is not None:
            me.raise_if_interrupted()
        # It is our turn.
        me.blocked = None
        if me.pending is not None and (op == "yield" or (blocked is not None and blocked())):
            me._raise_pending()
        if question is None:
            self.changes += 1
            if not me.looks:
                self.deeds += 1
        else:
            self.patience.answered(me, question)
        return True

    def _begins_to_wait(self, me: ControlledTask) -> None:
        if self.early:
            self.patience.waits(me, me.obj)  # There may be a limit.
        self.cycles.look(me)

    def _timed_step(
        self, me: ControlledTask, op: str, obj: object, blocked: Callable[[], object] | None, deadline: float
    ) -> bool:
        """The rest of a step that ends at `deadline`."""
        question = None
        if blocked is not None and deadline <= self.clock.now() and blocked():
            # It won't wait, and so it is not blocked.
            question = self.patience.question(me, op, obj, None)
        me.looks = question is not None
        me.op = op
        me.obj = obj
        me.footprint = None
        me.is_ready = True
        me.waits = blocked is not None and deadline != AT_ONCE
        may_wait = deadline > self.clock.now()
        if may_wait and me.pending is None:
            me.blocked = blocked
            me.deadline = deadline
            me.timer = self.timers.add(deadline, me)
            if self.early:
                self.patience.waits(me, obj)
        following = self.next_turn(me)
        if following is not me:
            following.switch()
        elif me.pending is not None:
            me.raise_if_interrupted()
        me.blocked = None
        timer, me.timer = me.timer, None
        if me.pending is not None and may_wait and not me.timed_out and blocked is not None and blocked():
            me._raise_pending()
        if timer is None:
            in_time = blocked is None or not blocked()
        else:
            self.timers.cancel(timer)
            in_time, me.timed_out = not me.timed_out, False
        me.looks = not in_time and question is not None
        if question is None or in_time:
            self.changes += 1
            self.deeds += 1
        else:
            self.patience.answered(me, question)
        return in_time

    def until_ready(self, fileno: Callable[[], int], events: int, deadline: float | None) -> bool:
        """See `control.Controller`."""
        return self.step(OPERATIONS[events], DESCRIPTORS, Unready(fileno, events), deadline)

    def give_way(self, me: ControlledTask) -> None:
        """Let another thread run: the calling one is parked, and goes on once it was unparked and is chosen."""
        me.op = "resume"
        me.obj = me.wait
        following = self.next_turn(me)
        if following is not me:
            following.switch()
        elif me.pending is not None:
            me.raise_if_interrupted()

    # ---- A decision --------------------------------------------------------------------------------------------------

    def next_turn(self, me: ControlledTask | None) -> Any:
        """Whose turn it is: a thread, or the root when the execution is over. `me` is who gives way."""
        if self.stopping:
            return self.root
        if me is not None and me.within:
            me.look_within()
        choices: list[Any] = [t for t in self.alive if t.is_ready and (t.blocked is None or not t.blocked())]
        if self.careful or not choices:
            jumps = self.patience.jumps
            choices = self.patience.choices(choices)
            if not choices:
                return self._stop()
            if self.patience.jumps != jumps:
                me = None  # It could not go on, or time would not have passed: to leave it is no preemption.
        if len(choices) == 1 and not self.every_step:
            chosen = choices[0]
        else:
            running = me if me in choices else None
            try:
                chosen = self._choose(choices, running)
            except ReplayDivergence as error:
                if self.wait_outside():
                    return self.next_turn(me)
                self.fail("divergence", error, None)
                return self.root
            except Abandon:
                self.stopping = True
                return self.root
            if chosen is not running and running is not None and running.op != "yield":
                self.preemptions.append(len(self.trace))
        trace = self.trace
        trace.append((chosen.id, chosen.op))
        if self.careful:
            chosen = self._chosen_with_care(chosen)
        if len(trace) > self.max_steps:
            self._run_away(chosen)
            return self.root
        chosen.is_ready = False
        return chosen

    def _chosen_with_care(self, chosen: Any) -> ControlledTask:
        op = chosen.op
        task = self.patience.end_wait(chosen) if type(chosen) is EndOfWait else chosen
        task.last = len(self.trace)
        if self.observer is not None:
            self.observe(task, op)
        return task

    def look_for_care(self) -> None:
        """Whether a decision takes more than to look who could go on may have changed."""
        self.careful = self.patience.is_needed() or self.observer is not None

    def _run_away(self, chosen: ControlledTask) -> None:
        """Too many steps. While threads ran on and on, some may have waited for one another all the time."""
        if self.cycles.is_closed():
            self.fail("deadlock", None, None, *self.cycles.last)
        else:
            self.fail("livelock", None, chosen)

    def observe(self, task: ControlledTask, op: str) -> None:
        """Tell who looks on of a step: `op`, of `task`."""
        assert self.observer is not None
        me = getattr(current(), "task", None)
        continuation = task.continuation
        frame: FrameType | None
        if task is me:
            frame = sys._getframe(1)
        else:
            frame = None if continuation is None else continuation.gr_frame
        self.observer(task, op, task.obj, frame)

    # ---- The end of a thread, and of an execution --------------------------------------------------------------------

    def recycle(self, continuation: Continuation) -> None:
        """See `Scheduler.recycle`."""
        following = self.next_turn(None)
        if following.continuation is None:
            continuation.task = following
            return
        continuation.task = None
        self.idle.append(continuation)
        switch = following.switch
        del following
        switch()

    def failed(self, task: UserTask, exc: BaseException) -> None:
        """See `Scheduler.failed`: all in its time, which is at the end of the task's last step."""
        task.exception = exc

    def failed_at_last(self, task: UserTask) -> None:
        """A task ended with an exception that nobody has reported: the main one, or one without a Thread."""
        exc, task.exception = task.exception, None
        if exc is None or isinstance(exc, TaskExit):
            return
        self.fail("exception", exc, task)  # type: ignore[arg-type]

    def fail(self, kind: str, exc: BaseException | None, task: ControlledTask | None, *cycle: ControlledTask) -> None:
        """The execution has failed: it ends with the current step. Only the first failure counts.

        Or Ctrl-C, also where it comes while threads are unwound: the next execution would not find it again.
        """
        if not self.stopping or isinstance(exc, KeyboardInterrupt):
            self.failure = Failure(kind, exc, task, cycle)
            self.stopping = True

    def _stop(self) -> Any:
        """Nobody can run, and no time can pass: the end, or a deadlock."""
        self.stopping = True
        if not all(t.daemon for t in self.alive):
            self.failure = Failure("deadlock", None, None, self.cycles.last)
        return self.root

    def ended(self, task: ControlledTask) -> None:
        """A thread is done."""
        self.alive.remove(task)
        self.changes += 1
        self.deeds += 1
        if not task.daemon:
            self.awaited_count -= 1
            if not self.awaited_count:
                # Daemons are cut off, wherever they are; but if all of them wait for one another, none was to go on.
                if self.cycles.is_closed() and len(self.cycles.last) == len(self.alive):
                    self.fail("deadlock", None, None, *self.cycles.last)
                self.stopping = True

def _ignore(failure: Failure) -> None:
    pass
