"""Data races: two accesses to the same memory, one of them a write, that nothing has put in order.

Happens-before by vector clocks (Lamport 1978; Mattern 1989), with what FastTrack adds (Flanagan and Freund, PLDI
2009): of the writes to a place only the last one has to be known, by its *epoch*, the thread and how far it had come. A
race is found in any execution in which the two accesses are unordered, also where they happened to come one after the
other, and nothing failed.

What puts things in order: a thread's own steps; its start and its end, for who starts and joins it; and what is done
to one lock, event, queue, …: who gives something up there (releases, sets, puts) comes before whoever takes it there
later. All of a primitive's operations count, so a program that is put in order by one of them only by chance may look
better than it is; it never looks worse.

**Lock order.** Beside that, which locks are taken while which others are held. Two threads that take two locks in
opposite orders may deadlock, even if they did not this time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from scheduler.control import WHOLE
from scheduler.dependence import comparable
from scheduler.strategy import READS

if TYPE_CHECKING:
    from collections.abc import Hashable

    from scheduler.control import Footprint

__all__ = ["Access", "Inversion", "Race", "RaceDetector"]

# Of each thread, how far it had come.
_Clock = dict[int, int]

# Operations by which a thread takes, and gives nothing away.
_TAKES_ONLY = frozenset(("acquire", "acquire_read", "acquire_write", "begin", "join", "resume", "wake")) | READS
_ACQUIRES = frozenset(("acquire", "wake"))
_RELEASES = frozenset(("release", "wait"))


class Access(NamedTuple):
    """One side of a race: the thread, whether it wrote, where it was, and the locks that it held."""

    thread: int
    writes: bool
    where: Any
    locks: tuple[Any, ...]


class Race(NamedTuple):
    """Two accesses to a part of an object that nothing has put in order."""

    obj: Any
    part: Any
    first: Access
    second: Access


class Inversion(NamedTuple):
    """Two locks that were taken in both orders: `there` with `first` held, `here` with `second` held."""

    first: Any
    second: Any
    there: Access
    here: Access


class _Place:
    """What is known of one part of an object: the last write, and the reads since, by thread."""

    __slots__ = ("reads", "write")

    def __init__(self) -> None:
        self.write: tuple[int, int, Access] | None = None
        self.reads: dict[int, tuple[int, Access]] = {}


class RaceDetector:
    """Watches one execution: tell it of each step as it is taken."""

    def __init__(self) -> None:
        self.races: list[Race] = []
        self.inversions: list[Inversion] = []
        # Where the thread is whose step is taken: whatever its caller wants to remember of that.
        self._where: Any = None
        self._clocks: dict[int, _Clock] = {}
        # What was given up at a primitive, by its id; the objects are kept, so that no other gets their ids.
        self._given: dict[int, _Clock] = {}
        self._memory: dict[int, dict[Hashable, _Place]] = {}
        self._kept: dict[int, Any] = {}
        # The locks that each thread holds, as it took them; and which was taken while which was held.
        self._held: dict[int, list[Any]] = {}
        self._order: dict[tuple[int, int], Access] = {}

    def step(self, thread: int, op: str, obj: Any, footprint: Footprint | None, where: Any = None) -> None:
        """A thread takes a step. `where` it is, is kept with an access and given back with a race.

        `obj` is what it does it to; to begin and to end, it does to its own Thread what `start` and `join` do to that.
        """
        self._where = where
        if footprint is not None:
            for part, writes in footprint:
                self._access(thread, obj, comparable(part), writes)
            return
        if obj is None:
            return
        clock = self._clock(thread)
        lock = getattr(obj, "opened_by_waiting", None) if op in ("wait", "wake") else None
        for each in (obj,) if lock is None else (obj, lock):
            self._synchronise(thread, clock, op, each)

    def _synchronise(self, thread: int, clock: _Clock, op: str, obj: Any) -> None:
        key = id(obj)
        self._kept[key] = obj
        given = self._given.get(key)
        if given is not None:
            _join(clock, given)
        if op not in _TAKES_ONLY:
            if given is None:
                self._given[key] = dict(clock)
            else:
                _join(given, clock)
            clock[thread] += 1
        if getattr(obj, "is_exclusive", False):
            if op in _ACQUIRES:
                self._takes(thread, obj)
            elif op in _RELEASES:
                held = self._held.get(thread, [])
                if obj in held:
                    held.remove(obj)

    def _takes(self, thread: int, lock: Any) -> None:
        held = self._held.setdefault(thread, [])
        if held:
            here = self._here(thread, True)
            for other in held:
                self._order.setdefault((id(other), id(lock)), here)
                there = self._order.get((id(lock), id(other)))
                # Under a lock that both hold, the two can't meet.
                if there is not None and there.thread != thread and not _have_in_common(there.locks, here.locks):
                    self.inversions.append(Inversion(lock, other, there, here))
        held.append(lock)

    def _access(self, thread: int, obj: Any, part: Any, writes: bool) -> None:
        clock = self._clock(thread)
        key = id(obj)
        self._kept[key] = obj
        places = self._memory.setdefault(key, {})
        here = self._here(thread, writes)
        place = places.get(part)
        if place is None:
            place = places[part] = _Place()
        elif part is not WHOLE:
            self._compare(place, clock, thread, obj, part, here)
        if part is WHOLE:
            for other in places.values():
                self._compare(other, clock, thread, obj, part, here)
        elif WHOLE in places:
            self._compare(places[WHOLE], clock, thread, obj, part, here)
        if writes:
            place.write = (thread, clock[thread], here)
            place.reads = {}
        else:
            place.reads[thread] = (clock[thread], here)

    def _compare(self, place: _Place, clock: _Clock, thread: int, obj: Any, part: Any, here: Access) -> None:
        write = place.write
        if write is not None and write[0] != thread and write[1] > clock.get(write[0], 0):
            self.races.append(Race(obj, part, write[2], here))
        elif here.writes:
            for reader, (when, there) in place.reads.items():
                if reader != thread and when > clock.get(reader, 0):
                    self.races.append(Race(obj, part, there, here))
                    break

    def _here(self, thread: int, writes: bool) -> Access:
        return Access(thread, writes, self._where, tuple(self._held.get(thread, ())))

    def _clock(self, thread: int) -> _Clock:
        clock = self._clocks.get(thread)
        if clock is None:
            clock = self._clocks[thread] = {thread: 1}
        return clock


def _join(clock: _Clock, other: _Clock) -> None:
    for thread, steps in other.items():
        if steps > clock.get(thread, 0):
            clock[thread] = steps


def _have_in_common(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    return any(mine is theirs for mine in one for theirs in other)
