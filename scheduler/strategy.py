"""A strategy: which thread takes the next step, wherever more than one could.

A strategy sees threads that could run and what each is about to do; it knows nothing of the scheduler, of continuations
or of primitives. It is asked at *choice points* only, where there is more than one choice. One object serves a whole
exploration: `begin` and `end` enclose each execution, so that it can learn from one for the next.

Everything random comes from a generator that is seeded with what the strategy was given, so an exploration with the
same seed is the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.control import Footprint

__all__ = ["READS", "Abandon", "Choice", "Sampler", "Strategy"]


class Abandon(Exception):
    """Raised by a strategy in `choose`: this execution is known already, end it. It counts as no failure."""


# Operations that change nothing that another thread could notice.
_QUESTIONS = (
    "broken", "clock", "enumerate", "is_alive", "is_set", "is_started", "locked", "n_waiting", "poll", "qsize",
)  # fmt: skip
READS = frozenset((*_QUESTIONS, "read", "sleep", "yield"))


class Choice(Protocol):
    """A thread that could take the next step."""

    @property
    def id(self) -> int:
        """Which thread: 0 is the main one. The same number for the same thread in every execution."""

    @property
    def op(self) -> str:
        """What it would do: "acquire", "put", "begin", …; "timeout" for a timed wait that would end early."""

    @property
    def obj(self) -> object:
        """What it would do it to, or None."""

    @property
    def footprint(self) -> Footprint | None:
        """The parts of `obj` that it would read and write, where it is an access to memory."""

    @property
    def beside(self) -> tuple[tuple[object, Footprint], ...]:
        """What it would access in the same step beside `obj`; looked at only where there is a footprint."""

    @property
    def within(self) -> Sequence[object]:
        """The generators that it is inside of."""

    @property
    def daemon(self) -> bool:
        """Whether it is a daemon: it takes no step after the last of the others has ended."""

    @property
    def is_last(self) -> bool:
        """Whether it is the only one left that is no daemon."""

    @property
    def guarded(self) -> bool:
        """Whether there are states in which the thread could not take this step, nor end it early."""


class Strategy:
    """Chooses among threads. This one: the one that is running goes on while it can, else the first."""

    name = "strategy"

    # Whether every execution that there is has been seen, once `begin` has returned False.
    exhausted = False
    # Whether all that it is to see has been seen then: everything, or everything within its bound.
    complete = False
    # Whether `choose` is asked at every step, also where there is a single choice; and whether that holds for the steps
    # that the main thread takes before it has started another one, too.
    wants_every_step = False
    wants_prelude = True
    # Whether executions note which memory threads share; and whether steps on what is known to be private are no choice
    # points, in the next one. See sharing.py.
    learns = False
    skips_private = False

    def begin(self) -> bool:
        """Prepare for the next execution. False if there is none left to try."""
        return True

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """Say who takes the next step: one of `choices`, of which there are at least two, in the order of their ids.

        `running` is the thread that took the last one, if it could go on (then it is among the choices). To choose
        another is a preemption, unless the running one is about to yield.
        """
        return choices[0] if running is None else running

    def time_passes(self) -> None:
        """No thread could go on, so time has moved on to the next deadline. Whatever comes now comes after it."""

    def leaves_out(self) -> None:
        """A thread that could go on is not among the choices, for it polls in vain: see patience.py."""

    def end(self, trace: Sequence[tuple[int, str]], waiting: Sequence[Choice]) -> None:
        """The execution that `begin` began has ended.

        `trace` has all its steps: who took it, and to do what; `waiting` the threads that were left in the middle of
        something, and what they waited to do.
        """

    def coverage(self) -> str:
        """What the executions so far have covered: the middle of a sentence, true to the letter."""
        return f"the schedules that {self.name} chose"



class Sampler(Strategy):
    """A strategy that draws each execution anew, and leaves out steps that nobody but their thread could notice.

    Not in each execution: what is shared after rare schedules only must be found out.
    """

    learns = True
    # How many executions there were; and one in so many has each access to memory for a choice point.
    executions = 0
    every_point_in = 8

    def begin(self) -> bool:
        """See `Strategy`."""
        self.executions += 1
        self.skips_private = self.executions % self.every_point_in != 0
        return True
