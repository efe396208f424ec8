"""What `run_scheduler --stats` counts, and the table that it prints."""

from __future__ import annotations

import time
from _thread import allocate_lock, get_ident
from typing import TYPE_CHECKING

from scheduler import observers
from scheduler.task import UserTask

# Windows has no such module.
try:
    import resource
except ImportError:
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from scheduler.continuation import Continuation
    from scheduler.task import Task

__all__ = ["Stats"]


class _Lane:
    """What happens on one kernel thread. Written by that one alone."""

    __slots__ = ("longest", "since", "switches", "who")

    def __init__(self) -> None:
        self.since = time.perf_counter()
        self.switches = 0
        self.longest = 0.0
        self.who: Task | None = None


class Stats(observers.Observer):
    """Counts threads of both kinds, and measures how long user threads run between two switches."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        # By kind: user threads, and kernel threads that were started as a `Thread`.
        self._alive = {True: 0, False: 0}
        self._most = {True: 0, False: 0}
        self._started = {True: 0, False: 0}
        self._lanes: dict[int, _Lane] = {}
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._system_switches = _system_switches()

    def spawned(self, task: Task) -> None:
        """Count a thread that starts."""
        user = isinstance(task, UserTask)
        with self._lock:
            self._started[user] += 1
            self._alive[user] += 1
            self._most[user] = max(self._most[user], self._alive[user])

    def ended(self, task: Task) -> None:
        """Count a thread that ends; a user thread's last run ends here."""
        user = isinstance(task, UserTask)
        with self._lock:
            self._alive[user] -= 1
        if user:
            self._run_ended(task)

    def switched(self, origin: Continuation, target: Continuation) -> None:
        """A run ends here, unless `origin` is the root, or idle, or has ended."""
        self._run_ended(getattr(origin, "task", None))

    def _run_ended(self, task: Task | None) -> None:
        lane = self._lanes.get(get_ident())
        if lane is None:
            lane = self._lanes[get_ident()] = _Lane()
        if isinstance(task, UserTask):
            lane.switches += 1
            seconds = time.perf_counter() - lane.since
            if seconds > lane.longest:
                lane.longest, lane.who = seconds, task
        # Read again: what was done here is not the next thread's.
        lane.since = time.perf_counter()

    def table(self) -> str:
        """The figures so far, a line each."""
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        lanes = list(self._lanes.values())
        longest = max(lanes, key=lambda lane: lane.longest, default=_Lane())
        now = _system_switches()
        system = "-" if now is None or self._system_switches is None else f"{now - self._system_switches:,}"
        who = "" if longest.who is None else f"  in {longest.who.name!r}"
        rows = [
            ("run_scheduler", "user", "kernel"),
            ("threads, at most", f"{self._most[True]:,}", f"{self._most[False]:,}"),
            # The main thread was not started by the program.
            ("spawns", f"{self._started[True] - 1:,}", f"{self._started[False]:,}"),
            ("switches", f"{sum(lane.switches for lane in lanes):,}", system),
            ("longest run", f"{longest.longest * 1e3:,.3f} ms", who),
            ("wall time", f"{wall:,.3f} s", ""),
            ("CPU time", f"{cpu:,.3f} s", ""),
        ]
        return "\n".join(
            f"{label:<16} {user:>14}{kernel if kernel[:1] == ' ' else f'{kernel:>14}'}".rstrip()
            for label, user, kernel in rows
        )


def _system_switches() -> int | None:
    """How often the system has switched this process's kernel threads; None where it does not tell."""
    if resource is None:
        return None
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_nvcsw + usage.ru_nivcsw
