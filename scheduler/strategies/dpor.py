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

Rejected: to take a sequence for seen where a thread sleeps that takes none of its steps, and could as well come first
(a *weak initial*, as the papers have it). It was seen then that the thread comes first, not that it comes later, after
a step that it depends on; the race with that one leads here again, where it is taken for noted already, for a branch
that repeats others (further down than the first step of a branch we don't know what it does) begins in the same way.
To do without costs few executions that are abandoned: of the dining philosophers 1 beside 30, of six of them 5 beside
62, none of buffers and readers.

Rejected: to take a thread's first step, which depends on nothing, as soon as it is there, and to note no step for it.
It saves no time, and where waits may end early it counts as a turn that the thread has had.

A wakeup sequence is followed by its threads alone, and compared only by what one execution has shown. Which step comes
before which, see happened.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from scheduler.strategies.happened import Footprint, Recording, Step, Steps, dependent, places
from scheduler.strategy import Abandon, Choice

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["DPOR"]


# A wakeup tree: who takes the first step, for each way to go on, and what follows it.
_Tree: TypeAlias = "dict[int, _Tree]"

# Nobody sleeps, as in most states. Never written to.
_AWAKE: dict[int, Footprint] = {}


class _Node(Step):
    """A state: what could be done in it, what was, and what is to be. Kept while executions share it."""

    __slots__ = ("asleep", "branches")

    def __init__(
        self,
        choices: dict[int, Footprint],
        released: Sequence[int],
        number: int,
        asleep: dict[int, Footprint],
        branches: _Tree | None,
    ) -> None:
        # `Step.__init__`, written out.
        self.choices = choices
        self.released = released
        self.id = number
        self.asleep = asleep
        # What to explore from here, if more is known than who takes the step. (What is being explored is among it.)
        self.branches = branches


class DPOR(Recording[_Node]):
    """Every execution, up to the order of independent steps."""

    name = "dpor"

    def __init__(self) -> None:
        super().__init__()
        self._is_first = True
        # Executions that turned out to repeat others, and were abandoned.
        self.redundant = 0
        # Whether the one that runs does.
        self._is_abandoned = False

    def begin(self) -> bool:
        """See `Strategy`."""
        if self._is_first:
            self._is_first = False
        elif not self._backtrack():
            self.exhausted = self.complete = True
            return False
        self.forget()
        self._is_abandoned = False
        return True

    def begin_anew(self) -> None:
        """See `Recording`."""
        super().begin_anew()
        self._is_first = True

    def _backtrack(self) -> bool:
        """Give up the deepest states that have nothing left; False if none has anything."""
        nodes = self.nodes
        while nodes:
            node = nodes[-1]
            if node.footprint:
                self.take_back(node, len(nodes) - 1)
            branches = node.branches
            if branches is not None and len(branches) > 1:
                del branches[node.id]
                if node.id >= 0:
                    node.asleep = {**node.asleep, node.id: node.footprint}
                for number in list(branches):
                    if number not in node.asleep and number in node.choices:
                        node.id = number
                        return True
                    del branches[number]
            nodes.pop()
        return False

    # ---- During an execution ----------------------------------------------------------------------------------------

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """See `Strategy`. Here there may be a single choice."""
        nodes = self.nodes
        if self.depth < len(nodes):
            node = nodes[self.depth]
            self.again(node, choices)
        else:
            node = self._new_node(choices, running)
            nodes.append(node)
        number = node.id
        for chosen in choices:
            if chosen.id == number:
                self.take(node, chosen)
                if chosen.op in _HOLDS and _is_open(chosen.obj):
                    node.op = "in vain"  # Without the lock it fails, and to take the lock could well come first.
                return chosen
        node.footprint = ()
        self._is_abandoned = True
        raise Abandon

    def _new_node(self, choices: Sequence[Choice], running: Choice | None) -> _Node:
        """A state that was not seen before, and who takes a step in it: nobody, if all sleep."""
        footprints, released = self.footprints(choices)
        asleep = _AWAKE
        if self.nodes:
            above = self.nodes[-1]
            if above.asleep:
                asleep = {
                    number: footprint
                    for number, footprint in above.asleep.items()
                    if number != above.id and not dependent(footprint, above.footprint)
                }
            then = None if above.branches is None else above.branches[above.id]
            if then:
                branches = {each: then[each] for each in then if each in footprints and each not in asleep}
                if branches:
                    return _Node(footprints, released, next(iter(branches)), asleep, branches)
        if running is not None and running.id not in asleep and running.op != "yield":
            number = running.id
        else:
            number = next((each for each in footprints if each not in asleep), -1)
        return _Node(footprints, released, number, asleep, None)

    # ---- After an execution -----------------------------------------------------------------------------------------

    def end(self, trace: Sequence[tuple[int, str]], waiting: Sequence[Choice]) -> None:
        """See `Strategy`."""
        if self._is_abandoned:
            self.redundant += 1
        else:
            _Races(self).find(self.unfinished(waiting))
            self.late.clear()
        super().end(trace, waiting)

    def insert(self, node: _Node, sequence: _Sequence) -> None:
        """Note that `sequence`, taken from `node` on, leads to something new, unless it is known that it does not."""
        left = sequence.places
        # Not whether one that sleeps is left alone by it: see the top of this file.
        for number in node.asleep:
            if sequence.initial(number, left):
                return
        if node.branches is None:
            node.branches = {node.id: {}}
        branches = node.branches
        while True:
            for number, then in branches.items():
                first = sequence.initial(number, left)
                if not first and not (
                    # Further down it is not known what a branch does.
                    branches is node.branches
                    and number in node.choices
                    and self._is_left_alone(number, node.choices[number], sequence)
                ):
                    continue
                left ^= first
                if not left or not then:
                    return
                branches = then
                break
            else:
                for at in places(left):
                    branches[sequence.step(at).id] = branches = {}
                return

    def _is_left_alone(self, number: int, footprint: Footprint, sequence: _Sequence) -> bool:
        """Whether a thread takes none of the steps, and could as well take its own before them as after them.

        (It is a *weak initial*, then.) What follows may depend on its step, but then the two race. Not so where waits
        may end: whether they may is a matter of all threads. Then less is taken for seen, and an execution may turn out
        to repeat others, and be abandoned.
        """
        if self.is_timed or sequence.steps_of(number):
            return False
        return not any(dependent(footprint, sequence.step(at).footprint) for at in places(sequence.places))

    def coverage(self) -> str:
        """See `Strategy`."""
        if self.exhausted:
            return "every schedule, up to the order of independent steps,"
        return "schedules of which no two differ only in the order of independent steps"


class _Sequence:
    """Steps that lead to something new: some of an execution, and `event`, which comes last, in the place `second`."""

    def __init__(self, order: _Races, between: Steps, event: Step, second: int, before: Steps) -> None:
        self._order = order
        self._event = event
        self._second = second
        self._before = before
        self.places = between | 1 << second

    def step(self, at: int) -> Step:
        """The step in that place."""
        return self._event if at == self._second else self._order.steps[at]

    def steps_of(self, number: int) -> Steps:
        """Those of a thread."""
        steps = self._order.of.get(number, 0)
        if number == self._event.id:
            steps |= 1 << self._second
        return steps & self.places

    def initial(self, number: int, left: Steps) -> Steps:
        """The first step of thread `number` among those that are `left`, if it could be the first of them all."""
        mine = self.steps_of(number) & left
        if not mine:
            return 0
        first = mine & -mine
        at = first.bit_length() - 1
        before = self._before if at == self._second else self._order.steps[at].before
        return 0 if before & left & (first - 1) else first


# By these a thread takes a lock; those it does while it holds one.
_TAKES = frozenset(("acquire", "wake"))
_HOLDS = frozenset(("notify", "release", "wait"))


def _is_open(obj: Any) -> bool:
    """Whether `obj`, or the lock of that condition, is a lock that nobody holds."""
    lock = getattr(obj, "opened_by_waiting", obj)
    return bool(getattr(type(lock), "is_exclusive", False)) and bool(lock.is_open)


class _Races:
    """Finds the races of an execution, and notes what would be if they had gone the other way."""

    def __init__(self, dpor: DPOR) -> None:
        self._dpor = dpor
        self.steps = dpor.nodes
        self.of = dpor.of

    def find(self, ends: list[Step]) -> None:
        """Look at each step that may be in one, in their order; then at those that were not taken any more."""
        dpor = self._dpor
        for late in dpor.late:
            self._look_at(*late)
        for end in ends:
            if end.id in dpor.now:
                self._look_at(dpor.depth, end, dpor.dependent_on(end.footprint), dpor.now[end.id], 0)

    def _look_at(self, place: int, event: Step, depends: Steps, now: Steps, released: Steps) -> None:
        """Reverse the races of `event` with steps that it `depends` on, the latest first."""
        left = depends & ~now  # With those nothing else has put it in order.
        while left:
            at = left.bit_length() - 1
            could = self._could_have_come(event, at)
            if could is not False:
                self._reverse(at, event, place, depends, now, released)
            left &= ~(self.steps[at].before if could else 1 << at)

    def _could_have_come(self, event: Step, at: int) -> bool | None:
        """Could the thread of `event` have taken it in place of step `at`? None if that can't be said."""
        if not event.guarded:
            return True
        other = self.steps[at]
        if at > event.arrived:
            return event.id in other.choices
        if event.op == "join" and other.op in ("start", "end"):
            return False  # Of the thread that is joined. (A queue is joined, too: that could have come before a `put`.)
        is_lock = any(part.thing.is_exclusive for part, _way in other.footprint)
        if is_lock and other.op in _HOLDS:
            return False
        # Where the other waited until it could be taken, this one could be. (One that does not wait may have failed.)
        if other.guarded and (event.op == other.op or (is_lock and other.op in _TAKES)):
            return True
        return None

    def _reverse(
        self, first: int, event: Step, second: int, depends: Steps, before: Steps, released: Steps
    ) -> None:
        """Note the schedule in which `event`, which is step `second`, comes without step `first`."""
        steps = self.steps
        between = 0
        for at in range(first + 1, second):
            if not steps[at].before >> first & 1:
                between |= 1 << at
        # If it could be taken there, it needs nothing of what let it go on later.
        if not (event.arrived < first and event.id in steps[first].choices):
            before |= released
        before = self._dpor.closed(before, depends & (between | (1 << first) - 1))
        self._dpor.insert(steps[first], _Sequence(self, between, event, second, before))
