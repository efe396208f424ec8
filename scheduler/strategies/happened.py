"""What happened in an execution: its steps, what each of them touched, and which come before which.

For strategies that reduce. They note every step as it is taken, and what comes before it; of those that depend on a
step that nothing else puts before them they hear at the end. One step comes before another if it does so in every
execution of the same class: it is the same thread's, or the two are dependent, or something in between links them so.

**Sets of steps** are integers: bit `n` stands for step `n` of the execution. What comes before a step is such a set,
and so is what an object has been touched by; to join two, or to ask whether one step comes before another, is a single
operation of C. (Rejected: vector clocks, a list for each step. They took three times as long in Python.)

**Executions that begin alike** share their steps, and what is known of these: what touched what is taken back, step by
step, to where they part. So what an execution costs here goes by the steps that are new in it.

**Operations that wait.** What let a thread go on comes before what it does then, but not before it began to wait. So a
thread has two sets: what came before it stood where it stands (`now`), and what has let it go on since.

**Time.** That no thread can go on is a fact about all of them, so everything before a jump of time comes before
everything after it.

**Names.** Steps outlive executions, objects do not. An object is known by a number, in the order in which pending
operations first name them; the same decisions give the same numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeAlias, TypeVar

from scheduler.control import WHOLE
from scheduler.dependence import (
    CHANGE,
    INTERRUPTS,
    JOIN_IN,
    LOOK,
    PLAIN,
    comparable,
    go_together,
    may_be_address,
    touches,
)
from scheduler.errors import ReplayDivergence
from scheduler.strategy import Choice, Strategy

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Footprint", "Late", "Part", "Recording", "Step", "Steps", "dependent", "places"]

# A set of steps.
Steps = int


class _Thing:
    """What goes by one number: an object, in each execution another one."""

    __slots__ = ("is_exclusive", "parts")

    def __init__(self) -> None:
        # Whether it is a lock, or like one.
        self.is_exclusive = False
        self.parts: dict[Any, Part] = {}

    def part(self, name: Any) -> Part:
        """A part of it; there is one for each name."""
        found = self.parts.get(name)
        if found is None:
            if may_be_address(name):
                # A key that is an `id`: another one in each execution. One part for all of them: no order is missed.
                return self.part(WHOLE)
            found = self.parts[name] = Part(self, name)
            whole = self.parts.get(WHOLE)
            if found is whole:
                found.overlapping = list(self.parts.values())
                for each in self.parts.values():
                    if each is not whole:
                        each.overlapping = [each, whole]
            elif whole is not None:
                found.overlapping = [found, whole]
                whole.overlapping.append(found)
        return found


class Part:
    """A part of a thing, and for each way to touch it, the steps that did."""

    __slots__ = ("name", "overlapping", "steps", "thing")

    def __init__(self, thing: _Thing, name: Any) -> None:
        self.thing = thing
        self.name = name
        self.steps: list[Steps] = [0, 0, 0]
        # The parts that are touched where this one is.
        self.overlapping = [self]


# What a step touches, and in which way, see scheduler.dependence.
Footprint = tuple[tuple[Part, int], ...]

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
    # The steps that come before it, itself included.
    before: Steps

    def __init__(self, choices: dict[int, Footprint], released: Sequence[int], number: int) -> None:
        # Who could go on, and what it would touch; and who of them could not before the last step.
        self.choices = choices
        self.released = released
        # Who takes it; -1 if nobody does.
        self.id = number


S = TypeVar("S", bound=Step)

# A step that depends on others which nothing else has put before it: its place; the steps before it that depend on the
# same, of its own thread too; what came before its thread stood there, and what has let it go on since.
Late: TypeAlias = "tuple[int, S, Steps, Steps, Steps]"


class Recording(Strategy, Generic[S]):
    """A strategy that notes each step as it is taken, from the start of the second thread on.

    What comes before that comes before everything.
    """

    wants_every_step = True
    wants_prelude = False

    def __init__(self) -> None:
        # Whether time has ever passed, or a wait could have ended.
        self.is_timed = False
        # Whether any thread has been interrupted by another: then each step depends on that.
        self.has_interrupts = False
        self._saw_interrupt = False
        # The steps of the execution. It begins like the one before it, with those that are there at its beginning; the
        # last of these is the one that another thread takes this time.
        self.nodes: list[S] = []
        # Those that nobody has looked at yet, in their order.
        self.late: list[Late[S]] = []
        self._things: list[_Thing] = []
        self.forget()

    def forget(self) -> None:
        """Begin with the next execution."""
        self.depth = 0
        # How many steps are those of the last execution.
        self._same = same = max(0, len(self.nodes) - 1)
        late = self.late
        while late and late[-1][0] >= same:
            late.pop()
        # Of each thread that has begun: its steps, and what comes before whatever it does next.
        self.of: dict[int, Steps] = {}
        self.now: dict[int, Steps] = {}
        # Of threads that waited and may go on: what let them.
        self._released: dict[int, Steps] = {}
        # By the id of an object, what it is known as. The objects are kept, so that no other gets their ids.
        self._known: dict[int, _Thing] = {}
        self._objects: list[Any] = []
        # By thread, until it takes its next step: its operation, and what that touches. (That of a timed wait that may
        # end has another name than the wait's own.)
        self._pending: dict[int, tuple[str, Footprint]] = {}

    def end(self, trace: Sequence[tuple[int, str]], waiting: Sequence[Choice]) -> None:
        """See `Strategy`. What the program has made is not kept alive any longer."""
        if self._saw_interrupt and not self.has_interrupts:
            # All is to be seen with other eyes: begin anew.
            self.has_interrupts = True
            self.begin_anew()
        self._objects = []
        self._pending = {}

    def begin_anew(self) -> None:
        """Forget what was seen: the next execution is the first."""
        self.nodes.clear()
        self.late.clear()
        self._things.clear()

    def footprints(self, choices: Sequence[Choice]) -> tuple[dict[int, Footprint], Sequence[int]]:
        """What the pending operations of threads touch, by thread; and which threads could not go on before."""
        found = {}
        released: Sequence[int] = ()
        pending = self._pending
        before = self.nodes[-1].choices if self.nodes else ()
        for choice in choices:
            number = choice.id
            known = pending.get(number)
            if known is not None and known[0] is choice.op:
                found[number] = known[1]
            else:
                found[number] = footprint = self.footprint(choice)
                if choice.op != "end":  # What that means depends on who is left.
                    pending[number] = (choice.op, footprint)
            if number not in before:
                released = (*released, number)
        return found, released

    def footprint(self, choice: Choice) -> Footprint:
        """What the pending operation of a thread touches."""
        if choice.op == "interrupt":
            self._saw_interrupt = True
        parts = choice.footprint
        if parts is not None and not (choice.beside or choice.daemon or choice.within or self.has_interrupts):
            # Memory, as most often: `touches`, written out.
            thing = self._known.get(id(choice.obj)) or self._thing(choice.obj)
            return tuple(
                [
                    (thing.part(part if type(part) in PLAIN else comparable(part)), CHANGE if writes else LOOK)
                    for part, writes in parts
                ]
            )
        if choice.op in _TIMED:
            self.is_timed = True
        touched = touches(choice)
        if self.has_interrupts and choice.op != "interrupt":
            touched = [*touched, (INTERRUPTS, None, LOOK)]
        return tuple([(self.part(obj, part), way) for obj, part, way in touched]) if touched else ()

    def part(self, obj: object, part: Any) -> Part:
        """A part of an object."""
        return (self._known.get(id(obj)) or self._thing(obj)).part(part)

    def _thing(self, obj: object) -> _Thing:
        number = len(self._objects)
        if number == len(self._things):
            self._things.append(_Thing())
        thing = self._known[id(obj)] = self._things[number]
        thing.is_exclusive = bool(getattr(type(obj), "is_exclusive", False))
        self._objects.append(obj)
        return thing

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
        place = self.depth
        self.depth = place + 1
        if node.released:
            self._release(place, node.released)
        released = self._released.pop(number, 0) if self._released else 0
        of = self.of
        mine = of.get(number, 0)
        if place >= self._same:
            node.op = chosen.op
            node.footprint = footprint = node.choices[number]
            node.guarded = chosen.guarded
            node.arrived = mine.bit_length() - 1
            now = self.now[number]
            before = now | released
            bit = 1 << place
            if footprint:
                depends = self.dependent_on(footprint)
                if depends & ~now:
                    self.late.append((place, node, depends, now, released))
                    before = self.closed(before, depends)
                for part, way in footprint:
                    part.steps[way] |= bit
            node.before = before | bit
        self.now[number] = node.before
        of[number] = mine | 1 << place

    def take_back(self, node: S, place: int) -> None:
        """The step in that place, the last one, is not taken any more."""
        before = (1 << place) - 1
        for part, way in node.footprint:
            part.steps[way] &= before

    def time_passes(self) -> None:
        """See `Strategy`. All that was comes before all that will be."""
        self.is_timed = True
        # What threads wait to do now they have begun to wait for before: it may race with what was.
        for number in self.now:
            self._released[number] = (1 << self.depth) - 1

    def _release(self, place: int, numbers: Sequence[int]) -> None:
        """The step before `place` has started these threads, or has let them go on."""
        if not place:
            # The main thread was there before, maybe in the middle of a wait.
            self.now.update(dict.fromkeys((0, *numbers), 0))
            return
        before = self.nodes[place - 1].before
        for number in numbers:
            if number not in self.now:
                self.now[number] = before
            else:
                self._released[number] = self._released.get(number, 0) | before

    def unfinished(self, waiting: Sequence[Choice]) -> list[Step]:
        """Steps that were never taken: they might have been, had they come before others."""
        steps = []
        for each in waiting:
            step = Step({}, (), each.id)
            step.op, step.guarded = each.op, each.guarded
            step.footprint = self.footprint(each)
            step.arrived = self.of.get(each.id, 0).bit_length() - 1
            steps.append(step)
        return steps

    # ---- Sets of steps -----------------------------------------------------------------------------------------------

    def closed(self, before: Steps, more: Steps) -> Steps:
        """`before`, with the steps `more` and all that comes before these."""
        more &= ~before
        while more:
            before |= self.nodes[more.bit_length() - 1].before
            more &= ~before
        return before

    def dependent_on(self, footprint: Footprint) -> Steps:
        """The steps so far that depend on the same, of its own thread too."""
        found = 0
        for part, way in footprint:
            one, two, three = _AGAINST[way]
            for each in part.overlapping:
                steps = each.steps
                found |= steps[one] | steps[two] | steps[three]
        return found


# By the way in which a step touches something: the ways with which that does not go together, one of them maybe twice.
_AGAINST = [
    ([way for way in (LOOK, CHANGE, JOIN_IN) if not go_together(way, other)] * 2)[:3]
    for other in (LOOK, CHANGE, JOIN_IN)
]


def places(steps: Steps) -> Iterator[int]:
    """Where the steps of a set are, the first one first."""
    while steps:
        first = steps & -steps
        yield first.bit_length() - 1
        steps ^= first


def dependent(one: Footprint, other: Footprint) -> bool:
    """Whether two steps, of different threads, are dependent."""
    for part, way in one:
        for also, other_way in other:
            if part.thing is also.thing and also in part.overlapping and not go_together(way, other_way):
                return True
    return False
