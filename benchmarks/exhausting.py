"""Correct programs, and how long it takes to have seen all that they can do.

    python benchmarks/exhausting.py                # each of them, by DPOR without a bound, and all that have a bound
    python benchmarks/exhausting.py --seconds 60   # give up on a program after so long

The programs are ordinary `threading` code, and each access to their memory is a choice point. For each: the executions
that it took, how many of these were abandoned because they had turned out to repeat others, and the seconds of CPU and
of the wall clock. Below, how many executions there are within a bound on preemptions, of all and reduced.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if not __package__:
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

if TYPE_CHECKING:
    from collections.abc import Callable


# ---- The programs ----------------------------------------------------------------------------------------------------


def together(*bodies: Callable[[], object]) -> None:
    """Start a thread for each of `bodies`, and join them."""
    threads = [threading.Thread(target=body) for body in bodies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Table:
    """A fork between each two seats, of which everybody takes the lower one first."""

    def __init__(self, seats: int) -> None:
        self.forks = [threading.Lock() for _ in range(seats)]
        self.meals = [0] * seats

    def dine(self, seat: int) -> None:
        """Have one meal."""
        first, second = sorted((seat, (seat + 1) % len(self.forks)))
        with self.forks[first], self.forks[second]:
            self.meals[seat] += 1


def philosophers(seats: int) -> None:
    """All of them dine once."""
    table = Table(seats)
    together(*[lambda seat=seat: table.dine(seat) for seat in range(seats)])
    assert table.meals == [1] * seats


class Buffer:
    """Holds a few items; who finds it full or empty waits."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.items: list[int] = []
        self.changed = threading.Condition()

    def put(self, item: int) -> None:
        """Add an item, when there is room."""
        with self.changed:
            while len(self.items) == self.size:
                self.changed.wait()
            self.items.append(item)
            self.changed.notify_all()

    def get(self) -> int:
        """Take the oldest item, when there is one."""
        with self.changed:
            while not self.items:
                self.changed.wait()
            item = self.items.pop(0)
            self.changed.notify_all()
        return item


def buffer(size: int, each: int) -> None:
    """Two producers, two consumers, and as many items of each."""
    shared = Buffer(size)
    got: list[list[int]] = [[], []]

    def produce(number: int) -> None:
        for item in range(each):
            shared.put(10 * number + item)

    def consume(number: int) -> None:
        for _ in range(each):
            got[number].append(shared.get())

    together(lambda: produce(0), lambda: produce(1), lambda: consume(0), lambda: consume(1))
    assert sorted(got[0] + got[1]) == sorted(10 * number + item for number in range(2) for item in range(each))


class Shared:
    """A pair of numbers that are the same, under a lock that lets in several readers or one writer."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.readers = 0
        self.writing = False
        self.pair = [0, 0]

    def read(self) -> tuple[int, int]:
        """The pair."""
        with self.changed:
            while self.writing:
                self.changed.wait()
            self.readers += 1
        seen = self.pair[0], self.pair[1]
        with self.changed:
            self.readers -= 1
            if not self.readers:
                self.changed.notify_all()
        return seen

    def write(self, value: int) -> None:
        """Make both numbers `value`."""
        with self.changed:
            while self.writing or self.readers:
                self.changed.wait()
            self.writing = True
        self.pair[0] = value
        self.pair[1] = value
        with self.changed:
            self.writing = False
            self.changed.notify_all()


def readers_and_writers(readers: int, writers: int) -> None:
    """No reader sees half a change."""
    shared = Shared()

    def read() -> None:
        one, other = shared.read()
        assert one == other

    together(*[read] * readers, *[lambda value=value: shared.write(value) for value in range(1, writers + 1)])
    assert shared.pair[0] == shared.pair[1] > 0


# By name.
PROGRAMS: dict[str, Callable[[], None]] = {
    "5 philosophers, a meal each": lambda: philosophers(5),
    "6 philosophers, a meal each": lambda: philosophers(6),
    "buffer of 1, 2 producers, 2 consumers, an item each": lambda: buffer(1, 1),
    "buffer of 2, 2 producers, 2 consumers, an item each": lambda: buffer(2, 1),
    "2 readers, 1 writer": lambda: readers_and_writers(2, 1),
    "2 readers, 2 writers": lambda: readers_and_writers(2, 2),
}


# ---- What it takes ---------------------------------------------------------------------------------------------------


class Taken(NamedTuple):
    """What it took to see everything, or as much as there was time for."""

    executions: int
    abandoned: int
    exhausted: bool
    complete: bool
    failed: bool
    races: int
    cpu: float
    wall: float


def explored(test: Callable[[], None], strategy: Any, seconds: float | None) -> Taken:
    """Explore with memory as choice points."""
    from greenthreads.testing import explore

    cpu, wall = time.process_time(), time.perf_counter()
    found = explore(test, strategy=strategy, max_executions=None, max_seconds=seconds)
    return Taken(
        found.executions, getattr(strategy, "redundant", 0), found.exhausted, strategy.complete,
        found.failure is not None, len(found.races), time.process_time() - cpu, time.perf_counter() - wall,
    )  # fmt: skip


def exhaust(programs: dict[str, Callable[[], None]], seconds: float | None) -> None:
    """Print what it takes to exhaust each program."""
    from scheduler.strategies import DPOR

    print(f"{'':53} {'executions':>10} {'abandoned':>9} {'CPU s':>6} {'wall s':>6}")
    for name, test in programs.items():
        taken = explored(test, DPOR(), seconds)
        verdict = "exhausted" if taken.exhausted else "not exhausted"
        alarms = "no alarm" if not taken.failed and not taken.races else "a false alarm"
        print(
            f"{name:53} {taken.executions:10,} {taken.abandoned:9,} {taken.cpu:6.1f} {taken.wall:6.1f}"
            f"  {verdict}, {alarms}"
        )


def within_bounds(programs: dict[str, Callable[[], None]], bounds: tuple[int, ...], seconds: float | None) -> None:
    """Print how many executions have at most so many preemptions, of all and reduced."""
    from scheduler.strategies import BoundedDPOR, DepthFirst

    print(f"\n{'':53} {'preemptions':>11} {'all':>9} {'reduced':>9} {'CPU s':>6} {'CPU s':>6}")
    for name, test in programs.items():
        for bound in bounds:
            every, reduced = (explored(test, each(bound), seconds) for each in (DepthFirst, BoundedDPOR))
            shown = [f"{t.executions:,}{'' if t.complete else '+'}" for t in (every, reduced)]
            print(f"{name:53} {bound:11} {shown[0]:>9} {shown[1]:>9} {every.cpu:6.1f} {reduced.cpu:6.1f}")


def main() -> None:
    """The tables."""
    parser = argparse.ArgumentParser(description="Measure how long it takes to have seen everything.")
    parser.add_argument("--seconds", type=float, default=60.0, help="the most for a program (+: there are more)")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores\n")
    exhaust(PROGRAMS, options.seconds)
    within_bounds(PROGRAMS, (0, 1), options.seconds)


if __name__ == "__main__":
    main()
