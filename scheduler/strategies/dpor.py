"""DPOR: one execution for each class of executions that differ only in the order of independent steps.

Optimal dynamic partial order reduction with wakeup trees (Abdulla, Aronis, Jonsson and Sagonas, "Optimal dynamic
partial order reduction", POPL 2014, section 6). After an execution, each pair of dependent steps of two threads that
nothing else has put in order is a *race*: had the second come first, something else might have happened. So what leads
to the second without the first is noted where the first was taken, to be tried later. *Sleep sets* keep a thread from
being tried where that would repeat what was seen: a thread that was tried sleeps until a step that depends on its own.
No two executions that are seen through to their end come to the same.

**Operations that wait.** The step before an `acquire` is as a rule the `release` that let it through, and these two
can't change places. Such a pair is no race; the race is with the step further back at which the second could have been
taken: with the other `acquire`. Whether it could have been is known where the thread stood there already (it was among
the choices, or it was not); where it came later it is known for locks and for equal operations, and where it is not
known we take it that it could: that costs an execution at worst, which turns out to repeat others and is abandoned.

A wakeup sequence is followed by its threads alone, and compared only by what one execution has shown. Which step comes
before which, see happened.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from scheduler.errors import ReplayDivergence
from scheduler.strategies.happened import Clock, Event, Footprint, Order, Recording, dependent, join
from scheduler.strategy import Abandon, Choice

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DPOR"]


class _Branch:
    """A step of a wakeup tree, and what is to follow it."""

    __slots__ = ("id", "then")

    def __init__(self, number: int) -> None:
        self.id = number
        self.then: list[_Branch] = []


class _Node:
    """A state: what could be done in it, what was, and what is to be. Kept while executions share it."""

    __slots__ = ("asleep", "branches", "choices", "chosen", "op")

    def __init__(self, choices: dict[int, Footprint], asleep: dict[int, Footprint], branches: list[_Branch]) -> None:
        self.choices = choices
        self.asleep = asleep
        # What to explore from here; the first is being explored.
        self.branches = branches
        self.chosen = -1
        self.op = ""


class DPOR(Recording):
    """Every execution, up to the order of independent steps."""

    name = "dpor"

    def __init__(self) -> None:
        super().__init__()
        self.nodes: list[_Node] = []
        self._is_first = True
        # Executions that turned out to repeat others, and were abandoned.
        self.redundant = 0
        # Of the execution that runs:
        self._is_abandoned = False
        # How many nodes were there when it began: what happened up to them has been looked at before.
        self.known = 0

    def begin(self) -> bool:
        """See `Strategy`."""
        if self._is_first:
            self._is_first = False
        elif not self._backtrack():
            self.exhausted = self.complete = True
            return False
        self.known = len(self.nodes)
        self.forget(max(0, self.known - 1))
        self._is_abandoned = False
        return True

    def _backtrack(self) -> bool:
        """Give up the deepest states that have nothing left; False if none has anything."""
        nodes = self.nodes
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
        depth = len(self.events)
        footprints = self.footprints(choices)
        if depth < len(self.nodes):
            node = self.nodes[depth]
            if node.choices != footprints:
                self._diverged(node, depth, choices)
        else:
            node = self._new_node(footprints)
            self.nodes.append(node)
        while node.branches and node.branches[0].id in node.asleep:
            node.branches.pop(0)
        if not node.branches:
            number = self._pick(node, running)
            if number is None:
                self._is_abandoned = True
                raise Abandon
            node.branches.append(_Branch(number))
        number = node.chosen = node.branches[0].id
        chosen = choices[[*footprints].index(number)]
        node.op = chosen.op
        self.note(chosen, footprints)
        return chosen

    def _new_node(self, footprints: dict[int, Footprint]) -> _Node:
        if not self.nodes:
            return _Node(footprints, {}, [])
        above = self.nodes[-1]
        step = above.choices[above.chosen]
        asleep = {
            number: footprint
            for number, footprint in above.asleep.items()
            if number != above.chosen and not dependent(footprint, step)
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

    # ---- After an execution -----------------------------------------------------------------------------------------

    def end(self, trace: Sequence[tuple[int, str]], waiting: Sequence[Choice]) -> None:
        """See `Strategy`."""
        if self._is_abandoned:
            self.redundant += 1
        else:
            _Races(self).find(self.unfinished(waiting))
        super().end(trace, waiting)

    def insert(self, node: _Node, sequence: _Sequence) -> None:
        """Note that `sequence`, taken from `node` on, leads to something new, unless it is known that it does not."""
        left = list(range(len(sequence.ids)))
        for number, footprint in node.asleep.items():
            if sequence.initial(number, left) is not None or self._is_left_alone(number, footprint, sequence):
                return
        branches = node.branches
        while True:
            for branch in branches:
                at = sequence.initial(branch.id, left)
                if at is not None:
                    left.remove(at)
                elif not (
                    # Further down it is not known what a branch does.
                    branches is node.branches
                    and branch.id in node.choices
                    and self._is_left_alone(branch.id, node.choices[branch.id], sequence)
                ):
                    continue
                if not left or not branch.then:
                    return
                branches = branch.then
                break
            else:
                for at in left:
                    branch = _Branch(sequence.ids[at])
                    branches.append(branch)
                    branches = branch.then
                return

    def _is_left_alone(self, number: int, footprint: Footprint, sequence: _Sequence) -> bool:
        """Whether a thread takes none of the steps, and could as well take its own before them as after them.

        (It is a *weak initial*, then.) What follows may depend on its step, but then the two race. Not so where waits
        may end: whether they may is a matter of all threads. Then less is taken for seen, and an execution may turn out
        to repeat others, and be abandoned.
        """
        if self.is_timed or number in sequence.ids:
            return False
        return not any(dependent(footprint, step) for step in sequence.footprints)

    def coverage(self) -> str:
        """See `Strategy`."""
        if self.exhausted:
            return "every schedule, up to the order of independent steps,"
        return "schedules of which no two differ only in the order of independent steps"


class _Sequence(NamedTuple):
    """Steps that lead to something new."""

    # The threads that take them.
    ids: list[int]
    footprints: list[Footprint]
    # Of each step, which of the earlier ones it must come after.
    before: list[set[int]]

    def initial(self, number: int, left: list[int]) -> int | None:
        """The first step of thread `number` among those that are `left`, if it could be the first of them all."""
        for place, at in enumerate(left):
            if self.ids[at] == number:
                return at if self.before[at].isdisjoint(left[:place]) else None
        return None


# By these a thread takes a lock; those it does while it holds one.
_TAKES = frozenset(("acquire", "wake"))
_HOLDS = frozenset(("notify", "release", "wait"))


class _Races(Order):
    """Finds the races of an execution, and notes what would be if they had gone the other way."""

    def __init__(self, dpor: DPOR) -> None:
        super().__init__(dpor)
        self._dpor = dpor

    def find(self, ends: list[Event]) -> None:
        """Look at each step, in their order; then at those that threads still waited to take at the end."""
        # Steps up to there were looked at after an earlier execution.
        known = self._dpor.known - 1
        for place, event, released in self.steps():
            if place >= known:
                for first in self._races_of(event):
                    self._reverse(first, event, place, released)
        for event in ends:
            if event.id in self.now:
                for first in self._races_of(event):
                    self._reverse(first, event, len(self.events), None)

    def _races_of(self, event: Event) -> list[int]:
        """The steps that `event` races with, the latest first."""
        candidates = self.dependent_on(event)
        races: list[int] = []
        if not candidates:
            return races
        known = self.now[event.id]
        covered = [0] * self.threads
        for at in sorted(candidates, reverse=True):
            other = self.events[at]
            ordinal = self.ordinals[at]
            if ordinal <= known[other.id] or ordinal <= covered[other.id]:
                continue  # Something else has put them in order.
            could = self._could_have_come(event, at)
            if could is False:
                continue
            races.append(at)
            if could:
                join(covered, self.clocks[at])
        return races

    def _could_have_come(self, event: Event, at: int) -> bool | None:
        """Could the thread of `event` have taken it in place of step `at`? None if that can't be said."""
        if not event.guarded:
            return True
        other = self.events[at]
        if at > event.arrived:
            return event.id in other.enabled
        if event.op == "join":
            return False  # The other is the end of the thread that is joined.
        is_lock = any(thing in self._dpor.exclusive for thing, _part, _way in other.footprint)
        if is_lock and other.op in _HOLDS:
            return False
        # Where the other waited until it could be taken, this one could be. (One that does not wait may have failed.)
        if other.guarded and (event.op == other.op or (is_lock and other.op in _TAKES)):
            return True
        return None

    def _reverse(self, first: int, event: Event, second: int, released: Clock | None) -> None:
        """Note the schedule in which `event`, which is step `second`, comes without step `first`."""
        events, clocks, ordinals = self.events, self.clocks, self.ordinals
        thread, ordinal = events[first].id, ordinals[first]
        places = [at for at in range(first + 1, second) if clocks[at][thread] < ordinal]
        before = [
            {i for i, at in enumerate(places[:j]) if clocks[place][events[at].id] >= ordinals[at]}
            for j, place in enumerate(places)
        ]
        clock = list(self.now[event.id])
        # If it could be taken there, it needs nothing of what let it go on later.
        if released is not None and not (event.arrived < first and event.id in events[first].enabled):
            join(clock, released)
        for at in self.dependent_on(event):
            if at < first or clocks[at][thread] < ordinal:
                join(clock, clocks[at])
        before.append({i for i, at in enumerate(places) if clock[events[at].id] >= ordinals[at]})
        steps = [*(events[at] for at in places), event]
        sequence = _Sequence([step.id for step in steps], [step.footprint for step in steps], before)
        self._dpor.insert(self._dpor.nodes[first], sequence)
