"""`Barrier`: threads that wait for each other.

Each meeting is a `_Round` of its own: threads that come early for the next one stand in the next round, so nobody has
to wait until the last round's threads have left, as they must where one counter serves all rounds.

A round has one verdict, passed or broken, and the first to set it wins (`dict.setdefault` is atomic): the thread that
came last, or whoever timed out, was interrupted, or called `abort` or `reset`. Nothing here holds a lock, so nothing
is half done when an interrupt comes.
"""

from __future__ import annotations

import itertools
import sys
from threading import BrokenBarrierError
from typing import TYPE_CHECKING, Any

from greenthreads._time import deadline_after
from greenthreads._unpicklable import Unpicklable
from scheduler import control
from scheduler.kernel import current_task
from scheduler.task import GONE, Wait, unpark_all

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.task import Task, Waiters

__all__ = ["Barrier", "BrokenBarrierError"]

_TOO_FEW = "parties must be >= 1" if sys.version_info >= (3, 14) else "parties must be > 0"


class _Round:
    """One meeting at a barrier."""

    __slots__ = ("_facts", "arrive", "full", "waiters", "was_reset")

    def __init__(self) -> None:
        # Each call counts one more thread in and tells it how many came before it.
        self.arrive = itertools.count().__next__
        self.waiters: Waiters = {}
        # Whether the last thread has come; from then on only that one passes the verdict.
        self.full = False
        # Whether `reset` has broken it, or was about to.
        self.was_reset = False
        # "passed": the verdict; "next": the round after this one. Each set once.
        self._facts: dict[str, Any] = {}

    @property
    def passed(self) -> bool | None:
        """The verdict: whether the threads met (False: it is broken), or None while that is open."""
        return self._facts.get("passed")

    def end(self, passed: bool) -> None:
        """Give the verdict, unless there is one, and wake all who wait for it."""
        self._facts.setdefault("passed", passed)
        unpark_all(self.waiters)

    def following(self) -> _Round:
        """The round after this one, the same whoever asks."""
        return self._facts.setdefault("next", _Round())  # type: ignore[no-any-return]


class Barrier(Unpicklable):
    """A meeting point of `parties` threads, as `threading.Barrier`, for threads of both kinds.

    `action` is called by one of them, before they are released; `timeout` is the default of `wait`.
    """

    def __init__(self, parties: int, action: Callable[[], object] | None = None, timeout: float | None = None) -> None:
        if parties < 1:
            raise ValueError(_TOO_FEW)
        self._parties = parties
        self._action = action
        self._timeout = timeout
        self._round = _Round()

    def wait(self, timeout: float | None = None) -> int:
        """Wait until all parties have come; each gets another number, 0 to `parties - 1`.

        BrokenBarrierError, for all of them, if one of them has waited `timeout` seconds, was interrupted, or failed in
        the action, and when the barrier is reset or aborted. Blocks the calling thread.
        """
        if control.active is not None:
            control.active.step("wait", self)
        if timeout is None:
            timeout = self._timeout
        deadline = None if timeout is None else deadline_after(timeout)
        while True:
            meeting = self._round
            if meeting.passed is False:
                raise BrokenBarrierError
            index = meeting.arrive()
            if index < self._parties:
                break
            # The last one has come, and is about to do this itself.
            self._round = meeting.following()
        if index == self._parties - 1:
            self._meet(meeting)
        else:
            self._wait(meeting, deadline, at_once=timeout is not None and timeout <= 0)
        return index

    def _meet(self, meeting: _Round) -> None:
        """All have come. Runs the action, if there is one, and lets them go."""
        meeting.full = True
        self._round = following = meeting.following()
        try:
            if self._action is not None:
                self._action()
        except BaseException:
            meeting.end(False)
            self._round.end(False)  # The barrier is broken, for those who came early to the next round as well.
            raise
        meeting.end(True)
        if not meeting.passed:
            if not meeting.was_reset:
                following.end(False)  # Who broke it may have come before the next round did, and not have seen it.
            raise BrokenBarrierError

    def _wait(self, meeting: _Round, deadline: float | None, at_once: bool) -> None:
        me = current_task()
        waiters = meeting.waiters
        try:
            while meeting.passed is None:
                waiters[me] = None
                # Whoever gives the verdict does so before it looks at the waiters; we stood there before we look.
                if meeting.passed is not None and waiters.pop(me, GONE) is not GONE:
                    break
                # Who has no time to wait does not let others run, either: a barrier of the standard module breaks then.
                if (at_once and not meeting.full and waiters.pop(me, GONE) is not GONE) or not me.park(
                    waiters, self, None if meeting.full else deadline
                ):
                    if not meeting.full:
                        meeting.end(False)
        except BaseException:
            if not meeting.full:
                meeting.end(False)
            raise
        if not meeting.passed:
            raise BrokenBarrierError

    def reset(self) -> None:
        """Make the barrier as new. Who waits there now gets BrokenBarrierError."""
        if control.active is not None:
            control.active.step("reset", self)
        meeting = self._round
        self._round = _Round()
        meeting.was_reset = True
        meeting.end(False)

    def abort(self) -> None:
        """Break the barrier: who waits, and who comes, gets BrokenBarrierError until it is reset."""
        if control.active is not None:
            control.active.step("abort", self)
        self._round.end(False)

    @property
    def parties(self) -> int:
        """How many threads it takes."""
        return self._parties

    @property
    def n_waiting(self) -> int:
        """How many are waiting."""
        if control.active is not None:
            control.active.step("n_waiting", self)
        return len(self._round.waiters)

    @property
    def broken(self) -> bool:
        """Whether it is broken."""
        if control.active is not None:
            control.active.step("broken", self)
        return self._round.passed is False

    def waiting_for(self, task: Task) -> Wait:
        """See `scheduler.task.Waitable`."""
        meeting = self._round
        return Wait("Barrier", wants=f"{len(meeting.waiters)} of {self._parties} have come")

    def __repr__(self) -> str:
        name = f"{type(self).__module__}.{type(self).__qualname__} at {id(self):#x}"
        if self._round.passed is False:
            return f"<{name}: broken>"
        return f"<{name}: waiters={len(self._round.waiters)}/{self.parties}>"
