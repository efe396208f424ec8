"""For tests of strategies: every execution that one has, and memory that says when it is touched."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from together import together

from greenthreads.testing._session import Session
from scheduler import control
from scheduler.strategy import Strategy

__all__ = ["Box", "lost_update", "outcomes", "together"]


def announce(*accesses: tuple[Box, bool]) -> None:
    pairs = tuple((box, (("value", writes),)) for box, writes in accesses)
    if control.accesses is not None:
        control.accesses(pairs)
    elif control.access is not None:
        for box, footprint in pairs:
            control.access(box, footprint)


class Box:
    """Memory that says when it is touched, as instrumented code does."""

    def __init__(self, value: int = 0) -> None:
        self._value = value

    def read(self) -> int:
        if control.access is not None:
            control.access(self, (("value", False),))
        return self._value

    def write(self, value: int) -> None:
        if control.access is not None:
            control.access(self, (("value", True),))
        self._value = value

    def copy_from(self, other: Box) -> None:
        """Read one and write the other, at once."""
        announce((other, False), (self, True))
        self._value = other._value + 1

    def both(self, other: Box) -> tuple[int, int]:
        """Read the two of them, at once."""
        announce((self, False), (other, False))
        return self._value, other._value


def endings(
    program: Callable[[dict[str, Hashable]], object], strategy: Strategy, *, early: bool = False
) -> set[Hashable]:
    """What the program can have left in the dict that it gets, when its executions have ended, and how they failed."""
    found: set[Hashable] = set()
    left: dict[str, Hashable] = {}
    with Session(lambda: program(left), early=early) as session:
        control.access = session.scheduler.memory_steps.access
        try:
            while strategy.begin():
                left.clear()
                redundant = getattr(strategy, "redundant", 0)
                outcome = session.run(strategy)
                if redundant == getattr(strategy, "redundant", 0):  # It was not abandoned on the way.
                    found.add((outcome and outcome.kind, *sorted(left.items())))
        finally:
            control.access = None
    assert strategy.complete
    return found


def outcomes(
    program: Callable[[], Hashable],
    strategy: Strategy,
    *,
    early: bool = False,
    most: int = 20_000,
    bounded: bool = False,
) -> tuple[set[Hashable], int]:
    """What the program can come to, and how many executions it took; all of them are run, also after a failure.

    All that there are; of a strategy that is `bounded`, all within its bound.
    """
    found: set[Hashable] = set()
    executions = 0
    with Session(lambda: found.add(program()), early=early) as session:
        control.access = session.scheduler.memory_steps.access
        control.accesses = session.scheduler.memory_steps.accesses
        try:
            while strategy.begin():
                executions += 1
                assert executions <= most
                outcome = session.run(strategy)
                if outcome is not None:
                    found.add(outcome.kind)
        finally:
            control.access = control.accesses = None
    assert strategy.complete if bounded else strategy.exhausted
    return found, executions


def lost_update() -> Hashable:
    """The smallest program with a race: what is left of two increments."""
    box = Box()
    together(lambda: box.write(box.read() + 1), lambda: box.write(box.read() + 1))
    return box.read()
