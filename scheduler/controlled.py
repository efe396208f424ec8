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
unwound: `TaskExit` is raised where it stands, and an operation that would block raises it again. The scheduler, with
its idle continuations, then serves the next execution.

**What it costs.** An exploration is thousands of executions of a few dozen steps, so a step is written for speed: what
is rare (timed waits, polling, an observer) is behind one flag, `careful`, and no helper's frame is on the stack when
threads switch, for greenlet takes note of each.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from scheduler import fork, observers
from scheduler.clock import VirtualClock
from scheduler.continuation import Continuation, current
from scheduler.control import AT_ONCE
from scheduler.controlled_task import ControlledTask, EndOfWait, Failure
from scheduler.deadlock import is_ours
from scheduler.errors import ReplayDivergence, SchedulerError, TaskExit
from scheduler.loop import Scheduler
from scheduler.outside import DESCRIPTORS, OPERATIONS, Outside, Unready
from scheduler.patience import Patience
from scheduler.sharing import Sharing
from scheduler.strategy import READS, Abandon

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType

    from scheduler.control import Footprint
    from scheduler.strategy import Strategy
    from scheduler.task import UserTask

__all__ = ["ControlledScheduler", "ControlledTask", "Failure"]

# How many steps a thread may take while it is unwound, before it is told to end once more at each further one; and how
# often it may be told.
_MOST_STEPS = 1_000
_MOST_REFUSALS = 100


