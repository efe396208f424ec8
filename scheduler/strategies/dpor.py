"""DPOR: one execution for each class of executions that differ only in the order of independent steps.

Optimal dynamic partial order reduction with wakeup trees (Abdulla, Aronis, Jonsson and Sagonas, "Optimal dynamic
partial order reduction", POPL 2014, section 6). After an execution, each pair of dependent steps of two threads that
nothing else has put in order is a *race*: had the second come first, something else might have happened. So what leads
to the second without the first is noted where the first was taken, to be tried later. *Sleep sets* keep a thread from
being tried where that would repeat what was seen: a thread that was tried sleeps until a step that depends on its own.
Less is taken for seen than there: see `_initial`. So now and then an execution repeats another, and is abandoned.

**Operations that wait.** The step before an `acquire` is as a rule the `release` that let it through, and these two
can't change places. Such a pair is no race; the race is with the step further back at which the second could have been
taken: with the other `acquire`. Whether it could have been is known where the thread stood there already (it was among
the choices, or it was not); where it came later it is known for locks and for equal operations, and where it is not
known we take it that it could: that costs an execution at worst.

**Time.** That no thread can go on is a fact about all of them, so everything before a jump of time comes before
everything after it.

**Names.** Nodes outlive executions, objects do not. An object is known by a number, in the order in which pending
operations first name them; the same decisions give the same numbers. A wakeup sequence is followed by its threads
alone, and compared only by what one execution has shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from scheduler.control import WHOLE
from scheduler.dependence import CHANGE, go_together, same_part, touches
from scheduler.errors import ReplayDivergence
from scheduler.strategy import Abandon, Choice, Strategy

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DPOR"]

# What a step touches: (number of the object, part, way), see scheduler.dependence.
_Footprint = tuple[tuple[int, Any, int], ...]
# Of each thread, by its id, how many of its steps come before.
_Clock = list[int]


class _Branch:
    """A step of a wakeup tree, and what is to follow it."""

    __slots__ = ("id", "then")

    def __init__(self, number: int) -> None:
        self.id = number
        self.then: list[_Branch] = []


class _Node:
    """A state: what could be done in it, what was, and what is to be. Kept while executions share it."""

    __slots__ = ("asleep", "branches", "choices", "chosen", "op")

    def __init__(self, choices: dict[int, _Footprint], asleep: dict[int, _Footprint], branches: list[_Branch]) -> None:
        self.choices = choices
        self.asleep = asleep
        # What to explore from here; the first is being explored.
        self.branches = branches
        self.chosen = -1
        self.op = ""


class _Event(NamedTuple):
    """A step that was taken."""

    id: int
    op: str
    footprint: _Footprint
    # Whether something could have kept the thread from taking it.
    guarded: bool
    # Who could have gone on in its place.
    enabled: frozenset[int]
    # Where the thread's step before this one is; -1 if it has none.
    arrived: int


class DPOR(Strategy):
    """Every execution, up to the order of independent steps."""

    name = "dpor"
    wants_every_step = True

    def __init__(self) -> None:
        self._nodes: list[_Node] = []
        self._is_first = True
        # Executions that turned out to repeat others, and were abandoned.
        self.redundant = 0
        # Of the execution that runs:
        self._events: list[_Event] = []
        self._jumps: list[int] = []
        self._numbers: dict[int, int] = {}
        self._objects: list[Any] = []
        self._exclusive: set[int] = set()
        self._last_of: dict[int, int] = {}
        self._is_abandoned = False
        # How many nodes were there when it began: what happened up to them has been looked at before.
        self._known = 0

    def begin(self) -> bool:
        """See `Strategy`."""
        if self._is_first:
            self._is_first = False
        elif not self._backtrack():
            self.exhausted = True
            return False
        self._known = len(self._nodes)
        self._events = []
        self._jumps = []
        self._numbers = {}
        self._objects = []
        self._exclusive = set()
        self._last_of = {}
        self._is_abandoned = False
        return True

    def _backtrack(self) -> bool:
        """Give up the deepest states that have nothing left; False if none has anything."""
        nodes = self._nodes
        while nodes:
            node = nodes[-1]
            if node.chosen >= 0:
                done = node.branches.pop(0)
                node.asleep[done.id] = node.choices[done.id]
                node.chosen = -1
            while node.branches and (node.branches[0].id in node.asleep or node.branches[0].id not in node.choices):
                node.branches.pop(0)
            if node.branches:
                return True
            nodes.pop()
        return False

    # ---- During an execution ----------------------------------------------------------------------------------------

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """See `Strategy`. Here there may be a single choice."""
        depth = len(self._events)
        footprints = {choice.id: self._footprint(choice) for choice in choices}
        if depth < len(self._nodes):
            node = self._nodes[depth]
            if node.choices != footprints:
                self._diverged(node, depth, choices)
        else:
            node = self._new_node(footprints)
            self._nodes.append(node)
        while node.branches and node.branches[0].id in node.asleep:
            node.branches.pop(0)
        if not node.branches:
            number = self._pick(node, running)
            if number is None:
                self._is_abandoned = True
                raise Abandon
            node.branches.append(_Branch(number))
        number = node.chosen = node.branches[0].id
        chosen = next(choice for choice in choices if choice.id == number)
        node.op = chosen.op
        self._events.append(
            _Event(
                number,
                chosen.op,
                footprints[number],
                chosen.guarded,
                frozenset(footprints),
                self._last_of.get(number, -1),
            )
        )
        self._last_of[number] = depth
        return chosen

    def _footprint(self, choice: Choice) -> _Footprint:
        found = []
        for obj, part, way in touches(choice):
            number = self._numbers.get(id(obj))
            if number is None:
                number = self._numbers[id(obj)] = len(self._objects)
                self._objects.append(obj)  # Kept, so that no other gets its id.
                if getattr(obj, "is_exclusive", False):
                    self._exclusive.add(number)
            found.append((number, part, way))
        return tuple(found)

    def _new_node(self, footprints: dict[int, _Footprint]) -> _Node:
        if not self._nodes:
            return _Node(footprints, {}, [])
        above = self._nodes[-1]
        step = above.choices[above.chosen]
        asleep = {
            number: footprint
            for number, footprint in above.asleep.items()
            if number != above.chosen and not _dependent(footprint, step)
        }
        branches = [branch for branch in above.branches[0].then if branch.id in footprints]
        return _Node(footprints, asleep, branches)

    def _pick(self, node: _Node, running: Choice | None) -> int | None:
        if running is not None and running.id not in node.asleep and running.op != "yield":
            return running.id
        return next((number for number in node.choices if number not in node.asleep), None)

    def _diverged(self, node: _Node, depth: int, choices: Sequence[Choice]) -> None:
        number = node.branches[0].id if node.branches else node.chosen
        raise ReplayDivergence(depth, (number, node.op), [(choice.id, choice.op) for choice in choices])

    def time_passes(self) -> None:
        """See `Strategy`."""
        self._jumps.append(len(self._events))

    # ---- After an execution -----------------------------------------------------------------------------------------

    def end(self, trace: Sequence[tuple[int, str]], waiting: Sequence[Choice]) -> None:
        """See `Strategy`."""
        if self._is_abandoned:
            self.redundant += 1
        else:
            # Steps that were never taken might have been, had they come before others.
            ends = [
                _Event(
                    each.id, each.op, self._footprint(each), each.guarded, frozenset(), self._last_of.get(each.id, -1)
                )
                for each in waiting
            ]
            _Races(self).find(ends)
        self._objects = []

    def insert(self, node: _Node, steps: list[int], before: list[set[int]]) -> None:
        """Note that these steps, taken from `node` on, lead to something new, unless it is known that they do not.

        `steps` are the threads that take them, `before[i]` which of the earlier ones step i must come after.
        """
        left = list(range(len(steps)))
        for number in node.asleep:
            if _initial(number, left, steps, before) is not None:
                return
        branches = node.branches
        while True:
            for branch in branches:
                at = _initial(branch.id, left, steps, before)
                if at is None:
                    continue
                left.remove(at)
                if not left or not branch.then:
                    return
                branches = branch.then
                break
            else:
                for at in left:
                    branch = _Branch(steps[at])
                    branches.append(branch)
                    branches = branch.then
                return

    def coverage(self) -> str:
        """See `Strategy`."""
        if self.exhausted:
            return "every schedule, up to the order of independent steps,"
        return "schedules of which no two differ only in the order of independent steps"


def _dependent(one: _Footprint, other: _Footprint) -> bool:
    for thing, part, way in one:
        for also, other_part, other_way in other:
            if thing == also and not go_together(way, other_way) and same_part(part, other_part):
                return True
    return False


def _initial(number: int, left: list[int], steps: list[int], before: list[set[int]]) -> int | None:
    """The first step of thread `number` among those that are `left`, if it could be the first of them all.

    Rejected: to count a thread in that takes none of these steps, and whose next one none of them depends on (a *weak
    initial*). What follows them may depend on it, and then that thread's turn first does not stand for theirs.
    """
    for place, at in enumerate(left):
        if steps[at] == number:
            return at if before[at].isdisjoint(left[:place]) else None
    return None


# By these a thread takes a lock, and by those it gives one up.
_TAKES = frozenset(("acquire", "wake"))
_GIVES_UP = frozenset(("release", "wait"))


class _Races:
    """Finds the races of an execution, and notes what would be if they had gone the other way."""

    def __init__(self, dpor: DPOR) -> None:
        self._dpor = dpor
        self._events = dpor._events
        self._threads = 1 + max((event.id for event in self._events), default=0)
        # Of each step: what comes before it, itself included; and which of its thread's steps it is, from 1 on.
        self._clocks: list[_Clock] = []
        self._ordinals: list[int] = []
        # Of each thread that has begun: what comes before whatever it does next.
        self._now: dict[int, _Clock] = {}
        # Of threads that waited and may go on: what let them.
        self._released: dict[int, _Clock] = {}
        # By the number of an object: the steps that touch it, with part and way.
        self._touched: dict[int, list[tuple[int, Any, int]]] = {}

    def find(self, ends: list[_Event]) -> None:
        """Look at each step, in their order; then at those that threads still waited to take at the end."""
        jumps = [*self._dpor._jumps, len(self._events)]
        known = self._dpor._known - 1
        enabled: frozenset[int] = frozenset()
        for place, event in enumerate(self._events):
            while jumps[0] < place or (jumps[0] == place and len(jumps) > 1):
                jumps.pop(0)
                self._let_time_pass()
            self._release(place, event.enabled - enabled)
            enabled = event.enabled
            released = self._released.pop(event.id, None)
            # Steps up to there were looked at after an earlier execution.
            if place >= known:
                for first in self._races_of(event):
                    self._reverse(first, event, place, released)
            self._take(place, event, released)
        if len(jumps) > 1:
            self._let_time_pass()
        for event in ends:
            if event.id in self._now:
                for first in self._races_of(event):
                    self._reverse(first, event, len(self._events), None)

    def _let_time_pass(self) -> None:
        """All that was comes before all that will be."""
        everything = [0] * self._threads
        for clock in self._clocks:
            _join(everything, clock)
        # What threads wait to do now they have begun to wait for before: it may race with what was.
        for number in self._now:
            self._let_go(number, everything)

    def _let_go(self, number: int, before: _Clock) -> None:
        """What the thread does next comes after all that, but did not begin after it."""
        if number in self._released:
            _join(self._released[number], before)
        else:
            self._released[number] = list(before)

    def _release(self, place: int, released: frozenset[int]) -> None:
        """The step before `place` has started these threads, or has let them go on."""
        if not place:
            self._now[self._events[0].id] = [0] * self._threads
            return
        before = self._clocks[place - 1]
        for number in released:
            if number not in self._now:
                self._now[number] = list(before)
            elif number != self._events[place - 1].id:
                self._let_go(number, before)

    def _races_of(self, event: _Event) -> list[int]:
        """The steps that `event` races with, the latest first."""
        known = self._now[event.id]
        candidates = {
            at
            for thing, part, way in event.footprint
            for at, other_part, other_way in self._touched.get(thing, ())
            if not go_together(way, other_way) and same_part(part, other_part)
        }
        races: list[int] = []
        covered = [0] * self._threads
        for at in sorted(candidates, reverse=True):
            other = self._events[at]
            ordinal = self._ordinals[at]
            if ordinal <= known[other.id] or ordinal <= covered[other.id]:
                continue  # Something else has put them in order.
            could = self._could_have_come(event, at)
            if could is False:
                continue
            races.append(at)
            if could:
                _join(covered, self._clocks[at])
        return races

    def _could_have_come(self, event: _Event, at: int) -> bool | None:
        """Could the thread of `event` have taken it in place of step `at`? None if that can't be said."""
        if not event.guarded:
            return True
        other = self._events[at]
        if at > event.arrived:
            return event.id in other.enabled
        if event.op == "join":
            return False  # The other is the end of the thread that is joined.
        is_lock = any(thing in self._dpor._exclusive for thing, _part, _way in other.footprint)
        if is_lock and other.op in _GIVES_UP:
            return False
        # Where the other waited until it could be taken, this one could be. (One that does not wait may have failed.)
        if other.guarded and (event.op == other.op or (is_lock and other.op in _TAKES)):
            return True
        return None

    def _reverse(self, first: int, event: _Event, second: int, released: _Clock | None) -> None:
        """Note the schedule in which `event`, which is step `second`, comes without step `first`."""
        events, clocks, ordinals = self._events, self._clocks, self._ordinals
        thread, ordinal = events[first].id, ordinals[first]
        places = [at for at in range(first + 1, second) if clocks[at][thread] < ordinal]
        before = [
            {i for i, at in enumerate(places[:j]) if clocks[place][events[at].id] >= ordinals[at]}
            for j, place in enumerate(places)
        ]
        clock = list(self._now[event.id])
        if released is not None:
            _join(clock, released)
        self._join_touched(clock, event)
        before.append({i for i, at in enumerate(places) if clock[events[at].id] >= ordinals[at]})
        steps = [*(events[at] for at in places), event]
        self._dpor.insert(self._dpor._nodes[first], [step.id for step in steps], before)

    def _take(self, place: int, event: _Event, released: _Clock | None) -> None:
        clock = self._now[event.id]
        if released is not None:
            _join(clock, released)
        self._join_touched(clock, event)
        for thing, part, way in event.footprint:
            self._touched.setdefault(thing, []).append((place, part, way))
        clock[event.id] += 1
        self._ordinals.append(clock[event.id])
        self._clocks.append(list(clock))

    def _join_touched(self, clock: _Clock, event: _Event) -> None:
        for thing, part, way in event.footprint:
            for at, other_part, other_way in reversed(self._touched.get(thing, ())):
                if not go_together(way, other_way) and same_part(part, other_part):
                    _join(clock, self._clocks[at])
                    if other_way == CHANGE and (other_part is None or other_part is WHOLE):
                        break  # It comes after all that depend on the same thing before it.


def _join(clock: _Clock, other: _Clock) -> None:
    for thread, steps in enumerate(other):
        if steps > clock[thread]:
            clock[thread] = steps
