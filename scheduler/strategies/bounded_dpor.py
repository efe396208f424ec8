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
from scheduler.strategies.happened import Footprint, Recording, Step, Steps, places

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scheduler.strategy import Choice

__all__ = ["BoundedDPOR"]


class _Node(Step):
    """A state: who could go on, who was tried, who is to be. Kept while executions share it."""

    __slots__ = ("begins", "cost", "free", "running", "to_try", "tried")

    def __init__(
        self, choices: dict[int, Footprint], released: Sequence[int], cost: int, running: Choice | None
    ) -> None:
        super().__init__(choices, released, -1)
        # How many preemptions there were before.
        self.cost = cost
        self.running = -1 if running is None else running.id
        # Whether any thread may go on without a preemption.
        self.free = running is None or running.op == "yield"
        self.to_try: list[int] = []
        self.tried: set[int] = set()
        # Whether the step that was chosen begins a block.
        self.begins = True

    def choose(self, number: int) -> None:
        self.id = number
        self.tried.add(number)
        self.begins = self.free or number != self.running

    @property
    def spent(self) -> int:
        """How many preemptions there are with the step that was chosen."""
        return self.cost + (self.begins and not self.free)


class BoundedDPOR(Recording[_Node]):
    """Every execution of at most `bound` preemptions, up to the order of independent steps."""

    name = "dpor"

    def __init__(self, bound: int) -> None:
        if bound < 0:
            raise ValueError(f"the bound on preemptions must be at least 0, not {bound}")
        super().__init__()
        self._bound = bound
        # Whether executions come after another one, which has left nodes.
        self._has_begun = False
        # Whether the bound has kept anything from being tried.
        self._is_cut = False
        # Whether a thread has been left out because it polled in vain; see `leaves_out`.
        self._has_left_out = False
        # Whether there are daemons; see `footprint`.
        self._has_daemons = False

    def begin(self) -> bool:
        """See `Strategy`."""
        nodes = self.nodes
        if self._has_begun:
            while nodes:
                self.take_back(nodes[-1], len(nodes) - 1)
                if nodes[-1].to_try:
                    break
                nodes.pop()
            if not nodes:
                self.complete = not self._has_left_out
                self.exhausted = self.complete and not self._is_cut
                return False
            nodes[-1].choose(nodes[-1].to_try.pop())
        self._has_begun = True
        self.forget()
        return True

    def footprint(self, choice: Choice) -> Footprint:
        """See `Recording`. Where there are daemons, it matters which of the other threads ends last.

        It makes no difference to the state that comes of it, but it does to how many preemptions it takes that a
        daemon has come as far as it has.
        """
        found = super().footprint(choice)
        if self._has_daemons and choice.op == "end" and not choice.daemon and not choice.is_last:
            return (*found, (self.part(EXECUTION, None), CHANGE))
        return found

    def choose(self, choices: Sequence[Choice], running: Choice | None) -> Choice:
        """See `Strategy`. Here there may be a single choice."""
        nodes = self.nodes
        if self.depth < len(nodes):
            node = nodes[self.depth]
            self.again(node, choices)
        else:
            footprints, released = self.footprints(choices)
            node = _Node(footprints, released, nodes[-1].spent if nodes else 0, running)
            others = (each for each in footprints if each != node.running)
            node.choose(next(others, node.running) if node.free else node.running)
            nodes.append(node)
        chosen = next(choice for choice in choices if choice.id == node.id)
        self.take(node, chosen)
        return chosen

    def end(self, trace: Sequence[tuple[int, str]], waiting: Sequence[Choice]) -> None:
        """See `Strategy`."""
        if not self._has_daemons and any(each.daemon for each in waiting):
            # All is to be seen with other eyes.
            self._has_daemons = True
            self.begin_anew()
        else:
            _Dependences(self).find(self.unfinished(waiting))
        self.late.clear()
        super().end(trace, waiting)

    def begin_anew(self) -> None:
        """See `Recording`."""
        super().begin_anew()
        self._has_begun = False

    def leaves_out(self) -> None:
        """See `Strategy`. Then not all may have been seen.

        Whether it may go on is a matter of what any other does, which is no dependence between two steps; and it is no
        preemption to leave it.
        """
        self._has_left_out = True

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


class _Dependences:
    """Finds the steps of an execution that depend on another thread's, and notes where to turn back for them."""

    def __init__(self, dpor: BoundedDPOR) -> None:
        self._dpor = dpor
        self.steps = dpor.nodes
        self.of = dpor.of

    def find(self, ends: list[Step]) -> None:
        """Look at each step, in their order; then at those that threads still waited to take at the end."""
        dpor = self._dpor
        for _place, step, depends, now, _released in dpor.late:
            self._look_at(step, depends, now, was_taken=True)
        for end in ends:
            if end.id in dpor.now:
                self._look_at(end, dpor.dependent_on(end.footprint), dpor.now[end.id], was_taken=False)

    def _look_at(self, event: Step, depends: Steps, now: Steps, was_taken: bool) -> None:
        # Those that come after what `event` comes after in any case.
        depends &= ~now
        if not depends:
            return
        found = {number: depends & steps for number, steps in self.of.items() if depends & steps}
        for number, theirs in sorted(found.items(), key=lambda item: item[1] & -item[1]):
            others = depends & ~theirs
            up_to_the_last = (1 << theirs.bit_length()) - 1
            if event.guarded:
                for at in places(self.of[number] & ~now & up_to_the_last):
                    if theirs >> at & 1 or self.steps[at].begins:
                        leading = [other for other in places(others) if not self.steps[other].before >> at & 1]
                        self._turn_back(at, event, self._dpor.closed(now, sum(1 << other for other in leading)))
                continue
            # What was never taken comes after none of them.
            before = self._dpor.closed(now, others) if was_taken else now
            last = theirs.bit_length() - 1
            if not before >> last & 1:
                for at in places(self.of[number] & ~before & up_to_the_last):
                    if at == last or self.steps[at].begins:
                        self._turn_back(at, event, before)

    def _turn_back(self, at: int, event: Step, before: Steps) -> None:
        """Try what leads to `event` in place of step `at`; `before` says which steps do."""
        # By thread, its first step after `at` that leads there.
        firsts: dict[int, int] = {}
        after = before & -1 << at + 1
        for number, steps in self.of.items():
            theirs = steps & after
            if theirs:
                firsts[number] = theirs & -theirs
        of_all = sum(firsts.values())
        ids = [
            number for number, first in firsts.items() if self.steps[first.bit_length() - 1].before & of_all == first
        ]
        node = self.steps[at]
        if event.guarded:
            # See above.
            for number in sorted({*ids, event.id}):
                if number in node.choices:
                    self._dpor.insert(node, [number])
            return
        possible = [number for number in ids or [event.id] if number in node.choices]
        if possible:
            self._dpor.insert(node, possible)
