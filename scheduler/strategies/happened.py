"""What happened in an execution: its steps, what each of them touched, and which come before which.

For strategies that reduce: they note every step as it is taken (`Recording`), and look back at the end (`Order`). One
step comes before another if it does so in every execution of the same class: it is the same thread's, or the two are
dependent, or something in between links them so. This is told by vector clocks: a step's clock says of each thread how
many of its steps come before.

**Operations that wait.** What let a thread go on comes before what it does then, but not before it began to wait. So a
thread has two clocks: what came before it stood where it stands (`now`), and what has let it go on since.

**Time.** That no thread can go on is a fact about all of them, so everything before a jump of time comes before
everything after it.

**Names.** Nodes outlive executions, objects do not. An object is known by a number, in the order in which pending
operations first name them; the same decisions give the same numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from scheduler.control import WHOLE
from scheduler.dependence import CHANGE, go_together, same_part, touches
from scheduler.strategy import Choice, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Clock", "Event", "Footprint", "Order", "Recording", "dependent", "join"]

# What a step touches: (number of the object, part, way), see scheduler.dependence.
Footprint = tuple[tuple[int, Any, int], ...]
# Of each thread, by its id, how many of its steps come before.
Clock = list[int]


_TIMED = frozenset(("expire", "sleep", "timeout"))


class Event(NamedTuple):
    """A step that was taken."""

    id: int
    op: str
    footprint: Footprint
    # Whether something could have kept the thread from taking it.
    guarded: bool
    # Who could have gone on in its place.
    enabled: frozenset[int]
    # Where the thread's step before this one is; -1 if it has none.
    arrived: int


class Recording(Strategy):
    """A strategy that notes each step as it is taken, from the start of the second thread on.

    What comes before that comes before everything.
    """

    wants_every_step = True
    wants_prelude = False

    def __init__(self) -> None:
        # Whether time has ever passed, or a wait could have ended.
        self.is_timed = False
        # The clocks of the first steps, which are the same as in an execution that was looked back at before.
        self.clocks: list[Clock] = []
        self.forget(0)

    def forget(self, same: int) -> None:
        """Begin with the next execution, whose first `same` steps will be those of the last one."""
        del self.clocks[same:]
        self.events: list[Event] = []
        # At how many steps time has passed.
        self.jumps: list[int] = []
        # The numbers of objects that are exclusive, as locks are.
        self.exclusive: set[int] = set()
        self._numbers: dict[int, int] = {}
        self._objects: list[Any] = []
        self._last_of: dict[int, int] = {}
        # By thread, until it takes its next step: its operation, and what that touches. (That of a timed wait that may
        # end has another name than the wait's own.)
        self._pending: dict[int, tuple[str, Footprint]] = {}

    def end(self, trace: Sequence[tuple[int, str]], waiting: Sequence[Choice]) -> None:
        """See `Strategy`. What the program has made is not kept alive any longer."""
        self._objects = []
        self._pending = {}

    def footprints(self, choices: Sequence[Choice]) -> dict[int, Footprint]:
        """What the pending operations of threads touch, by thread."""
        found = {}
        pending = self._pending
        for choice in choices:
            number = choice.id
            op = choice.op
            known = pending.get(number)
            if known is not None and known[0] is op:
                found[number] = known[1]
            else:
                found[number] = footprint = self.footprint(choice)
                if op != "end":  # What that means depends on who is left.
                    pending[number] = (op, footprint)
        return found

    def footprint(self, choice: Choice) -> Footprint:
        """What the pending operation of a thread touches."""
        if choice.op in _TIMED:
            self.is_timed = True
        return tuple([(self.number(obj), part, way) for obj, part, way in touches(choice)])

    def number(self, obj: object) -> int:
        """The number of an object."""
        number = self._numbers.get(id(obj))
        if number is None:
            number = self._numbers[id(obj)] = len(self._objects)
            self._objects.append(obj)  # Kept, so that no other gets its id.
            if getattr(obj, "is_exclusive", False):
                self.exclusive.add(number)
        return number

    def note(self, chosen: Choice, footprints: dict[int, Footprint]) -> None:
        """`chosen` takes the next step; `footprints` are those of all who could."""
        number, events, last_of = chosen.id, self.events, self._last_of
        before = last_of.get(number, -1)
        last_of[number] = len(events)
        self._pending.pop(number, None)
        events.append(
            Event(number, chosen.op, footprints[number], chosen.guarded, frozenset(footprints), before),
        )

    def time_passes(self) -> None:
        """See `Strategy`."""
        self.is_timed = True
        self.jumps.append(len(self.events))

    def unfinished(self, waiting: Sequence[Choice]) -> list[Event]:
        """Steps that were never taken: they might have been, had they come before others."""
        return [
            Event(each.id, each.op, self.footprint(each), each.guarded, frozenset(), self._last_of.get(each.id, -1))
            for each in waiting
        ]


class Order:
    """The order of an execution's steps."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self.events = recording.events
        self._known = recording.clocks
        self.threads = 1 + max((event.id for event in self.events), default=0)
        if self._known:
            self.threads = max(self.threads, len(self._known[-1]))
        # Of each step: what comes before it, itself included; and which of its thread's steps it is, from 1 on.
        self.clocks: list[Clock] = []
        self.ordinals: list[int] = []
        # Of each thread that has begun: what comes before whatever it does next.
        self.now: dict[int, Clock] = {}
        self._jumps = recording.jumps
        # Of threads that waited and may go on: what let them.
        self._released: dict[int, Clock] = {}
        # By the number of an object: the steps that touch it, with part and way.
        self._touched: dict[int, list[tuple[int, Any, int]]] = {}

    def steps(self) -> Iterator[tuple[int, Event, Clock | None]]:
        """Each step, with its place and what let its thread go on. While it is looked at, all before it is known."""
        jumps = [*self._jumps, len(self.events)]
        enabled: frozenset[int] = frozenset()
        for place, event in enumerate(self.events):
            while jumps[0] < place or (jumps[0] == place and len(jumps) > 1):
                jumps.pop(0)
                self._let_time_pass()
            self._release(place, event.enabled - enabled)
            enabled = event.enabled
            released = self._released.pop(event.id, None)
            yield place, event, released
            self._take(place, event, released)
        if len(jumps) > 1:
            self._let_time_pass()
        self._recording.clocks = self.clocks

    def _let_time_pass(self) -> None:
        """All that was comes before all that will be."""
        everything = [0] * self.threads
        for clock in self.clocks:
            join(everything, clock)
        # What threads wait to do now they have begun to wait for before: it may race with what was.
        for number in self.now:
            self._let_go(number, everything)

    def _let_go(self, number: int, before: Clock) -> None:
        """What the thread does next comes after all that, but did not begin after it."""
        if number in self._released:
            join(self._released[number], before)
        else:
            self._released[number] = list(before)

    def _release(self, place: int, released: frozenset[int]) -> None:
        """The step before `place` has started these threads, or has let them go on."""
        if not place:
            # The main thread was there before, maybe in the middle of a wait.
            for number in (0, *released):
                self.now[number] = [0] * self.threads
            return
        before = self.clocks[place - 1]
        for number in released:
            if number not in self.now:
                self.now[number] = list(before)
            elif number != self.events[place - 1].id:
                self._let_go(number, before)

    def _take(self, place: int, event: Event, released: Clock | None) -> None:
        number = event.id
        if place < len(self._known):
            clock = self._known[place]
            clock += [0] * (self.threads - len(clock))
            self.now[number] = list(clock)
        else:
            now = self.now[number]
            if released is not None:
                join(now, released)
            self.join_touched(now, event)
            now[number] += 1
            clock = list(now)
        touched = self._touched
        for thing, part, way in event.footprint:
            if thing in touched:
                touched[thing].append((place, part, way))
            else:
                touched[thing] = [(place, part, way)]
        self.ordinals.append(clock[number])
        self.clocks.append(clock)

    def join_touched(self, clock: Clock, event: Event) -> None:
        """Add what comes before `event` because the two are dependent."""
        for thing, part, way in event.footprint:
            for at, other_part, other_way in reversed(self._touched.get(thing, ())):
                if not go_together(way, other_way) and same_part(part, other_part):
                    join(clock, self.clocks[at])
                    if other_way == CHANGE and (other_part is None or other_part is WHOLE or other_part == part):
                        break  # It comes after all that depend on the same before it.

    def dependent_on(self, event: Event) -> set[int]:
        """The places of the steps before it that depend on the same as `event`, of its own thread too."""
        return {
            at
            for thing, part, way in event.footprint
            for at, other_part, other_way in self._touched.get(thing, ())
            if not go_together(way, other_way) and same_part(part, other_part)
        }


def dependent(one: Footprint, other: Footprint) -> bool:
    """Whether two steps, of different threads, are dependent."""
    for thing, part, way in one:
        for also, other_part, other_way in other:
            if thing == also and not go_together(way, other_way) and same_part(part, other_part):
                return True
    return False


def join(clock: Clock, other: Clock) -> None:
    """Make `clock` include `other`."""
    for thread, steps in enumerate(other):
        if steps > clock[thread]:
            clock[thread] = steps
