"""How time passes under control, and who is left out: the part of a decision that is more than to look who can go on.

**Time** stands still while any thread can run, and jumps to the next deadline when none can. With `early` a timed wait
may also end before: that is one more choice, at every choice point.

Several waits may be due at once. Who sleeps then goes on; who waits for others may yet get what it waits for, from
those who are due as well, and may end its wait in vain at any moment from then on. So it is for a time limit that
interrupts whatever its thread waits for: it may do so from then on, until the thread has left the block that it is for.

**Fairness.** A thread that asks the same question again while nothing has been done would get the same answer: it polls
in vain, see polling.py. It is left out until another thread has done something; where all do that, time passes, and
they take turns. That keeps a loop that polls from hanging a depth-first search. `was_used` says that it happened, and
`has_assumed` that somebody was left out who may not have polled at all: who asks for the tenth time may give up then.

In a loop of timed waits that end early, too, all others must have had a turn before the next one may. (That is such
an assumption.)
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from scheduler.controlled_task import ControlledTask, EndOfWait, always
from scheduler.errors import SchedulerBug
from scheduler.polling import Round, ask, state_of_round

if TYPE_CHECKING:
    from types import FrameType

    from scheduler.control import Footprint
    from scheduler.controlled import ControlledScheduler
    from scheduler.polling import Question
    from scheduler.strategy import Choice

__all__ = ["Patience"]

# The most that time passes at once, in seconds, while threads do nothing but look at the clock.
_LONGEST_SPIN = 3600.0


class Patience:
    """Time, and fairness, of one scheduler; `begin` before each execution."""

    __slots__ = (
        "_overdue", "_scheduler", "_spinning", "_spun_seconds", "early", "has_assumed", "has_passed_over", "jumps",
        "was_used",
    )  # fmt: skip

    def __init__(self, scheduler: ControlledScheduler, early: bool) -> None:
        self._scheduler = scheduler
        # Whether timed waits may end before their time.
        self.early = early
        self.was_used = False
        self.has_assumed = False
        # Whether a thread's own wait and its limit were due together. A thread has one way to go on, in each state: the
        # one that was set first ends the wait.
        self.has_passed_over = False
        self.begin()

    def begin(self) -> None:
        """Nobody spins, nothing is due."""
        self._spinning = False
        self._spun_seconds = 0.001
        # How often time has passed.
        self.jumps = 0
        # Waits that were due together and may end at any moment: whose, what ends them, and the thread's timer if it is
        # the thread itself. Stale if it is no longer that.
        self._overdue: list[tuple[ControlledTask, Any, int | None]] = []

    def is_needed(self) -> bool:
        """Whether a decision takes more than to look who could go on."""
        return self.early or self._spinning or bool(self._overdue)

    # ---- Who could go on ---------------------------------------------------------------------------------------------

    def choices(self, able: list[Any]) -> list[Any]:
        """Those who are `able` to go on, less who spins and with waits that may end; time passes if there are none."""
        scheduler = self._scheduler
        while True:
            if self._spinning and able:
                able = self._fair(able)
            if self.early or self._overdue:
                able += self._waits_that_may_end(able)
                able.sort(key=_by_id)
            if able or not (scheduler.wait_outside() or self._let_time_pass()):
                return able
            able = [t for t in scheduler.alive if t.is_ready and (t.blocked is None or not t.blocked())]

    def _fair(self, choices: list[Any]) -> list[Any]:
        scheduler = self._scheduler
        others = [t for t in choices if not t.spins]
        if len(others) == len(choices):
            self._spinning = False
            scheduler.look_for_care()
            return choices
        self._leave_out(any(t.assumed for t in choices if t.spins))
        if others or self._waits_that_may_end(choices):
            return others
        # All of them spin: time passes (the caller sees to that, and looks who could go on then), and they take turns.
        if scheduler.timers.next_deadline() is not None:
            return []
        if any(t.op == "clock" for t in choices):
            scheduler.clock.advance(self._spun_seconds)
            scheduler.deeds += 1
            self._spun_seconds = min(2 * self._spun_seconds, _LONGEST_SPIN)
        return [min(choices, key=_last)]

    def _leave_out(self, assumed: bool) -> None:
        self.was_used = True
        self.has_assumed = self.has_assumed or assumed
        self._scheduler.strategy.leaves_out()

    # ---- Who polls ---------------------------------------------------------------------------------------------------

    def question(self, me: ControlledTask, op: str, obj: object, footprint: Footprint | None) -> Question:
        """What `me` is about to ask. If in vain, it will have to wait until somebody does something.

        Its last step must have been to look at something, too, and still be on record.
        """
        may_poll = me.obj is obj and me.footprint is footprint and me.op == op
        question = ask(me.asked, op, obj, None, sys._getframe(2), may_poll)
        scheduler = self._scheduler
        if not question.is_again:
            if me.assumed:
                me.spun = -1  # It asks something else.
        elif question.when == scheduler.changes and not me.spins:
            # The next round of a loop may show it, and then it is no assumption.
            if not any(last.deeds == scheduler.deeds and last.may_show() for last in me.rounds.values()):
                self._spins(me, assumed=True)
        return question

    def _spins(self, me: ControlledTask, assumed: bool) -> None:
        me.spun = self._scheduler.changes if assumed else self._scheduler.deeds
        me.assumed = assumed
        self._spinning = self._scheduler.careful = True

    def next_round(self, me: ControlledTask, loop: str, frame: FrameType) -> None:
        """A round of a loop begins. If it will be as the last one was, `me` will have to wait for others."""
        scheduler = self._scheduler
        key = (id(frame.f_code), loop)
        last = me.rounds.get(key)
        steps = len(scheduler.trace)
        if last is None or last.frame != id(frame) or last.deeds != scheduler.deeds:
            # It may poll as before.
            again = last is not None and last.frame == id(frame) and last.variables is not None
            me.rounds[key] = Round(id(frame), scheduler.deeds, steps, state_of_round(frame) if again else None)
        elif last.steps != steps:
            before, last.variables, last.steps = last.variables, state_of_round(frame), steps
            if before == last.variables:
                self._spins(me, assumed=False)

    def answered(self, me: ControlledTask, question: Question) -> None:
        """It has asked."""
        scheduler = self._scheduler
        if not question.is_again:
            scheduler.changes += 1
        question.when = scheduler.changes
        me.asked[question.key] = question

    def waits(self, me: ControlledTask, obj: object) -> None:
        """A wait begins that may end early. In a loop, that often only if the others run as well."""
        me.patience = ask(me.asked, "timeout", obj, me.op, sys._getframe(2))

    # ---- Time --------------------------------------------------------------------------------------------------------

    def _let_time_pass(self) -> bool:
        """Jump to the next deadline and let it fire; False if there is none."""
        scheduler = self._scheduler
        deadline = scheduler.timers.next_deadline()
        if deadline is None:
            return False
        now = scheduler.clock.now()
        if deadline > now:
            scheduler.outside.give_time(deadline - now)
            scheduler.clock.advance(deadline - now)
        due: list[Any] = scheduler.timers.take_due(max(deadline, now))
        for who in due:
            task = _of_whom(who)
            # Nothing but time could help a sleeper, and nobody else one who is alone.
            if (
                len(due) == 1
                or self.early
                or task is None
                or (who is task and task.blocked is always)
            ):
                who.expire()
            else:
                self._overdue.append((task, who, task.timer if who is task else None))
                scheduler.careful = True
        scheduler.changes += 1
        scheduler.deeds += 1
        self.jumps += 1
        scheduler.strategy.time_passes()
        return True

    def _waits_that_may_end(self, others: list[Any]) -> list[EndOfWait]:
        """The timed waits that may end in vain. `others` are the threads that could go on by themselves."""
        scheduler = self._scheduler
        if not self.early:
            self._overdue = [
                (task, who, timer)
                for task, who, timer in self._overdue
                if (task.timer == timer if who is task else who.interrupts is task)
            ]
            scheduler.look_for_care()
            # One for each thread: that which was set first.
            ends: dict[ControlledTask, EndOfWait] = {}
            for task, who, _timer in self._overdue:
                if _waits(task) and (who is task or task.pending is None):
                    if task in ends:
                        self.has_passed_over = True
                    else:
                        ends[task] = EndOfWait("expire", task, who)
            return list(ends.values())
        # For each thread, what comes first of its own deadline and its limits: a wait within a limit that is shorter
        # ends by the limit, however late that is noticed.
        first: dict[ControlledTask, tuple[float, Any]] = {}
        for _number, who in scheduler.timers.all():
            whose = _of_whom(who)
            if whose is None or not _waits(whose) or (who is not whose and whose.pending is not None):
                continue
            task = whose
            deadline = who.deadline  # type: ignore[attr-defined]
            if task in first and first[task][0] == deadline:
                self.has_passed_over = True
            elif task not in first or deadline < first[task][0]:
                first[task] = deadline, who
        # Who had no turn for longest is never left out.
        longest = min((t.last for t in (*others, *first)), default=0)
        found = []
        for task in sorted(first, key=_by_id):
            patience = task.patience
            if patience is None or not patience.is_again or patience.when <= longest:
                found.append(EndOfWait("timeout", task, first[task][1]))
            else:
                self._leave_out(assumed=True)
        return found

    def end_wait(self, end: EndOfWait) -> ControlledTask:
        """A wait ends now. If that is early, time jumps; waits of others that would be due by then go on."""
        scheduler = self._scheduler
        scheduler.deeds += 1
        task = end.task
        if end.who.deadline > scheduler.clock.now():
            scheduler.clock.advance(end.who.deadline - scheduler.clock.now())
        if end.who is not task:
            self._overdue = [each for each in self._overdue if each[1] is not end.who]
        elif task.timer is None:
            raise SchedulerBug(f"{task!r} ends a wait early that has no deadline")
        else:
            scheduler.timers.cancel(task.timer)
        end.who.expire()
        patience = task.patience
        if patience is not None:
            patience.when = len(scheduler.trace)
            task.asked[patience.key] = patience
        return task


def _of_whom(who: Any) -> ControlledTask | None:
    """Whose time is up when `who` expires: a thread that waits, or one that a limit interrupts."""
    task = who if type(who) is ControlledTask else getattr(who, "interrupts", None)
    return task if type(task) is ControlledTask else None


def _waits(task: ControlledTask) -> bool:
    if task.blocked is None:
        return task.wait is not None and not task.is_ready
    return bool(task.blocked())


def _by_id(choice: Choice) -> int:
    return choice.id


def _last(task: ControlledTask) -> int:
    return task.last
