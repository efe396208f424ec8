"""A thread under control: what it is about to do, whether it could, and how it waits.

The controlled scheduler (controlled.py) asks each thread at each choice point whether it could go on; here is what it
asks. A thread waits in one of two ways. At a *step* it stands before an operation, `blocked` says whether that would
have to wait, and nobody need wake it. *Parked*, by the ordinary protocol, it is out of the reckoning until somebody
unparks it; a step that is over then follows, called "resume".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from scheduler.controlled_end import refuse
from scheduler.errors import TaskExit
from scheduler.task import GONE, UserTask, Waitable, Waiters

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from scheduler.control import Footprint
    from scheduler.controlled import ControlledScheduler
    from scheduler.polling import Question, Round

__all__ = ["ControlledTask", "EndOfWait", "Failure", "always"]


def always() -> bool:
    """The `blocked` of who sleeps: nothing but time ends it."""
    return True


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
        "asked", "assumed", "beside", "blocked", "children", "deadline", "footprint", "id", "is_ready", "last",
        "looks", "obj", "op", "patience", "refusals", "rounds", "spun", "waits", "within",
    )  # fmt: skip

    scheduler: ControlledScheduler

    def __init__(self, scheduler: ControlledScheduler, fn: Callable[[], object], thread: Any, daemon: bool) -> None:
        UserTask.__init__(self, scheduler, fn, thread, daemon)
        self.ready = None  # type: ignore[assignment]
        # Which thread it is, the same in every execution; see `ControlledScheduler.add`.
        self.id = 0
        # What it is about to do, and why it can't (None: it can).
        self.op = "begin"
        self.obj: object = None
        self.footprint: Footprint | None = None
        # What it touches beside `obj`, if it is an access to several objects at once.
        self.beside: tuple[tuple[object, Footprint], ...] = ()
        # Generators that it is inside of, as of its last step; see `strategy.Choice`.
        self.within: Sequence[Any] = ()
        self.blocked: Callable[[], object] | None = None
        # Invariant: true iff it has an operation pending. False while it runs, and while it is parked.
        self.is_ready = False
        # Whether it is an operation that may have to wait, as this one does or did.
        self.waits = False
        self.children = 0
        # Whether its last step was only to look at something.
        self.looks = False
        # Its last question at each place, and the last round of each loop, see polling.py. Whether it is only taken to
        # poll in vain, and the moment at which it was seen to: of `changes` then, else of `deeds`.
        self.asked: dict[Any, Question] = {}
        self.rounds: dict[tuple[int, str], Round] = {}
        self.spun = -1
        self.assumed = False
        # Of a timed wait: until when.
        self.deadline = 0.0
        # Where waits may end early: the question whether this one has already, and when it took its last step.
        self.patience: Question | None = None
        self.last = 0
        self.refusals = 0

    def finish(self) -> None:
        """See `UserTask.finish`."""
        scheduler = self.scheduler
        # The execution may be torn down at any of these steps; what is thrown then has nobody above us to catch it.
        try:
            if self is scheduler.main and scheduler._at_end:
                scheduler.make_last_calls()
            if self.exception is None:
                scheduler.step("end", self if self.thread is None else self.thread)
        except TaskExit:
            pass
        UserTask.finish(self)
        scheduler.ended(self)

    @property
    def ident(self) -> int | None:
        """See `Task.ident`: small numbers, the same in each execution."""
        return self.scheduler.host.ident if self.id == 0 else self.id

    @property
    def is_last(self) -> bool:
        """See `strategy.Choice`."""
        return not self.daemon and self.scheduler.awaited_count == 1

    def look_within(self) -> None:
        """Find out which generators it is still inside of. Only while it runs: nobody else has entered them since."""
        self.within = [each for each in self.within if each.gi_running]

    @property
    def guarded(self) -> bool:
        """See `strategy.Choice`."""
        return self.waits and not (self.scheduler.early and self.timer is not None)

    @property
    def spins(self) -> bool:
        """Whether it would go round in vain, for nobody has done anything since it did."""
        return self.looks and self.spun == (self.scheduler.changes if self.assumed else self.scheduler.deeds)

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
        self.scheduler.step("sleep", None, always, self.scheduler.clock.now() + seconds)

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
            refuse(self)
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
            scheduler.patience.waits(self, reason)
        self.looks = False
        scheduler.changes += 1
        scheduler.deeds += 1
        scheduler.cycles.look(self)
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
        """See `Task.interrupt`. A step of the calling thread, if it is under control."""
        self.scheduler.step("interrupt", self)
        self.interrupt_now(exc)

    def interrupt_now(self, exc: BaseException, replace: bool = False) -> None:
        """See `UserTask.interrupt_now`. Raised where the thread is blocked or yields, not at just any operation."""
        if self.done or (self.pending is not None and not replace):
            return
        self.pending = exc
        self.scheduler.changes += 1
        self.scheduler.deeds += 1
        if self.continuation is None:
            return  # NEW: raised by `run` in place of the first line
        if self.wait is not None:
            if self._claim():
                self.is_ready = True
                self.switch = self._throw_pending
        elif self.blocked is not None:
            # If it is not blocked now, it may yet be when its turn comes: `step` looks then.
            if self.blocked():
                self.switch = self._throw_pending
            self.blocked = None
            if self.timer is not None:
                self.scheduler.timers.cancel(self.timer)
                self.timer = None

    def raise_if_interrupted(self) -> None:
        """Raise what it was interrupted with while it was blocked: it goes on by itself, and nobody switches to it."""
        if self.switch == self._throw_pending:
            self.wait = self.timer = None
            self._raise_pending()


class EndOfWait:
    """The choice that a timed wait ends in vain: "timeout", before its time, or "expire", when it is due."""

    beside: tuple[tuple[object, Footprint], ...] = ()
    is_last = False

    __slots__ = ("daemon", "footprint", "guarded", "id", "obj", "op", "task", "who")

    def __init__(self, op: str, task: ControlledTask, who: Any = None) -> None:
        self.task = task
        # Whose time is up: the thread's own, or a limit's that interrupts it.
        self.who = task if who is None else who
        self.id = task.id
        self.daemon = task.daemon
        self.op = op
        self.obj = task.obj
        self.footprint: Footprint | None = None
        self.guarded = False

    @property
    def within(self) -> Sequence[object]:
        """See `strategy.Choice`."""
        return self.task.within
