"""DPOR within a bound on preemptions: every schedule of at most so many of them, up to the order of independent steps.

Bounded partial order reduction (Coons, Musuvathi and McKinley, "Bounded partial-order reduction", OOPSLA 2013). To cut
the executions of `DPOR` off where they exceed a bound would miss schedules within it: it tries one execution of each
class, and an equivalent one may have fewer preemptions; and what it tries next it learns from executions that may be
cut off. So every execution here keeps to the bound, and steps that are independent are still told apart where their
order costs something.

**Blocks.** To leave a thread is free where it is blocked, has ended, or is about to yield. What it does between two
such places is a *block*; a block is begun for free, or by a preemption, and within it to go on is always free.

**Where to turn back.** Let a step `v` depend on a step of another thread `p`, with nothing else to put them in order.
As in DPOR, what leads to `v` is to be tried in place of that step. That costs a preemption where `p` could go on. It
may be had for less where the block began: there, too, and where earlier blocks of `p` began that do not come before
what leads to `v` (these are the paper's conservative points). What is tried is a thread that takes one of the steps
that come before `v` and can be first of them, unless such a one has been tried there.

**Why nothing is missed.** Let `s` be a state that was visited, and `w` what can happen from there within the bound. By
induction all of it was visited for each thread `p` that was tried in `s`. Say that `w` *excludes* `p` with the first of
its steps that depends on a step of p's block (or, if `p` was running, on its one step), before `p` has moved; or by
leaving a thread blocked that such a step lets go on, since to leave it would cost more after that.
- If `w` does not exclude `p`, its steps of p's block that come first may as well be taken at once: that moves the start
  of a block, and costs no more. So what `w` leads to was visited. (If `w` has no step of `p` at all, the whole block
  can be put before it: it ends where to leave `p` is free.)
- If `w` excludes all that were tried, take the one that it excludes first, by `v`. The whole block of `p`, then what
  leads to `v`, then `v`, keeps to the bound, so it was visited; there `v` was found to depend on `p`, and a thread `q`
  was tried in `s` that moves before `v`. Then `w` excludes `q` even before `v`: a contradiction.

**Operations that wait.** Where `v` may have to wait, what let it go on at last need not be what leads to it: the block
of `p` may have taken the room for which `v` then waited until another thread made some. So each step of `p` that it
depends on is taken for the one in its way; what leads to `v` is what does not come after that one; and each thread that
can be first of this is tried, for it may lead to something that `v` does not need.

Rejected: sleep sets. That a thread was tried in `s` says that all was seen that does not exclude its *block*; but a
step of another thread wakes it only if it depends on the step that is asleep. And where the thread sleeps that would
have to be tried for `v`, the induction has nothing to stand on. So executions may repeat others, up to equivalence.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.dependence import CHANGE, EXECUTION
from scheduler.errors import ReplayDivergence
from scheduler.strategies.happened import Clock, Event, Footprint, Order, Recording, join

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.strategy import Choice

__all__ = ["BoundedDPOR"]


class _Node:
    """A state: who could go on, who was tried, who is to be. Kept while executions share it."""

    __slots__ = ("begins", "chosen", "cost", "footprints", "free", "op", "running", "to_try", "tried")

    def __init__(self, footprints: dict[int, Footprint], cost: int, running: Choice | None) -> None:
        self.footprints = footprints
        # How many preemptions there were before.
        self.cost = cost
        self.running = -1 if running is None else running.id
        # Whether any thread may go on without a preemption.
        self.free = running is None or running.op == "yield"
        self.to_try: list[int] = []
        self.tried: set[int] = set()
        self.chosen = -1
        self.op = ""
        # Whether the step that was chosen begins a block.
        self.begins = True

    def choose(self, number: int) -> None:
        self.chosen = number
        self.tried.add(number)
        self.begins = self.free or number != self.running

    @property
    def spent(self) -> int:
        """How many preemptions there are with the step that was chosen."""
        return self.cost + (self.begins and not self.free)


class BoundedDPOR(Recording):
    """Every execution of at most `bound` preemptions, up to the order of independent steps."""

    name = "dpor"

    def __init__(self, bound: int) -> None:
        if bound < 0:
            raise ValueError(f"the bound on preemptions must be at least 0, not {bound}")
        super().__init__()
        self._bound = bound
        self.nodes: list[_Node] = []
        # How many nodes were there when the execution began: what happened up to them has been looked at before.
        self.known = 0
        # Whether the bound has kept anything from being tried.
        self._is_cut = False
        # Whether there are daemons; see `footprint`.
        self._has_daemons = False

    def begin(self) -> bool:
        """See `Strategy`."""
        nodes = self.nodes
        if self.known:
            while nodes and not nodes[-1].to_try:
                nodes.pop()
            if not nodes:
                self.complete = True
                self.exhausted = not self._is_cut
                return False
            nodes[-1].choose(nodes[-1].to_try.pop())
        self.known = max(1, len(nodes))
        self.forget(self.known - 1)
        return True

    def footprint(self, choice: Choice) -> Footprint:
        """See `Recording`. Where there are daemons, it matters which of the other threads ends last.

        It makes no difference to the state that comes of it, but it does to how many preemptions it takes that a
        daemon has come as far as it has.
        """
        found = super().footprint(choice)
        if self._has_daemons and choice.op == "end" and not choice.daemon and not choice.is_last:
            return (*found, (self.number(EXECUTION), None, CHANGE))
        return found

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """See `Strategy`. Here there may be a single choice."""
        depth = len(self.events)
        footprints = self.footprints(choices)
        if depth < len(self.nodes):
            node = self.nodes[depth]
            if node.footprints != footprints:
                raise ReplayDivergence(depth, (node.chosen, node.op), [(c.id, c.op) for c in choices])
        else:
            node = _Node(footprints, self.nodes[-1].spent if self.nodes else 0, running)
            others = (each for each in footprints if each != node.running)
            node.choose(next(others, node.running) if node.free else node.running)
            self.nodes.append(node)
        chosen = choices[[*footprints].index(node.chosen)]
        node.op = chosen.op
        self.note(chosen, footprints)
        return chosen

    def end(self, trace: Sequence[tuple[int, str]], waiting: Sequence[Choice]) -> None:
        """See `Strategy`."""
        if not self._has_daemons and any(each.daemon for each in waiting):
            # All is to be seen with other eyes: begin anew.
            self._has_daemons = True
            self.nodes.clear()
            self.known = 0
        else:
            _Dependences(self).find(self.unfinished(waiting))
        super().end(trace, waiting)

    def insert(self, node: _Node, ids: Sequence[int]) -> None:
        """Have one of these threads tried, unless one was or is to be."""
        if any(number in node.tried or number in node.to_try for number in ids):
            return
        if node.free or node.cost < self._bound:
            node.to_try.append(ids[0])
        else:
            self._is_cut = True

    def coverage(self) -> str:
        """See `Strategy`."""
        if self.exhausted:
            return "every schedule, up to the order of independent steps,"
        bound = self._bound
        within = f"of at most {bound} preemption{'s' * (bound > 1)}" if bound else "without preemptions"
        if self.complete:
            return f"every schedule {within}, up to the order of independent steps,"
        return f"schedules {within}, reduced by the order of independent steps"


class _Dependences(Order):
    """Finds the steps of an execution that depend on another thread's, and notes where to turn back for them."""

    def __init__(self, dpor: BoundedDPOR) -> None:
        super().__init__(dpor)
        self._dpor = dpor
        # By thread: where its steps are.
        self._places: dict[int, list[int]] = {}

    def find(self, ends: list[Event]) -> None:
        """Look at each step, in their order; then at those that threads still waited to take at the end."""
        known = self._dpor.known - 1
        for place, event, _released in self.steps():
            if place >= known:
                self._look_at(event, was_taken=True)
            self._places.setdefault(event.id, []).append(place)
        for event in ends:
            if event.id in self.now:
                self._look_at(event, was_taken=False)

    def _look_at(self, event: Event, was_taken: bool) -> None:
        now = self.now[event.id]
        # By thread, the steps that come after what `event` comes after in any case.
        found: dict[int, list[int]] = {}
        for at in sorted(self.dependent_on(event)):
            number = self.events[at].id
            if self.ordinals[at] > now[number]:
                found.setdefault(number, []).append(at)
        for number, places in found.items():
            others = [at for other, theirs in found.items() if other != number for at in theirs]
            if event.guarded:
                for at in self._places[number][now[number] : self.ordinals[places[-1]]]:
                    if at in places or self._dpor.nodes[at].begins:
                        before = list(now)
                        for other in others:
                            if self.clocks[other][number] < self.ordinals[at]:
                                join(before, self.clocks[other])
                        self._turn_back(at, event, before)
                continue
            before = list(now)
            # What was never taken comes after none of them.
            for at in others if was_taken else ():
                join(before, self.clocks[at])
            if self.ordinals[places[-1]] > before[number]:
                for at in self._places[number][before[number] : self.ordinals[places[-1]]]:
                    if at == places[-1] or self._dpor.nodes[at].begins:
                        self._turn_back(at, event, before)

    def _turn_back(self, at: int, event: Event, before: Clock) -> None:
        """Try what leads to `event` in place of step `at`; `before` says which steps do."""
        ordinals = self.ordinals
        # By thread, its first step after `at` that leads there.
        firsts: dict[int, int] = {}
        for number, places in self._places.items():
            for place in places[: before[number]]:
                if place > at:
                    firsts[number] = place
                    break
        ids = [
            number
            for number, place in firsts.items()
            if all(other == number or ordinals[first] > self.clocks[place][other] for other, first in firsts.items())
        ]
        node = self._dpor.nodes[at]
        if event.guarded:
            # See above.
            for number in sorted({*ids, event.id}):
                if number in node.footprints:
                    self._dpor.insert(node, [number])
            return
        possible = [number for number in ids or [event.id] if number in node.footprints]
        if possible:
            self._dpor.insert(node, possible)
