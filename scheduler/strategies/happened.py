"""What happened in an execution: its steps, what each of them touched, and which come before which.

For strategies that reduce: they note every step as it is taken (`Recording`), and look back at the end (`Order`). One
step comes before another if it does so in every execution of the same class: it is the same thread's, or the two are
dependent, or something in between links them so.

**Sets of steps** are integers: bit `n` stands for step `n` of the execution. What comes before a step is such a set,
and so is what an object has been touched by; to join two, or to ask whether one step comes before another, is a single
operation of C. (Rejected: vector clocks, a list for each step. They took three times as long in Python.)

**Operations that wait.** What let a thread go on comes before what it does then, but not before it began to wait. So a
thread has two sets: what came before it stood where it stands (`now`), and what has let it go on since.

**Time.** That no thread can go on is a fact about all of them, so everything before a jump of time comes before
everything after it.

**Names.** Steps outlive executions, objects do not. An object is known by a number, in the order in which pending
operations first name them; the same decisions give the same numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

from scheduler.control import WHOLE
from scheduler.dependence import CHANGE, JOIN_IN, LOOK, PLAIN, comparable, go_together, same_part, touches
from scheduler.errors import ReplayDivergence
from scheduler.strategy import Choice, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Footprint", "Order", "Recording", "Step", "Steps", "dependent", "places"]

# What a step touches: (number of the object, part, way), see scheduler.dependence.
Footprint = tuple[tuple[int, Any, int], ...]
# A set of steps.
Steps = int

_TIMED = frozenset(("expire", "sleep", "timeout"))


class Step:
    """A step that was taken, or that a thread waits to take; strategies keep what they know of the state before it."""

    __slots__ = ("arrived", "before", "choices", "footprint", "guarded", "id", "op", "released")

    # Of the step that is taken, set by `Recording.take`: what it does, and touches.
    op: str
    footprint: Footprint
    # Whether something could have kept the thread from taking it.
    guarded: bool
    # Where the thread's step before this one is; -1 if it has none.
    arrived: int
    # The steps that come before it, itself included. Known once the execution was looked back at.
    before: Steps

    def __init__(self, choices: dict[int, Footprint], released: Sequence[int], number: int) -> None:
        # Who could go on, and what it would touch; and who of them could not before the last step.
        self.choices = choices
        self.released = released
        # Who takes it; -1 if nobody does.
        self.id = number


S = TypeVar("S", bound=Step)


class Recording(Strategy, Generic[S]):
    """A strategy that notes each step as it is taken, from the start of the second thread on.

    What comes before that comes before everything.
    """

    wants_every_step = True
    wants_prelude = False

    def __init__(self) -> None:
        # Whether time has ever passed, or a wait could have ended.
        self.is_timed = False
        # The steps of the execution. It begins like the one before it, with those that are there at its beginning; the
        # last of these is the one that another thread takes this time.
        self.nodes: list[S] = []
        # How many of them were looked back at.
        self.looked_at = 0
        self.forget()

    def forget(self) -> None:
        """Begin with the next execution."""
        self.depth = 0
        # How many steps are those of the last execution.
        self._same = max(0, len(self.nodes) - 1)
        self.looked_at = min(self.looked_at, self._same)
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

    def footprints(self, choices: Sequence[Choice]) -> tuple[dict[int, Footprint], list[int]]:
        """What the pending operations of threads touch, by thread; and which threads could not go on before."""
        found = {}
        released = []
        pending = self._pending
        before = self.nodes[-1].choices if self.nodes else ()
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
            if number not in before:
                released.append(number)
        return found, released

    def footprint(self, choice: Choice) -> Footprint:
        """What the pending operation of a thread touches."""
        parts = choice.footprint
        if parts is not None and not choice.beside and not choice.daemon:
            # Memory, as most often: `touches`, written out.
            number = self._number(choice.obj)
            return tuple(
                [
                    (number, part if type(part) in PLAIN else comparable(part), CHANGE if writes else LOOK)
                    for part, writes in parts
                ]
            )
        if choice.op in _TIMED:
            self.is_timed = True
        return tuple([(self.number(obj), part, way) for obj, part, way in touches(choice)])

    def number(self, obj: object) -> int:
        """The number of an object."""
        number = self._number(obj)
        if getattr(type(obj), "is_exclusive", False):
            self.exclusive.add(number)
        return number

    def _number(self, obj: object) -> int:
        number = self._numbers.get(id(obj))
        if number is None:
            number = self._numbers[id(obj)] = len(self._objects)
            self._objects.append(obj)  # Kept, so that no other gets its id.
        return number

    def again(self, node: S, choices: Sequence[Choice]) -> None:
        """Hold a state to what it was in the execution before. ReplayDivergence if it is another."""
        known = node.choices
        pending = self._pending
        for choice in choices:
            number = choice.id
            before = pending.get(number)
            if before is None or before[0] is not choice.op:
                footprint = self.footprint(choice)
                if known.get(number) != footprint:
                    break
                if choice.op != "end":
                    pending[number] = (choice.op, footprint)
            elif number not in known:
                break
        else:
            if len(choices) == len(known):
                return
        raise ReplayDivergence(self.depth, (node.id, node.op), [(choice.id, choice.op) for choice in choices])

    def take(self, node: S, chosen: Choice) -> None:
        """`chosen` takes the next step, in the state `node`."""
        number = node.id
        self._pending.pop(number, None)
        depth = self.depth
        if depth >= self._same:
            node.op = chosen.op
            node.footprint = node.choices[number]
            node.guarded = chosen.guarded
            node.arrived = self._last_of.get(number, -1)
        self._last_of[number] = depth
        self.depth = depth + 1

    def time_passes(self) -> None:
        """See `Strategy`."""
        self.is_timed = True
        self.jumps.append(self.depth)

    def unfinished(self, waiting: Sequence[Choice]) -> list[Step]:
        """Steps that were never taken: they might have been, had they come before others."""
        steps = []
        for each in waiting:
            step = Step({}, (), each.id)
            step.op, step.guarded = each.op, each.guarded
            step.footprint = self.footprint(each)
            step.arrived = self._last_of.get(each.id, -1)
            steps.append(step)
        return steps


# By the way in which a step touches something: the ways with which that does not go together.
_AGAINST = [
    [way for way in (LOOK, CHANGE, JOIN_IN) if not go_together(way, other)] for other in (LOOK, CHANGE, JOIN_IN)
]


class Order(Generic[S]):
    """The order of an execution's steps."""

    def __init__(self, recording: Recording[S]) -> None:
        self.steps = recording.nodes
        self._depth = recording.depth
        self._recording = recording
        self._jumps = recording.jumps
        # Of each thread that has begun: its steps, and what comes before whatever it does next.
        self.of: dict[int, Steps] = {}
        self.now: dict[int, Steps] = {}
        # Of threads that waited and may go on: what let them.
        self._released: dict[int, Steps] = {}
        # By the number of an object and the part of it, for each way to touch it: the steps that depend on that.
        self._touched: dict[int, dict[Any, list[Steps]]] = {}

    def walk(self) -> Iterator[tuple[int, S, Steps, Steps]]:
        """Each step that was not looked at before, with its place.

        And with the steps before it that depend on the same, of its own thread too, and those that let its thread go
        on. While it is looked at, all before it is known.
        """
        jumps, released, of, now, touched = self._jumps, self._released, self.of, self.now, self._touched
        looked_at, self._recording.looked_at = self._recording.looked_at, self._depth
        for place in range(self._depth):
            step = self.steps[place]
            number = step.id
            if place in jumps:
                self._let_time_pass(place)
            if step.released:
                self._release(place, step.released)
            let_go = released.pop(number, 0) if released else 0
            bit = 1 << place
            if place >= looked_at:
                depends = self.dependent_on(step.footprint)
                yield place, step, depends, let_go
                step.before = self.closed(now[number] | let_go, depends) | bit
            now[number] = step.before
            of[number] = of.get(number, 0) | bit
            for thing, part, way in step.footprint:
                parts = touched.get(thing)
                if parts is None:
                    parts = touched[thing] = {}
                steps = parts.get(part)
                if steps is None:
                    steps = parts[part] = [0, 0, 0]
                for each in _AGAINST[way]:
                    steps[each] |= bit
        if self._depth in jumps:
            self._let_time_pass(self._depth)

    def _let_time_pass(self, place: int) -> None:
        """All that was comes before all that will be."""
        # What threads wait to do now they have begun to wait for before: it may race with what was.
        for number in self.now:
            self._released[number] = (1 << place) - 1

    def _release(self, place: int, numbers: Sequence[int]) -> None:
        """The step before `place` has started these threads, or has let them go on."""
        if not place:
            # The main thread was there before, maybe in the middle of a wait.
            self.now.update(dict.fromkeys((0, *numbers), 0))
            return
        before = self.steps[place - 1].before
        for number in numbers:
            if number not in self.now:
                self.now[number] = before
            else:
                self._released[number] = self._released.get(number, 0) | before

    def closed(self, before: Steps, more: Steps) -> Steps:
        """`before`, with the steps `more` and all that comes before these."""
        more &= ~before
        while more:
            before |= self.steps[more.bit_length() - 1].before
            more &= ~before
        return before

    def dependent_on(self, footprint: Footprint) -> Steps:
        """The steps before it that depend on the same, of its own thread too."""
        found = 0
        for thing, part, way in footprint:
            parts = self._touched.get(thing)
            if parts is None:
                continue
            if part is WHOLE:
                for steps in parts.values():
                    found |= steps[way]
                continue
            if part in parts:
                found |= parts[part][way]
            if WHOLE in parts:
                found |= parts[WHOLE][way]
        return found


def places(steps: Steps) -> Iterator[int]:
    """Where the steps of a set are, the first one first."""
    while steps:
        first = steps & -steps
        yield first.bit_length() - 1
        steps ^= first


def dependent(one: Footprint, other: Footprint) -> bool:
    """Whether two steps, of different threads, are dependent."""
    for thing, part, way in one:
        for also, other_part, other_way in other:
            if thing == also and not go_together(way, other_way) and same_part(part, other_part):
                return True
    return False
