"""The controlled scheduler: every switch is a decision, time is virtual, and the same decisions give the same run.

Threads run as under the ordinary scheduler, on continuations, one at a time. What differs is when they switch, and to
whom. A thread announces each operation before it performs it (`step`, the seam in control.py), and so stands at a
*choice point*: of all threads whose pending operation could be performed now, the strategy says who goes on. Between
two choice points a thread runs alone.

**Who could go on.** A thread that has an operation pending and is not blocked at it. Blocked is not a state that
somebody must remember to end: it is a question, `blocked()`, asked anew at each choice point. So no wakeup can be lost
here, and of several threads that a release lets through any may be first. Threads that wait by the ordinary protocol
(stand in waiters, park, be unparked) are out of the reckoning until somebody unparks them.

**Time** stands still while any thread can run, and jumps to the next deadline when none can. With `early` a timed wait
may also end before: that is one more choice, at every choice point.

Several waits may be due at once. Who sleeps then goes on; who waits for others may yet get what it waits for, from
those who are due as well, and may end its wait in vain at any moment from then on.

**Fairness.** A thread that asks the same question again while nothing has been done would get the same answer: it polls
in vain, see polling.py. It is left out until another thread has done something; where all do that, time passes, and
they take turns. That keeps a loop that polls from hanging a depth-first search. `fairness_used` says that it happened,
for it is an assumption: real threads may poll a hundred times in a row, and give up.

**An execution ends** when all threads have ended that are not daemons, or at the first failure. Who is left is then
unwound: `TaskExit` is raised where it stands, and an operation that would block raises it again. The scheduler, with
its idle continuations, then serves the next execution.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from scheduler import fork, observers
from scheduler.clock import VirtualClock
from scheduler.continuation import Continuation, current
from scheduler.control import AT_ONCE
from scheduler.errors import ReplayDivergence, SchedulerBug, SchedulerError, TaskExit
from scheduler.loop import Scheduler
from scheduler.polling import ask
from scheduler.strategy import READS, Abandon
from scheduler.task import GONE, UserTask, Waitable, Waiters

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from scheduler.control import Footprint
    from scheduler.polling import Question
    from scheduler.strategy import Choice, Strategy

__all__ = ["ControlledScheduler", "ControlledTask", "Failure", "Step"]

# How many steps a thread may take while it is unwound, before it is told to end once more at each further one; and how
# often it may be told.
_MOST_STEPS = 1_000
_MOST_REFUSALS = 100
# The most that time passes at once, in seconds, while threads do nothing but look at the clock.
_LONGEST_SPIN = 3600.0


class Step(NamedTuple):
    """One decision: the thread that took the step, and what it was about to do."""

    id: int
    op: str


class Failure(NamedTuple):
    """Why an execution has failed. `kind` is "exception", "deadlock" or "livelock"; of a thread, or of all."""

    kind: str
    exception: BaseException | None
    task: ControlledTask | None
    # The threads of a deadlock, in the order of the cycle if there is one.
    cycle: tuple[ControlledTask, ...] = ()


class ControlledTask(UserTask):
    """A thread under control."""

    __slots__ = (
        "asked", "blocked", "children", "deadline", "footprint", "id", "is_ready", "last", "obj", "op",
        "patience", "refusals", "spun", "waits",
    )  # fmt: skip

    scheduler: ControlledScheduler

    def __init__(self, scheduler: ControlledScheduler, fn: Callable[[], object], thread: Any, daemon: bool) -> None:
        super().__init__(scheduler, fn, thread, daemon)
        self.ready = None  # type: ignore[assignment]
        # Which thread it is, the same in every execution; see `ControlledScheduler.add`.
        self.id = 0
        # What it is about to do, and why it can't (None: it can).
        self.op = "begin"
        self.obj: object = None
        self.footprint: Footprint | None = None
        self.blocked: Callable[[], object] | None = None
        # Invariant: true iff it has an operation pending. False while it runs, and while it is parked.
        self.is_ready = False
        # Whether it is an operation that may have to wait, as this one does or did.
        self.waits = False
        self.children = 0
        # Its last question at each place, see polling.py; and the moment at which it asked again, in vain.
        self.asked: dict[Any, Question] = {}
        self.spun = -1
        # Of a timed wait: until when.
        self.deadline = 0.0
        # Where waits may end early: the question whether this one has already, and when it took its last step.
        self.patience: Question | None = None
        self.last = 0
        self.refusals = 0

    def finish(self) -> None:
        """See `UserTask.finish`."""
        scheduler = self.scheduler
        if self is scheduler.main and scheduler._at_end:
            scheduler.make_last_calls()
        if self.exception is None:
            try:
                scheduler.step("end", self if self.thread is None else self.thread)
            except TaskExit:
                pass
        super().finish()
        scheduler.ended(self)

    @property
    def ident(self) -> int | None:
        """See `Task.ident`: small numbers, the same in each execution."""
        return self.scheduler.host.ident if self.id == 0 else self.id

    @property
    def guarded(self) -> bool:
        """See `strategy.Choice`."""
        return self.waits and not (self.scheduler.early and self.timer is not None)

    @property
    def is_held_up(self) -> bool:
        """Whether it waits, and what it waits for has not come."""
        if self.wait is not None:
            return not self.is_ready
        return self.blocked is not None and bool(self.blocked())

    def waits_for(self) -> Waitable | str | None:
        """See `UserTask.waits_for`."""
        if self.wait is not None:
            return self.wait
        return self.op if self.obj is None else self.obj  # type: ignore[return-value]

    def unpark(self) -> None:
        """See `Task.unpark`."""
        self.is_ready = True

    def expire(self) -> None:
        """The deadline has passed."""
        if self.blocked is not None:
            # At a step: its turn may come now whatever keeps it from going on.
            self.timed_out = True
            self.blocked = None
        elif self.wait is not None:
            waiters = self.waiters
            if waiters is None or waiters.pop(self, GONE) is not GONE:
                self.timed_out = True
                self.is_ready = True

    def give_way(self) -> None:
        """See `Task.give_way`."""
        self.scheduler.step("yield", None)

    def sleep(self, seconds: float) -> None:
        """See `Task.sleep`."""
        self.scheduler.step("sleep", None, _always, self.scheduler.clock.now() + seconds)

    def park(
        self,
        waiters: Waiters | None,
        reason: Waitable | str,
        deadline: float | None = None,
        undo: Callable[[], object] | None = None,
    ) -> bool:
        """See `Task.park`. Gives way to whom the strategy chooses."""
        scheduler = self.scheduler
        if self.pending is not None and (waiters is None or waiters.pop(self, GONE) is not GONE):
            self._raise_pending()
        if scheduler.stopping and (waiters is None or waiters.pop(self, GONE) is not GONE):
            scheduler.refuse(self)
        if deadline is not None and deadline <= scheduler.clock.now():
            if waiters is None or waiters.pop(self, GONE) is not GONE:
                return False
        self.waiters, self.wait, self.waits = waiters, reason, True
        # Somebody may have unparked it already, between its standing there and now.
        self.is_ready = waiters is not None and self not in waiters
        if deadline is not None:
            self.deadline = deadline
            self.timer = scheduler.timers.add(deadline, self)
            if scheduler.early:
                scheduler.note_patience(self, reason)
        scheduler.changes += 1
        scheduler.check_for_cycle(self)
        scheduler.give_way(self)
        self.wait = None
        timer, self.timer = self.timer, None
        if timer is not None:
            if self.timed_out:
                self.timed_out = False
                return False
            scheduler.timers.cancel(timer)
        return True

    def interrupt(self, exc: BaseException) -> None:
        """See `Task.interrupt`."""
        self.interrupt_now(exc)

    def interrupt_now(self, exc: BaseException, replace: bool = False) -> None:
        """See `UserTask.interrupt_now`. Raised where the thread is blocked or yields, not at just any operation."""
        if self.done or (self.pending is not None and not replace):
            return
        self.pending = exc
        if self.continuation is None:
            return  # NEW: raised by `run` in place of the first line
        if self.wait is not None:
            if self._claim():
                self.is_ready = True
                self.switch = self._throw_pending
        elif self.blocked is not None and self.blocked():
            self.blocked = None
            if self.timer is not None:
                self.scheduler.timers.cancel(self.timer)
                self.timer = None
            self.switch = self._throw_pending

    def raise_if_interrupted(self) -> None:
        """Raise what it was interrupted with while it was blocked: it goes on by itself, and nobody switches to it."""
        if self.switch == self._throw_pending:
            self.wait = self.timer = None
            self._raise_pending()


class _EndOfWait:
    """The choice that a timed wait ends in vain: "timeout", before its time, or "expire", when it is due."""

    __slots__ = ("footprint", "guarded", "id", "obj", "op", "task")

    def __init__(self, op: str, task: ControlledTask) -> None:
        self.task = task
        self.id = task.id
        self.op = op
        self.obj = task.obj
        self.footprint: Footprint | None = None
        self.guarded = False


class ControlledScheduler(Scheduler):
    """Runs executions, one after the other, under a strategy. Enter it once, on one kernel thread, for all of them."""

    __slots__ = (
        "_awaited_count", "_careful", "_choose", "_cycle", "_every_step", "_ids", "_outer", "_overdue", "_parents",
        "_spinning", "_spun_seconds", "abandoned", "alive", "changes", "early", "failure", "fairness_used", "max_steps",
        "observer", "on_failure", "preemptions", "stopping", "strategy", "trace",
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
        self.fairness_used = False
        # How many threads would not end when they were unwound.
        self.abandoned = 0
        # (parent's id, how many children it had before) to the id of a thread. Lives as long as the exploration, so
        # that a thread has one id whatever the order in which threads are started.
        self._ids: dict[tuple[int, int], int] = {}
        self._parents: list[tuple[int, int]] = [(0, 0)]
        self._reset()

    def _reset(self) -> None:
        # Every thread that was started and has not ended, in the order of their start.
        self.alive: list[ControlledTask] = []
        # The steps so far: who took each, and to do what; and which of them are preemptions.
        self.trace: list[tuple[int, str]] = []
        self.preemptions: list[int] = []
        self.failure: Failure | None = None
        self.stopping = False
        # How often anybody has done anything but look.
        self.changes = 0
        self._cycle: tuple[ControlledTask, ...] = ()
        self._spinning = False
        self._spun_seconds = 0.001
        # Waits that were due together and may end at any moment: who, and the timer. Stale if it is no longer that.
        self._overdue: list[tuple[ControlledTask, int | None]] = []
        # How many of the threads alive are no daemons. (The main one comes first.)
        self._awaited_count = 1
        # Whether a decision takes more than to look who could go on.
        self._be_careful()
        self._every_step = self.strategy.wants_every_step
        self._choose = self.strategy.choose
        self.clock = VirtualClock(1_000_000.0)
        self.timers.clear()
        self.tasks.clear()
        self._calls.clear()
        if self._at_end:
            self._at_end.clear()
        self.to_start = None
        self._closed = False

    # ---- The executions ----------------------------------------------------------------------------------------------

    def __enter__(self) -> ControlledScheduler:
        self._outer = self._enter()
        self._root.switch = self._root.continuation.switch
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
        try:
            self._drive()
            self.strategy.end(self.trace, [t for t in self.alive if t.continuation is not None])
            if self.failure is not None:
                self.on_failure(self.failure)
        finally:
            self._unwind_all()
        return self.failure

    def _drive(self) -> None:
        """Let the threads run until it is the root's turn for good."""
        root = self._root
        while True:
            task: Any = self.to_start
            if task is None:
                task = self._next(None)
                if task is root:
                    return
                task.switch()
            else:
                self.to_start = None
                continuation = Continuation(self, root.continuation)
                continuation.task = task
                del task
                continuation.switch()

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
        if not task.daemon:
            self._awaited_count += 1
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
        me.op = op
        me.obj = obj
        me.footprint = footprint
        me.is_ready = True
        me.waits = blocked is not None and deadline != AT_ONCE
        if deadline is not None:
            return self._timed_step(me, blocked, deadline)
        if blocked is not None:
            me.blocked = blocked
            if blocked():
                self.check_for_cycle(me)
        question = self._note_question(me) if op in READS else None
        following = self._next(me)
        if following is not me:
            following.switch()
        elif me.pending is not None:
            me.raise_if_interrupted()
        # It is our turn.
        me.blocked = None
        if question is None:
            self.changes += 1
        else:
            self._note_answer(me, question)
            if me.pending is not None and op == "yield":
                me._raise_pending()
        return True

    def _timed_step(self, me: ControlledTask, blocked: Callable[[], object] | None, deadline: float) -> bool:
        """The rest of a step that ends at `deadline`."""
        question = None
        if deadline > self.clock.now():
            me.blocked = blocked
            me.deadline = deadline
            me.timer = self.timers.add(deadline, me)
            if self.early:
                self.note_patience(me, me.obj)
        elif blocked is not None and blocked():
            question = self._note_question(me)  # It won't wait, and so it is not blocked.
        following = self._next(me)
        if following is not me:
            following.switch()
        elif me.pending is not None:
            me.raise_if_interrupted()
        me.blocked = None
        timer, me.timer = me.timer, None
        if timer is None:
            in_time = blocked is None or not blocked()
        else:
            self.timers.cancel(timer)
            in_time, me.timed_out = not me.timed_out, False
        if in_time or question is None:
            self.changes += 1
        else:
            self._note_answer(me, question)
        return in_time

    def access(self, obj: object, footprint: Footprint) -> None:
        """See `control.access`."""
        self.step("write" if any(writes for _part, writes in footprint) else "read", obj, None, None, footprint)

    def give_way(self, me: ControlledTask) -> None:
        """Let another thread run: the calling one is parked, and goes on once it was unparked and is chosen."""
        me.op = "resume"
        me.obj = me.wait
        following = self._next(me)
        if following is not me:
            following.switch()
        elif me.pending is not None:
            me.raise_if_interrupted()

    def _note_question(self, me: ControlledTask) -> Question:
        """What is it about to ask? If in vain, it will have to wait until somebody does something."""
        question = ask(me.asked, me.op, me.obj, None, sys._getframe(2))
        if question.is_again and question.when == self.changes:
            me.spun = self.changes
            self._spinning = self._careful = True
        return question

    def _note_answer(self, me: ControlledTask, question: Question) -> None:
        if not question.is_again:
            self.changes += 1
        question.when = self.changes
        me.asked[question.key] = question

    def note_patience(self, me: ControlledTask, obj: object) -> None:
        """A timed wait begins that may end early. In a loop, that often only if the others run as well."""
        me.patience = ask(me.asked, "timeout", obj, me.op, sys._getframe(2))

    # ---- A decision --------------------------------------------------------------------------------------------------

    def _next(self, me: ControlledTask | None) -> Any:
        """Whose turn it is: a thread, or the root when the execution is over. `me` is who gives way."""
        if self.stopping:
            return self._root
        choices: list[Any] = [t for t in self.alive if t.is_ready and (t.blocked is None or not t.blocked())]
        if self._careful or not choices:
            choices = self._choices_with_care(choices)
            if not choices:
                return self._stop()
        if len(choices) == 1 and not self._every_step:
            chosen = choices[0]
        else:
            running = me if me in choices else None
            try:
                chosen = self._choose(choices, running)
            except ReplayDivergence as error:
                self.fail("divergence", error, None)
                return self._root
            except Abandon:
                self.stopping = True
                return self._root
            if chosen is not running and running is not None and running.op != "yield":
                self.preemptions.append(len(self.trace))
        trace = self.trace
        trace.append((chosen.id, chosen.op))
        if self._careful:
            chosen = self._chosen_with_care(chosen)
        if len(trace) > self.max_steps:
            self._run_away(chosen)
            return self._root
        chosen.is_ready = False
        return chosen

    def _choices_with_care(self, choices: list[Any]) -> list[Any]:
        """`choices`, less those that spin and with waits that may end early; time passes if there are none."""
        while True:
            if self._spinning and choices:
                choices = self._fair(choices)
            if self.early or self._overdue:
                choices += self._waits_that_may_end(choices)
                choices.sort(key=_by_id)
            if choices or not self._let_time_pass():
                return choices
            choices = [t for t in self.alive if t.is_ready and (t.blocked is None or not t.blocked())]

    def _chosen_with_care(self, chosen: Any) -> ControlledTask:
        op = chosen.op
        task = self._end_wait(chosen.task) if type(chosen) is _EndOfWait else chosen
        task.last = len(self.trace)
        if self.observer is not None:
            self._observe(task, op)
        return task

    def _run_away(self, chosen: ControlledTask) -> None:
        """Too many steps. While threads ran on and on, some may have waited for one another all the time."""
        if self._is_stuck():
            self.fail("deadlock", None, None, *self._cycle)
        else:
            self.fail("livelock", None, chosen)

    def _be_careful(self) -> None:
        self._careful = self.early or self._spinning or bool(self._overdue) or self.observer is not None

    def _fair(self, choices: list[Any]) -> list[Any]:
        changes = self.changes
        others = [t for t in choices if t.spun != changes]
        if len(others) == len(choices):
            self._spinning = False
            self._be_careful()
            return choices
        self.fairness_used = True
        if others or self._waits_that_may_end(choices):
            return others
        # All of them spin: time passes, and they take turns.
        if self._let_time_pass():
            return []  # Look again.
        if any(t.op == "clock" for t in choices):
            self.clock.advance(self._spun_seconds)
            self._spun_seconds = min(2 * self._spun_seconds, _LONGEST_SPIN)
        last = {number: at for at, (number, _op) in enumerate(self.trace)}
        return [min(choices, key=lambda t: last.get(t.id, -1))]

    def _let_time_pass(self) -> bool:
        """Jump to the next deadline and let it fire; False if there is none."""
        deadline = self.timers.next_deadline()
        if deadline is None:
            return False
        now = self.clock.now()
        if deadline > now:
            self.clock.advance(deadline - now)
        due: list[Any] = self.timers.take_due(max(deadline, now))
        for who in due:
            # Nothing but time could help a sleeper, and nobody else one who is alone.
            if len(due) == 1 or self.early or type(who) is not ControlledTask or who.blocked is _always:
                who.expire()
            else:
                self._overdue.append((who, who.timer))
                self._careful = True
        self.changes += 1
        self.strategy.time_passes()
        return True

    def _waits_that_may_end(self, others: list[Any]) -> list[_EndOfWait]:
        """The timed waits that may end in vain. `others` are the threads that could go on by themselves."""
        if not self.early:
            self._overdue = [(t, timer) for t, timer in self._overdue if t.timer == timer]
            self._be_careful()
            return [_EndOfWait("expire", t) for t, _timer in self._overdue if self._waits(t)]
        waiting = [t for t in self.alive if t.timer is not None and self._waits(t)]
        # As with polling, a loop of early ends must not keep others from running: in the next round, all of them
        # must have had a turn. Who had none for longest is never left out.
        longest = min((t.last for t in (*others, *waiting)), default=0)
        found = []
        for task in waiting:
            patience = task.patience
            if patience is None or not patience.is_again or patience.when <= longest:
                found.append(_EndOfWait("timeout", task))
            else:
                self.fairness_used = True
        return found

    def _waits(self, task: ControlledTask) -> bool:
        if task.blocked is None:
            return task.wait is not None and not task.is_ready
        return bool(task.blocked())

    def _end_wait(self, task: ControlledTask) -> ControlledTask:
        """Its timed wait ends now. If that is early, time jumps; waits of others that would be due by then go on."""
        if task.timer is None:
            raise SchedulerBug(f"{task!r} ends a wait early that has no deadline")
        if task.deadline > self.clock.now():
            self.clock.advance(task.deadline - self.clock.now())
        self.timers.cancel(task.timer)
        task.expire()
        patience = task.patience
        if patience is not None:
            patience.when = len(self.trace)
            task.asked[patience.key] = patience
        return task

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

    def failed(self, task: UserTask) -> None:
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
        return self._root

    def ended(self, task: ControlledTask) -> None:
        """A thread is done."""
        self.alive.remove(task)
        self.changes += 1
        if not task.daemon:
            self._awaited_count -= 1
            if not self._awaited_count:
                # Daemons are cut off, wherever they are; but if all of them wait for one another, none was to go on.
                if self._is_stuck() and len(self._cycle) == len(self.alive):
                    self.fail("deadlock", None, None, *self._cycle)
                self.stopping = True

    def check_for_cycle(self, me: ControlledTask) -> None:
        """Do threads wait for one another in a ring, with `me` among them? Then others may run on, but they won't."""
        if not any(t is not me and (t.blocked is not None or t.wait is not None) for t in self.alive):
            return  # The common case, cheaply: nobody else waits.
        cycle = [me]
        task: Any = me
        while True:
            obj = task.obj if task.wait is None else task.wait
            waiting_for = getattr(obj, "waiting_for", None)
            if waiting_for is None or task.timer is not None:
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
            self.abandoned += 1
            fork.vanished.append(current())
            self._root.continuation.switch()
        raise TaskExit

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
        self.to_start = None


def _always() -> bool:
    return True


def _ignore(failure: Failure) -> None:
    pass


def _by_id(choice: Choice) -> int:
    return choice.id