class ControlledScheduler(Scheduler):
    """Runs executions, one after the other, under a strategy. Enter it once, on one kernel thread, for all of them."""

    __slots__ = (
        "_choose", "_cycle", "_every_step", "_ids", "_learns", "_of_execution", "_outer", "_parents", "_skips",
        "abandoned", "alive", "awaited_count", "careful", "changes", "deeds", "early", "failure", "max_steps",
        "observer", "on_failure", "outside", "patience", "preemptions", "resting", "sharing", "stopping", "strategy",
        "trace",
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
        # (parent's id, how many children it had before) to the id of a thread. Lives as long as the exploration, so
        # that a thread has one id whatever the order in which threads are started.
        self._ids: dict[tuple[int, int], int] = {}
        self._parents: list[tuple[int, int]] = [(0, 0)]
        self.patience = Patience(self, early)
        self.outside = Outside()
        # What threads have shared, as far as strategies that learn have seen.
        self.sharing = Sharing()
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
        self._cycle: tuple[ControlledTask, ...] = ()
        # How many of the threads alive are no daemons. (The main one comes first.)
        self.awaited_count = 1
        self.patience.begin()
        # Whether a decision takes more than to look who could go on.
        self.careful = self.early or self.observer is not None
        self._every_step = self.strategy.wants_every_step and self.strategy.wants_prelude
        self.sharing.begin()
        self._learns, self._skips = self.strategy.learns, self.strategy.skips_private
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

    @property
    def fairness_used(self) -> bool:
        """Whether anybody was left out because it polled in vain: see patience.py."""
        return self.patience.was_used

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
            if self._learns:
                self.sharing.end()
            self.strategy.end(self.trace, self.alive)
            self.resting = False
            if self.failure is not None:
                self.on_failure(self.failure)
        finally:
            self.resting = False
            self._unwind_all()
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
                task: Any = self._next(None)
                if task is root:
                    return
                came = task.switch()

    def add(self, task: UserTask) -> None:
        """See `Scheduler.add`. From a thread under control."""
        if self.stopping:
            raise RuntimeError("can't start new thread: its scheduler is ending")
        parent = getattr(current(), "task", None)
        if not isinstance(task, ControlledTask) or not isinstance(parent, ControlledTask):
            raise SchedulerError("a thread under control is started by another one: this one was started from outside")
        key = (parent.id, parent.children)
        parent.children += 1
        number = self._ids.get(key)
        if number is None:
            number = self._ids[key] = len(self._parents)
            self._parents.append(key)
        task.id = number
        task.is_ready = True
        self.tasks[task] = None
        self.alive.append(task)
        self._of_execution.append(task)
        self._every_step = self.strategy.wants_every_step
        if not task.daemon:
            self.awaited_count += 1
        if observers.active:
            observers.spawned(task)

    def path_of(self, number: int) -> str:
        """The name of thread `number` by its descent: "2.1" is the first thread that the main one's second started."""
        steps = []
        while number:
            number, index = self._parents[number]
            steps.append(str(index + 1))
        return ".".join(reversed(steps)) or "0"

    def number_of(self, path: str) -> int:
        """The thread with that descent; see `path_of`."""
        number = 0
        if path != "0":
            for index in path.split("."):
                key = (number, int(index) - 1)
                if key not in self._ids:
                    self._ids[key] = len(self._parents)
                    self._parents.append(key)
                number = self._ids[key]
        return number

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
            return self._step_while_stopping(me, blocked, deadline)
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
        following = self._next(me)
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
        self.check_for_cycle(me)

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
        following = self._next(me)
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

    def access(self, obj: object, footprint: Footprint) -> None:
        """See `control.access`. `step`, written out for what there is most of."""
        try:
            me: Any = current().task
        except AttributeError:
            return
        op = "read"
        for _part, writes in footprint:
            if writes:
                op = "write"
        alive = self.alive
        alone = len(alive) == 1
        if alone and alive[0] is me and not (self.careful or self._every_step or self.stopping):
            # While a program sets up, nobody is there who could come in between: noted, and no more.
            trace = self.trace
            if len(trace) < self.max_steps:
                trace.append((me.id, op))
                return
        # Who is ready, or done, while it runs, runs a strategy of the program's, which is none of its own steps.
        if type(me) is not ControlledTask or me.is_ready or me.done:
            return
        if self.stopping:
            self._step_while_stopping(me, None, None)
            return
        question = None
        if op == "read":
            if me.looks and not alone:
                question = self.patience.question(me, op, obj, footprint)
            me.looks = True
        else:
            me.looks = False
        me.op = op
        me.obj = obj
        me.footprint = footprint
        me.waits = False
        if alone or not self._learns or not self._is_nobody_elses(me):
            me.is_ready = True
            following = self._next(me)
            if following is not me:
                following.switch()
            elif me.pending is not None:
                me.raise_if_interrupted()
        if question is None:
            self.changes += 1
            if not me.looks:
                self.deeds += 1
        else:
            self.patience.answered(me, question)

    def enters(self, generators: Sequence[Any]) -> None:
        """See `control.entering`."""
        me: Any = getattr(current(), "task", None)
        if type(me) is ControlledTask and len(self.alive) > 1:
            # One that runs already lets nobody in.
            me.within = [*me.within, *[each for each in generators if not each.gi_running]]

    def rounds(self, loop: str, begins: bool) -> None:
        """See `control.rounds`."""
        me: Any = getattr(current(), "task", None)
        if type(me) is not ControlledTask or self.stopping or len(self.alive) == 1:
            return
        frame: FrameType | None = sys._getframe(1)
        while frame is not None and is_ours(frame.f_code):
            frame = frame.f_back
        if frame is None:
            return
        if begins:
            me.rounds.pop((id(frame.f_code), loop), None)
        else:
            self.patience.next_round(me, loop, frame)

    def accesses(self, pairs: tuple[tuple[object, Footprint], ...]) -> None:
        """See `control.accesses`. One step; it goes by what it writes, if it writes anything."""
        me: Any = getattr(current(), "task", None)
        if type(me) is not ControlledTask or me.is_ready or me.done:
            return
        first = pairs[0]
        for pair in pairs:
            if any(writes for _part, writes in pair[1]):
                first = pair
                break
        if len(self.alive) == 1 and not self.careful and not self._every_step:
            self.access(*first)
            return
        me.beside = tuple([pair for pair in pairs if pair is not first])
        try:
            self.access(*first)
        finally:
            me.beside = ()

    def _is_nobody_elses(self, me: ControlledTask) -> bool:
        """Whether a step of memory is no choice point, since nobody could notice it; then it is taken.

        As if the strategy had let `me` go on. So who follows the trace does the same, whatever he has learned. A thread
        that polls in vain is not let on, by whatever strategy, and may wait for what others are yet to write.
        """
        assert me.footprint is not None
        is_private = self.sharing.note(me.id, ((me.obj, me.footprint), *me.beside), sys._getframe(2))
        trace = self.trace
        if not (is_private and self._skips) or me.spins or len(trace) >= self.max_steps:
            return False
        trace.append((me.id, me.op))
        if self.careful:
            me.last = len(trace)
            if self.observer is not None:
                self._observe(me, me.op)
        return True

    def give_way(self, me: ControlledTask) -> None:
        """Let another thread run: the calling one is parked, and goes on once it was unparked and is chosen."""
        me.op = "resume"
        me.obj = me.wait
        following = self._next(me)
        if following is not me:
            following.switch()
        elif me.pending is not None:
            me.raise_if_interrupted()

    # ---- A decision --------------------------------------------------------------------------------------------------

    def _next(self, me: ControlledTask | None) -> Any:
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
        if len(choices) == 1 and not self._every_step:
            chosen = choices[0]
        else:
            running = me if me in choices else None
            try:
                chosen = self._choose(choices, running)
            except ReplayDivergence as error:
                if self.wait_outside():
                    return self._next(me)
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
            self._observe(task, op)
        return task

    def look_for_care(self) -> None:
        """Whether a decision takes more than to look who could go on may have changed."""
        self.careful = self.patience.is_needed() or self.observer is not None

    def _run_away(self, chosen: ControlledTask) -> None:
        """Too many steps. While threads ran on and on, some may have waited for one another all the time."""
        if self._is_stuck():
            self.fail("deadlock", None, None, *self._cycle)
        else:
            self.fail("livelock", None, chosen)

    def _observe(self, task: ControlledTask, op: str) -> None:
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
        following = self._next(None)
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
        """The execution has failed: it ends with the current step. Only the first failure counts."""
        if not self.stopping:
            self.failure = Failure(kind, exc, task, cycle)
            self.stopping = True

    def _stop(self) -> Any:
        """Nobody can run, and no time can pass: the end, or a deadlock."""
        self.stopping = True
        if not all(t.daemon for t in self.alive):
            self.failure = Failure("deadlock", None, None, self._cycle)
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
                if self._is_stuck() and len(self._cycle) == len(self.alive):
                    self.fail("deadlock", None, None, *self._cycle)
                self.stopping = True

    def check_for_cycle(self, me: ControlledTask) -> None:
        """Do threads wait for one another in a ring, with `me` among them? Then others may run on, but they won't."""
        task: Any
        for task in self.alive:
            if (task.blocked is not None or task.wait is not None) and task is not me:
                break
        else:
            return  # The common case, cheaply: nobody else waits.
        cycle = [me]
        task = me
        while True:
            obj = task.obj if task.wait is None else task.wait
            waiting_for = getattr(obj, "waiting_for", None)
            if waiting_for is None or self._has_a_limit(task):
                return
            task = waiting_for(task).holder
            if type(task) is not ControlledTask or task.done:
                return
            if task is me:
                break
            if task in cycle or not task.is_held_up:
                return
            cycle.append(task)
        # A plain lock may be released by anybody, so it takes more to be sure: that nobody does in the end.
        self._cycle = tuple(cycle)
        if all(getattr(t.obj if t.wait is None else t.wait, "only_the_owner_releases", False) for t in cycle):
            self.fail("deadlock", None, None, *cycle)

    def _has_a_limit(self, task: ControlledTask) -> bool:
        """Whether the time may come that a thread waits no longer."""
        return task.timer is not None or any(
            getattr(who, "interrupts", None) is task for _number, who in self.timers.all()
        )

    def beside(self, cycle: tuple[ControlledTask, ...]) -> list[ControlledTask]:
        """Who waits as well when the threads of `cycle` wait for ever. Daemons often do, and rightly."""
        return [t for t in self.alive if t.is_held_up and not t.daemon and t not in cycle]

    def _is_stuck(self) -> bool:
        """Whether the cycle that was seen last is still one."""
        return bool(self._cycle) and all(t.is_held_up for t in self._cycle)

    # ---- Unwinding ---------------------------------------------------------------------------------------------------

    def _step_while_stopping(
        self, me: ControlledTask, blocked: Callable[[], object] | None, deadline: float | None
    ) -> bool:
        goes_on = blocked is None or not blocked()
        # What it polls for may never come, for nobody else runs: its patience has an end here.
        me.refusals += 1
        if me.refusals > _MOST_STEPS or not (goes_on or deadline is not None):
            self.refuse(me)
        return goes_on

    def refuse(self, me: ControlledTask) -> None:
        """Raise in a thread that is being unwound and would wait; one that goes on and on stays behind."""
        me.refusals += _MOST_STEPS
        if me.refusals > _MOST_STEPS * _MOST_REFUSALS:
            self.abandon(me)
        raise TaskExit

    def abandon(self, me: ControlledTask) -> None:
        """Leave the calling thread behind, with its stack, and end the execution without it. Does not return."""
        self.abandoned += 1
        fork.vanished.append(current())
        if me in self.alive:
            self.alive.remove(me)
        self.tasks.pop(me, None)
        me.done = self.stopping = True
        self.root.continuation.switch()

    def _unwind_all(self) -> None:
        """End every thread that is left, so that its `finally` blocks run."""
        self.stopping = True
        for task in list(self.alive):
            if task.continuation is None:
                # It has not begun, so there is nobody to tell.
                task.done = True
                self.tasks.pop(task, None)
                continue
            task.pending = TaskExit()
            task.blocked = None
            if task.waiters is not None:
                task.waiters.pop(task, None)
            task._throw_pending()
            if not task.done:
                task.done = True
                self.tasks.pop(task, None)
        self.alive.clear()


def _ignore(failure: Failure) -> None:
    pass
