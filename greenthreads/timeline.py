"""The execution trace: who ran when, who made whom ready, who waited for what; for Perfetto's viewer.

`Recorder` hears of switches, wakeups, starts and ends, and puts each into a ring buffer as a small tuple: what happens
while the program runs is an append and no more. `Recorder.trace` makes Chrome's trace events of them afterwards (the
"Trace Event Format" document of the Chromium project), which Perfetto's viewer and chrome://tracing open:
- a thread of either kind is a track; a user thread's runs, waits and times of being ready are slices on it;
- an arrow leads from the run in which somebody woke a thread to the run that followed;
- the scheduler itself, where it looks at timers and the inbox and sleeps, is a track as well.

A user thread's run begins where another's ends: at a switch or, where a thread ends and the next one takes over its
stack, at that end. Who it was that ran is known for certain only when the run ends.
"""

from __future__ import annotations

import itertools
import json
import os
from collections import deque
from time import perf_counter_ns
from typing import IO, TYPE_CHECKING, Any

from greenthreads._unpatched import get_ident
from scheduler import fork, observers
from scheduler.continuation import current
from scheduler.task import UserTask

if TYPE_CHECKING:
    from collections.abc import Iterator

    from scheduler.continuation import Continuation, SwitchHook
    from scheduler.task import Task

__all__ = ["Recorder"]

Event = dict[str, Any]

# Nanoseconds, kernel thread, what happened, the numbers of who did it and to whom (0: nobody), and what for.
_Recorded = tuple[int, int, int, int, int, str]

_SWITCHED, _WOKEN, _SPAWNED, _ENDED = range(4)


class Recorder(observers.Observer):
    """Records what happens from `start` to `stop`; the last `capacity` events of it (a switch is one)."""

    def __init__(self, capacity: int = 200_000) -> None:
        # Tuples of numbers and strings alone: the collector looks at each once and never again. With the threads in
        # them, to keep 200,000 of them would cost half as much as to make them; and they would keep those alive.
        self._events: deque[_Recorded] = deque(maxlen=capacity)
        self._capacity = capacity
        self._note = self._events.append
        # By the number of a task: its name, and whether it is a user thread's. Of ended ones only the latest.
        self._known: dict[int, tuple[str, bool]] = {}
        self._gone: deque[int] = deque()

    def start(self) -> None:
        """Begin. From any thread; where schedulers run, from the next turn of each on."""
        for scheduler in list(fork.running.values()):
            for task in list(scheduler.tasks):
                self._number(task)
        observers.subscribe_everywhere(self)

    def stop(self) -> None:
        """End it."""
        observers.unsubscribe_everywhere(self)

    # ---- While the program runs --------------------------------------------------------------------------------------

    def switched(self, origin: Continuation, target: Continuation) -> None:
        """See `Observer`; heard by way of `switch_hook`."""
        self.switch_hook()("switch", (origin, target))

    def switch_hook(self) -> SwitchHook:
        """See `Observer`. On each switch: no more in it than must be."""
        note, now, ident = self._note, perf_counter_ns, get_ident()
        # Here the root runs, if a scheduler does.
        self._number(getattr(current(), "task", None))

        def hook(event: str, pair: tuple[Continuation, Continuation]) -> None:
            origin, target = pair
            if origin is target:
                # The next thread to run is a new one, and takes over the stack of the one that has ended here.
                return
            try:
                task = origin.task
                reason = task.wait
                note((now(), ident, _SWITCHED, task.number, 0, "" if reason is None else _words(reason, task)))
            except AttributeError:
                # It has none: it is idle, has ended, or is none of ours.
                note((now(), ident, _SWITCHED, 0, 0, ""))
            except RecursionError:
                pass  # See `Observer`.

        return hook

    def woken(self, task: Task, by: Task | None) -> None:
        """See `Observer`."""
        self._note((perf_counter_ns(), get_ident(), _WOKEN, self._number(by), self._number(task), ""))

    def spawned(self, task: Task) -> None:
        """See `Observer`."""
        by = self._number(getattr(current(), "task", None))
        self._note((perf_counter_ns(), get_ident(), _SPAWNED, by, self._number(task), ""))

    def ended(self, task: Task) -> None:
        """See `Observer`."""
        self._note((perf_counter_ns(), get_ident(), _ENDED, self._number(task), 0, ""))
        self._gone.append(task.number)
        if len(self._gone) > self._capacity:
            self._known.pop(self._gone.popleft(), None)

    def _number(self, task: Task | None) -> int:
        if task is None:
            return 0
        if task.number not in self._known:
            self._known[task.number] = (task.name, isinstance(task, UserTask))
        return task.number

    # ---- Afterwards --------------------------------------------------------------------------------------------------

    def trace(self) -> dict[str, Any]:
        """The trace so far, as a JSON object of the Chrome format. Times are in microseconds."""
        # A copy: other kernel threads may still add to it.
        recorded = list(self._events)
        events = list(_Timeline(recorded, self._known).events())
        return {
            "traceEvents": events,
            "displayTimeUnit": "ns",
            "otherData": {"recorded": len(recorded), "older events were dropped": len(recorded) == self._capacity},
        }

    def write(self, file: IO[str] | str) -> None:
        """Write the trace to `file`, an open file or a path."""
        if isinstance(file, str):
            with open(file, "w", encoding="utf-8") as opened:
                json.dump(self.trace(), opened)
        else:
            json.dump(self.trace(), file)


