"""Event: one `set()` that wakes ten thousand threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Any

from benchmarks.libraries import Blocking
from benchmarks.measure import Sample, Size, Stopwatch
from benchmarks.scenario import Scenario, awaiting, bare, blocking, cpu_and_wall

__all__ = ["SCENARIOS"]


class Wake:
    """One wake of all threads: they park at `gate`; the first to park and the last to pass count.

    The stopwatch runs from `open` until the last thread has run on.
    """

    def __init__(self, event: Callable[[], Any], threads: int, watch: Stopwatch) -> None:
        self.threads, self.watch = threads, watch
        self.ready, self.gate, self.done = event(), event(), event()
        self._parked, self._passed = count(1), count(1)

    def parking(self) -> None:
        if next(self._parked) == self.threads:
            self.ready.set()

    def open(self) -> None:
        self.watch.start()
        self.gate.set()

    def passed(self) -> None:
        if next(self._passed) == self.threads:
            self.watch.stop()
            self.done.set()


def wakes(event: Callable[[], Any], size: Size, watch: Stopwatch) -> list[Wake]:
    """As many as there are rounds, after one that goes to a stopwatch of its own."""
    warm_up = Wake(event, size.threads, Stopwatch())
    return [warm_up, *(Wake(event, size.threads, watch) for _ in range(size.rounds))]


def fan_out(library: Blocking, size: Size) -> Sample:
    """From `set()` until every waiting thread has run on; having done so, it waits for the next.

    Measured per thread woken. Starting and ending the threads is not part of it.
    """
    watch, finished = Stopwatch(), count()
    rounds = wakes(library.event, size, watch)

    def worker() -> None:
        for wake in rounds:
            wake.parking()
            wake.gate.wait()
            wake.passed()
        next(finished)

    def main() -> None:
        workers = [library.spawn(worker) for _ in range(size.threads)]
        for wake in rounds:
            wake.ready.wait()
            wake.open()
            wake.done.wait()
        for each in workers:
            library.join(each)

    library.run(main)
    ran = next(finished)
    return watch.sample(ran, ran * size.rounds)


async def fan_out_async(size: Size) -> Sample:
    watch, finished = Stopwatch(), count()
    rounds = wakes(asyncio.Event, size, watch)

    async def worker() -> None:
        for wake in rounds:
            wake.parking()
            await wake.gate.wait()
            wake.passed()
        next(finished)

    tasks = [asyncio.create_task(worker()) for _ in range(size.threads)]
    for wake in rounds:
        await wake.ready.wait()
        wake.open()
        await wake.done.wait()
    for task in tasks:
        await task
    ran = next(finished)
    return watch.sample(ran, ran * size.rounds)


def switch_to_each(size: Size) -> Sample:
    """The least that will do: one switch to each of the parked greenlets, and one back."""
    from greenlet import getcurrent, greenlet

    watch, root, finished = Stopwatch(), getcurrent(), count()

    def worker() -> None:
        for _ in range(size.rounds + 1):
            root.switch()
        next(finished)

    greenlets = [greenlet(worker) for _ in range(size.threads)]
    for _ in range(2):
        for each in greenlets:
            each.switch()
    watch.start()
    for _ in range(size.rounds):
        for each in greenlets:
            each.switch()
    watch.stop()
    ran = next(finished)
    return watch.sample(ran, ran * size.rounds)


def whole_life(library: Blocking, size: Size) -> Sample:
    """The same wake once, with the whole life of the threads: start, park, wake, end, join."""
    watch, arrived = Stopwatch(), count(1)

    def generation() -> None:
        parked, gate, ready = count(1), library.event(), library.event()

        def worker() -> None:
            next(arrived)
            if next(parked) == size.threads:
                ready.set()
            gate.wait()

        workers = [library.spawn(worker) for _ in range(size.threads)]
        ready.wait()
        gate.set()
        for each in workers:
            library.join(each)

    def main() -> None:
        watch.start()
        for _ in range(size.rounds):
            generation()
        watch.stop()

    library.run(main)
    ran = (next(arrived) - 1) // size.rounds
    return watch.sample(ran, ran * size.rounds)


async def whole_life_async(size: Size) -> Sample:
    watch, arrived = Stopwatch(), count(1)

    async def generation() -> None:
        parked, gate, ready = count(1), asyncio.Event(), asyncio.Event()

        async def worker() -> None:
            next(arrived)
            if next(parked) == size.threads:
                ready.set()
            await gate.wait()

        tasks = [asyncio.create_task(worker()) for _ in range(size.threads)]
        await ready.wait()
        gate.set()
        for task in tasks:
            await task

    watch.start()
    for _ in range(size.rounds):
        await generation()
    watch.stop()
    ran = (next(arrived) - 1) // size.rounds
    return watch.sample(ran, ran * size.rounds)


def greenlet_lives(size: Size) -> Sample:
    """Make all the greenlets, switch into each, switch into each again, so that it ends."""
    from greenlet import getcurrent, greenlet

    watch, root, arrived = Stopwatch(), getcurrent(), count()

    def worker() -> None:
        next(arrived)
        root.switch()

    watch.start()
    for _ in range(size.rounds):
        greenlets = [greenlet(worker) for _ in range(size.threads)]
        for _ in range(2):
            for each in greenlets:
                each.switch()
    watch.stop()
    ran = next(arrived) // size.rounds
    return watch.sample(ran, ran * size.rounds)


SCENARIOS = (
    Scenario(
        name="event",
        title="event, set() wakes {threads:,}, each",
        size=Size(10_000, 10),
        quick=Size(10_000, 2),
        figures=cpu_and_wall("µs"),
        contestants=(
            *blocking(fan_out, kernel_slower_by=3, kernel_threads=1_000),
            *awaiting(fan_out_async),
            *bare(switch_to_each),
        ),
    ),
    Scenario(
        name="event-spawn",
        title="event, {threads:,} start, wait, wake, end",
        size=Size(10_000, 3),
        quick=Size(10_000, 1),
        figures=cpu_and_wall("µs"),
        contestants=(
            *blocking(whole_life, kernel_slower_by=3, kernel_threads=1_000),
            *awaiting(whole_life_async),
            *bare(greenlet_lives),
        ),
    ),
)
