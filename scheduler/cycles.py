"""Threads that wait for one another in a ring. Others may run on, but these never will: a deadlock, before all wait.

A ring is looked for where it closes, when a thread begins to wait. If only their owners release what they wait for,
that is the deadlock. A plain lock may be released by anybody, so the ring is kept in mind then, and is called a
deadlock if it is still there in the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from scheduler.controlled_task import ControlledTask

if TYPE_CHECKING:
    from scheduler.controlled import ControlledScheduler

__all__ = ["Cycles"]


class Cycles:
    """The rings of one scheduler."""

    __slots__ = ("_scheduler", "last")

    def __init__(self, scheduler: ControlledScheduler) -> None:
        self._scheduler = scheduler
        # The threads of the ring that was seen last in this execution, each waiting for the next one; () if none was.
        self.last: tuple[ControlledTask, ...] = ()

    def look(self, me: ControlledTask) -> None:
        """`me` begins to wait: has it closed a ring?"""
        task: Any
        for task in self._scheduler.alive:
            if (task.blocked is not None or task.wait is not None) and task is not me:
                break
        else:
            return  # The common case, cheaply: nobody else waits.
        cycle = [me]
        task = me
        while True:
            waiting_for = getattr(_thing(task), "waiting_for", None)
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
        self.last = tuple(cycle)
        if all(getattr(_thing(t), "only_the_owner_releases", False) for t in cycle):
            self._scheduler.fail("deadlock", None, None, *cycle)

    def _has_a_limit(self, task: ControlledTask) -> bool:
        """Whether the time may come that a thread waits no longer."""
        return task.timer is not None or any(
            getattr(who, "interrupts", None) is task for _number, who in self._scheduler.timers.all()
        )

    def is_closed(self) -> bool:
        """Whether the ring that was seen last is still one."""
        return bool(self.last) and all(t.is_held_up for t in self.last)

    def beside(self, cycle: tuple[ControlledTask, ...]) -> list[ControlledTask]:
        """Who waits as well when the threads of `cycle` wait for ever. Daemons often do, and rightly."""
        return [t for t in self._scheduler.alive if t.is_held_up and not t.daemon and t not in cycle]


def _thing(task: ControlledTask) -> object:
    """What a thread waits for: parked, or at a step."""
    return task.obj if task.wait is None else task.wait