class _Timeline:
    """Makes slices and arrows of recorded events. Tracks have the numbers of the tasks."""

    def __init__(self, recorded: list[_Recorded], known: dict[int, tuple[str, bool]]) -> None:
        self._recorded = recorded
        self._known = known
        self._process = os.getpid()
        self._arrows = itertools.count(1)
        self._tracks: set[int] = set()
        # The kernel threads that run schedulers, and when the present run of each began.
        self._switching = {event[1] for event in recorded if event[2] == _SWITCHED}
        self._began: dict[int, int] = {}
        # Of user threads that do not run: when it stopped and what it waits for; when it was woken, by which arrow.
        self._stopped: dict[int, tuple[int, str]] = {}
        self._woken: dict[int, tuple[int, int | None]] = {}

    def events(self) -> Iterator[Event]:
        """All of them, and the names of the tracks."""
        yield self._named("process_name", 0, f"greenthreads {self._process}")
        for when, ident, what, who, whom, reason in self._recorded:
            if what == _SWITCHED:
                yield from self._run(when, ident, who, reason)
            elif what == _ENDED:
                if self._is_user(who):
                    yield from self._run(when, ident, who, "")
                    self._stopped.pop(who, None)
                else:
                    yield self._instant(when, who, "ends")
            else:
                yield from self._wake(when, ident, who, whom, "starts" if what == _SPAWNED else "wakes")
        for track in sorted(self._tracks):
            yield self._named("thread_name", track, self._known.get(track, ("?", True))[0])

    def _is_user(self, who: int) -> bool:
        return self._known.get(who, ("?", True))[1]

    def _run(self, when: int, ident: int, who: int, reason: str) -> Iterator[Event]:
        began = self._began.get(ident)
        self._began[ident] = when
        if began is None or not who:
            return
        if self._is_user(who):
            yield from self._before(began, who)
            self._stopped[who] = (when, reason)
            yield self._slice("runs", "run", who, began, when)
        else:
            yield self._slice("timers, inbox, sleep", "scheduler", who, began, when)

    def _before(self, began: int, who: int) -> Iterator[Event]:
        """What a thread did until it ran at `began`."""
        woken, arrow = self._woken.pop(who, (began, None))
        stopped, reason = self._stopped.pop(who, (None, ""))
        if stopped is not None:
            if reason:
                yield self._slice(f"waits for {reason}", "wait", who, stopped, max(woken, stopped))
                stopped = max(woken, stopped)
            yield self._slice("is ready", "ready", who, stopped, began)
        if arrow is not None:
            yield {**self._event("f", who, began), "name": "wakes", "cat": "wake", "id": arrow, "bp": "e"}

    def _wake(self, when: int, ident: int, by: int, whom: int, name: str) -> Iterator[Event]:
        if not by or not self._is_user(whom):
            yield self._instant(when, whom, name)
            return
        arrow = next(self._arrows)
        self._woken[whom] = (when, arrow)
        # Viewers hang an arrow on the slice that it begins in.
        if ident in self._switching:
            self._began.setdefault(ident, when)
        else:
            yield self._slice(name, "kernel", by, when, when + 1)
        yield {**self._event("s", by, when), "name": "wakes", "cat": "wake", "id": arrow}

    # ---- The pieces --------------------------------------------------------------------------------------------------

    def _event(self, kind: str, who: int, when: int) -> Event:
        self._tracks.add(who)
        return {"ph": kind, "pid": self._process, "tid": who, "ts": when / 1000}

    def _slice(self, name: str, category: str, who: int, begin: int, end: int) -> Event:
        return {**self._event("X", who, begin), "dur": (end - begin) / 1000, "name": name, "cat": category}

    def _instant(self, when: int, who: int, name: str) -> Event:
        return {**self._event("i", who, when), "s": "t", "name": name, "cat": "kernel"}

    def _named(self, what: str, track: int, name: str) -> Event:
        return {"ph": "M", "pid": self._process, "tid": track, "name": what, "args": {"name": name}}


def _words(reason: Any, task: Task) -> str:
    return reason if isinstance(reason, str) else str(reason.waiting_for(task).kind)
