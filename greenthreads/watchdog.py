"""Tells when a user thread keeps its scheduler to itself: a computation, or a call that blocks in the system.

    greenthreads.watchdog.start(0.1)      # report whoever runs for more than 0.1 s without a switch

A kernel thread looks at each scheduler a few times within the limit. It has to know whether there was a switch since it
last looked, so an observer counts switches; that makes each of them slower, and is why this is off unless started.
"""

from __future__ import annotations

import sys
import time
import traceback
from _thread import allocate_lock, get_ident, start_new_thread
from typing import TYPE_CHECKING, Any, NamedTuple

from scheduler import deadlock, fork, observers
from scheduler.continuation import Continuation
from scheduler.task import UserTask

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from scheduler.loop import Scheduler
    from scheduler.task import Task

__all__ = ["Blocked", "start", "stop"]

_sleep = time.sleep
_monotonic = time.monotonic


class Blocked(NamedTuple):
    """A thread that has run for `seconds` without a switch, and its stack, innermost call last."""

    thread: str
    seconds: float
    stack: str

    def __str__(self) -> str:
        return f"thread {self.thread!r} has kept its scheduler for {self.seconds:.3g} s without a switch\n{self.stack}"


class _Counter(observers.Observer):
    """Counts, for each kernel thread, the switches and the threads that ended."""

    def __init__(self) -> None:
        self.counts: dict[int, int] = {}

    def switched(self, origin: Continuation, target: Continuation) -> None:
        ident = get_ident()
        self.counts[ident] = self.counts.get(ident, 0) + 1

    def ended(self, task: Task) -> None:
        # The next one may run on the same continuation, without a switch.
        if isinstance(task, UserTask):
            ident = get_ident()
            self.counts[ident] = self.counts.get(ident, 0) + 1


class _Seen(NamedTuple):
    """What the watchdog saw of a scheduler: how many switches, and when it first saw that number."""

    switches: int
    since: float


class _Watchdog:
    def __init__(self, limit: float, report: Callable[[Blocked], object]) -> None:
        self.limit = limit
        self.report = report
        self.counter = _Counter()
        self.stopped = allocate_lock()
        self.stopped.acquire()
        self.seen: dict[int, _Seen] = {}
        # The count at which a thread was reported: once for each stretch.
        self.reported: dict[int, int] = {}

    def run(self) -> None:
        deadlock.idle_workers[get_ident()] = None  # It wakes nobody.
        while not self.stopped.acquire(True, self.limit / 4):
            for ident, scheduler in list(fork.running.items()):
                self.look(ident, scheduler)
        deadlock.idle_workers.pop(get_ident(), None)

    def look(self, ident: int, scheduler: Scheduler) -> None:
        count = self.counter.counts.get(ident, 0)
        now = _monotonic()
        seen = self.seen.get(ident)
        if seen is None or seen.switches != count or scheduler.asleep:
            self.seen[ident] = _Seen(count, now)
            return
        if now - seen.since < self.limit or self.reported.get(ident) == count:
            return
        frame = sys._current_frames().get(ident)
        task = _running_task(frame)
        if task is None or self.counter.counts.get(ident, 0) != count:
            return
        self.reported[ident] = count
        self.report(Blocked(task.name, now - seen.since, _stack(frame)))


def _running_task(frame: FrameType | None) -> UserTask | None:
    """Whose frames these are: the outermost is its continuation's."""
    while frame is not None:
        if frame.f_code is Continuation._run_tasks.__code__:
            task = getattr(frame.f_locals.get("self"), "task", None)
            return task if isinstance(task, UserTask) else None
        frame = frame.f_back
    return None


def _stack(frame: FrameType | None) -> str:
    """The stack from the thread's first line on."""
    frames: list[Any] = []
    while frame is not None and frame.f_code is not Continuation._run_tasks.__code__:
        frames.append(frame)
        frame = frame.f_back
    summary = traceback.StackSummary.extract((each, each.f_lineno) for each in reversed(frames))
    return "".join(summary.format())


def _print(blocked: Blocked) -> None:
    sys.stderr.write(f"{blocked}\n")


_current: _Watchdog | None = None


def start(limit: float = 0.1, report: Callable[[Blocked], object] | None = None) -> None:
    """Begin to watch all schedulers of the process: report each stretch of more than `limit` seconds, once.

    `report` is called in the watchdog's kernel thread with a `Blocked`; by default it is printed on standard error.
    RuntimeError if it was started before. A scheduler that runs already is watched from its next turn on.
    """
    global _current
    if _current is not None:
        raise RuntimeError("the watchdog has been started already")
    if limit <= 0:
        raise ValueError(f"limit must be above 0, not {limit!r}")
    _current = _Watchdog(limit, _print if report is None else report)
    observers.subscribe(_current.counter)
    for scheduler in list(fork.running.values()):
        scheduler.post(observers.install)
    start_new_thread(_current.run, ())


def stop() -> None:
    """Stop watching."""
    global _current
    if _current is not None:
        watchdog, _current = _current, None
        observers.unsubscribe(watchdog.counter)
        watchdog.stopped.release()
