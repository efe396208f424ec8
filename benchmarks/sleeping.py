"""Sleep: many threads with random deadlines within one second, how late they wake, at what cost.

With 100,000 sleepers the question is the work: CPU time, from the first start until the process is
gone, because whoever puts off the disposal of its threads pays for it in the end. With 1,000 the
work is negligible, and what is left of the lateness is the timer's own.
"""

from __future__ import annotations

import asyncio
import random
from statistics import quantiles
from time import monotonic

from benchmarks.libraries import Blocking
from benchmarks.measure import Sample, Size, Stopwatch
from benchmarks.scenario import Contestant, Figure, Scenario, awaiting, bare, blocking

__all__ = ["SCENARIOS"]

WITHIN = 1.0


def delays(size: Size) -> list[float]:
    """The same for every library and on every run."""
    chosen = random.Random(20_000)
    return [chosen.uniform(0, WITHIN) for _ in range(size.threads)]


def sample(watch: Stopwatch, late: list[float]) -> Sample:
    """`late` holds, for each thread, the seconds from its deadline until it ran."""
    percentiles = quantiles(late, n=100, method="inclusive")
    return watch.sample(len(late), len(late), p50=percentiles[49], p99=percentiles[98])


def sleepers(library: Blocking, size: Size) -> Sample:
    """Each thread sets its own deadline when it first runs, and sleeps until then."""
    watch, sleep, late = Stopwatch(), library.sleep, list[float]()

    def sleeper(delay: float) -> None:
        deadline = monotonic() + delay
        sleep(delay)
        late.append(monotonic() - deadline)

    def main() -> None:
        for each in [library.spawn(sleeper, delay) for delay in delays(size)]:
            library.join(each)

    watch.start()
    library.run(main)
    watch.stop()
    return sample(watch, late)


async def sleepers_async(size: Size) -> Sample:
    watch, late = Stopwatch(), list[float]()

    async def sleeper(delay: float) -> None:
        deadline = monotonic() + delay
        await asyncio.sleep(delay)
        late.append(monotonic() - deadline)

    watch.start()
    for task in [asyncio.create_task(sleeper(delay)) for delay in delays(size)]:
        await task
    watch.stop()
    return sample(watch, late)


def heap_of_greenlets(size: Size) -> Sample:
    """The least that will do: a heap of deadlines, `time.sleep` until the first, one switch."""
    from heapq import heappop, heappush
    from time import sleep

    from greenlet import getcurrent, greenlet

    watch, root, late = Stopwatch(), getcurrent(), list[float]()
    heap: list[tuple[float, int]] = []

    def sleeper(index: int, delay: float) -> None:
        deadline = monotonic() + delay
        heappush(heap, (deadline, index))
        root.switch()
        late.append(monotonic() - deadline)

    watch.start()
    greenlets = [greenlet(sleeper) for _ in range(size.threads)]
    for index, (each, delay) in enumerate(zip(greenlets, delays(size), strict=True)):
        each.switch(index, delay)
    while heap:
        deadline, index = heappop(heap)
        wait = deadline - monotonic()
        if wait > 0:
            sleep(wait)
        greenlets[index].switch()
    watch.stop()
    return sample(watch, late)


def cpu_seconds(sample: Sample) -> float:
    """To the end of the process where that is known; otherwise to the end of the run."""
    return sample.cpu if sample.cpu_to_exit is None else sample.cpu_to_exit


FIGURES = (
    Figure("cpu", "s CPU, to exit", cpu_seconds),
    Figure("wall", "s wall", lambda sample: sample.wall),
    Figure("p50", "ms late, p50", lambda sample: sample.figures["p50"] * 1e3),
    Figure("p99", "ms late, p99", lambda sample: sample.figures["p99"] * 1e3),
)

CONTESTANTS: tuple[Contestant, ...] = (
    *blocking(sleepers, kernel_threads=1_000),
    *awaiting(sleepers_async),
    *bare(heap_of_greenlets),
)

SCENARIOS = (
    Scenario(
        name="sleep-100k",
        title="{threads:,} sleepers within 1 s",
        size=Size(100_000),
        quick=Size(10_000),
        figures=FIGURES,
        # Fewer kernel threads would show nothing here: the figure is a sum, not one per thread.
        contestants=tuple(each for each in CONTESTANTS if each.library != "kernel"),
    ),
    Scenario(
        name="sleep-1k",
        title="{threads:,} sleepers within 1 s",
        size=Size(1_000),
        quick=Size(1_000),
        figures=FIGURES,
        contestants=CONTESTANTS,
    ),
)
