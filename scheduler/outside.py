"""Descriptors under a controlled scheduler: input and output are steps, and the world outside has its time.

A thread under control that receives, sends or polls takes a step for it, like one at a lock, and its turn comes when
the descriptor is ready. Between threads of one test (a socket pair, a pipe, a server and its client) that is all: what
one sends, the other finds there at once.

What comes from other processes comes when it comes. So when no thread could go on, and some wait for descriptors, the
scheduler waits for these in real time before it lets virtual time pass, or calls it a deadlock. How long? Nobody can
tell whether the other end of a descriptor is in this process or not. Patience is long at first and halves each time
that nothing came; as soon as something did, it is long again. A test whose threads talk to one another alone soon loses
next to nothing by it, and one that talks to a server waits as long as it takes. While there are child processes that
the test has started, to whom its threads may be listening, it stays long. Those that were there before (a server of a
fixture, what `multiprocessing` keeps running) are servers like any other.

All descriptors count as one object: which ends belong together can't be seen, so each operation is taken to depend on
each other. That costs schedules, and hides none.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from scheduler import control
from scheduler.poller import READ, WRITE, any_ready, is_ready
from scheduler.task import Task, Wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["DESCRIPTORS", "OPERATIONS", "Outside", "Unready", "announce", "starts_process"]

# Seconds of real time.
_LONG: Final = 0.5
_SHORT: Final = 0.001
_WITH_CHILDREN: Final = 10.0
_LOOK: Final = 0.1

# The operation that waits for READ or for WRITE.
OPERATIONS: Final = {READ: "receive", WRITE: "send"}
_sleep = time.sleep
_waitid: Any = getattr(os, "waitid", None)
_TASKS: Final = Path("/proc/self/task")


class _Descriptors:
    """All of them, as the object of a step."""

    def waiting_for(self, task: Task) -> Wait:
        """See `Waitable`."""
        return Wait("a descriptor")

    def __repr__(self) -> str:
        return "descriptors"


DESCRIPTORS: Final = _Descriptors()


class Unready:
    """Whether a descriptor is not ready: a call that needs it would wait. `fileno` says -1 once it is closed."""

    __slots__ = ("_events", "_fileno")

    def __init__(self, fileno: Callable[[], int], events: int) -> None:
        self._fileno = fileno
        self._events = events

    def __call__(self) -> bool:
        try:
            return self._fileno() >= 0 and not is_ready(*self.wanted())
        except OSError:
            return False  # It is closed, and the call will say so.

    def wanted(self) -> tuple[int, int]:
        """The number of the descriptor, and READ or WRITE."""
        return self._fileno(), self._events


def announce(op: str) -> None:
    """Take a step for an operation on a descriptor that does not wait. At once for a thread out of control."""
    if control.active is not None:
        control.active.step(op, DESCRIPTORS)


def starts_process() -> None:
    """A thread starts another process. If it is under control: a step, and the first of what nobody explores."""
    if control.active is not None and control.active.controls():
        announce("spawn")
        control.active.outside.took_part = True


class Outside:
    """The world outside, for all the executions of one scheduler."""

    __slots__ = ("_before", "_seconds", "took_part", "waiting")

    def __init__(self) -> None:
        self._seconds = _LONG
        # The child processes that were there before.
        self._before = _children()
        # Whether other processes have had a part in it: when they do what, nobody decides.
        self.took_part = False
        # Whether somebody waits in real time just now, which is no standstill.
        self.waiting = False

    def wait(self, blocked: Iterable[object]) -> bool:
        """Block until one of the descriptors is ready that threads are blocked for; False if none is, after a while.

        Nothing is missed between the look and the wait: no thread of ours runs meanwhile, and readiness is a state.
        """
        waits = [each for each in blocked if type(each) is Unready and each()]
        if not waits:
            return False
        self.waiting = True
        try:
            came = any_ready([each.wanted() for each in waits], self._patience())
        finally:
            self.waiting = False
        if came:
            self.took_part = True
            self._seconds = _LONG
        else:
            self._seconds = max(self._seconds / 2, _SHORT)
        return came

    def give_time(self, seconds: float) -> None:
        """Virtual time is about to pass; child processes, to whom threads may look now and then, get some real time."""
        if self.took_part and self._has_children():
            self.waiting = True
            try:
                _sleep(min(seconds, _LOOK))
            finally:
                self.waiting = False

    def _patience(self) -> float:
        return _WITH_CHILDREN if self._has_children() else self._seconds

    def _has_children(self) -> bool:
        """Whether there are child processes that were not there before. Where nobody tells who they are, all count."""
        return _any_children() and not (self._before and _children() <= self._before)


def _children() -> frozenset[str]:
    """The numbers of our child processes; none where the system does not list them."""
    found: list[str] = []
    for listed in _TASKS.glob("*/children"):
        with contextlib.suppress(OSError):  # That thread has ended.
            found += listed.read_text().split()
    return frozenset(found)


def _any_children() -> bool:
    if _waitid is None:
        return False
    try:
        _waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
