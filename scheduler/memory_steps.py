"""Steps of memory: what instrumented code announces, and what else it says of itself. The seams of control.py.

There are more of these than of any other step, so `access` is `ControlledScheduler.step` written out for them.

**Skipped.** A strategy that learns from its executions knows places where threads touch only what is theirs
(sharing.py). A step there is taken, and is part of the trace, but is no choice point.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from scheduler.continuation import current
from scheduler.controlled_end import step_of_unwound
from scheduler.controlled_task import ControlledTask
from scheduler.frames import of_the_program
from scheduler.sharing import Sharing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.control import Footprint
    from scheduler.controlled import ControlledScheduler

__all__ = ["MemorySteps"]


class MemorySteps:
    """The steps of memory under one scheduler; `begin` before each execution, `end` after it."""

    __slots__ = ("_learns", "_scheduler", "_sharing", "_skips")

    def __init__(self, scheduler: ControlledScheduler) -> None:
        self._scheduler = scheduler
        # What threads have shared, as far as strategies that learn have seen.
        self._sharing = Sharing()
        self.begin()

    def begin(self) -> None:
        """An execution begins."""
        self._sharing.begin()
        strategy = self._scheduler.strategy
        self._learns, self._skips = strategy.learns, strategy.skips_private

    def end(self) -> None:
        """The execution has ended."""
        if self._learns:
            self._sharing.end()

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
        scheduler = self._scheduler
        alive = scheduler.alive
        alone = len(alive) == 1
        if alone and alive[0] is me and not (scheduler.careful or scheduler.every_step or scheduler.stopping):
            # While a program sets up, nobody is there who could come in between: noted, and no more.
            trace = scheduler.trace
            if len(trace) < scheduler.max_steps:
                trace.append((me.id, op))
                return
        # Who is ready, or done, while it runs, runs a strategy of the program's, which is none of its own steps.
        if type(me) is not ControlledTask or me.is_ready or me.done:
            return
        if scheduler.stopping:
            step_of_unwound(me, None, None)
            return
        question = None
        if op == "read":
            if me.looks and not alone:
                question = scheduler.patience.question(me, op, obj, footprint)
            me.looks = True
        else:
            me.looks = False
        me.op = op
        me.obj = obj
        me.footprint = footprint
        me.waits = False
        if alone or not self._learns or not self._is_nobody_elses(me):
            me.is_ready = True
            following = scheduler.next_turn(me)
            if following is not me:
                following.switch()
            elif me.pending is not None:
                me.raise_if_interrupted()
        if question is None:
            scheduler.changes += 1
            if not me.looks:
                scheduler.deeds += 1
        else:
            scheduler.patience.answered(me, question)

    def _is_nobody_elses(self, me: ControlledTask) -> bool:
        """Whether a step of memory is no choice point, since nobody could notice it; then it is taken.

        As if the strategy had let `me` go on. So who follows the trace does the same, whatever he has learned. A thread
        that polls in vain is not let on, by whatever strategy, and may wait for what others are yet to write.
        """
        assert me.footprint is not None
        is_private = self._sharing.note(me.id, ((me.obj, me.footprint), *me.beside), sys._getframe(2))
        scheduler = self._scheduler
        trace = scheduler.trace
        if not (is_private and self._skips) or me.spins or len(trace) >= scheduler.max_steps:
            return False
        trace.append((me.id, me.op))
        if scheduler.careful:
            me.last = len(trace)
            if scheduler.observer is not None:
                scheduler.observe(me, me.op)
        return True

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
        scheduler = self._scheduler
        if len(scheduler.alive) == 1 and not scheduler.careful and not scheduler.every_step:
            self.access(*first)
            return
        me.beside = tuple([pair for pair in pairs if pair is not first])
        try:
            self.access(*first)
        finally:
            me.beside = ()

    def enters(self, generators: Sequence[Any]) -> None:
        """See `control.entering`."""
        me: Any = getattr(current(), "task", None)
        if type(me) is ControlledTask and len(self._scheduler.alive) > 1:
            # One that runs already lets nobody in.
            me.within = [*me.within, *[each for each in generators if not each.gi_running]]

    def rounds(self, loop: str, begins: bool) -> None:
        """See `control.rounds`."""
        me: Any = getattr(current(), "task", None)
        if type(me) is not ControlledTask or self._scheduler.stopping or len(self._scheduler.alive) == 1:
            return
        frame = of_the_program(sys._getframe(1))
        if frame is None:
            return
        if begins:
            me.rounds.pop((id(frame.f_code), loop), None)
        else:
            self._scheduler.patience.next_round(me, loop, frame)
