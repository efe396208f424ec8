"""Yield: what it costs to let the next thread run, with 2, 100 and 10,000 of them."""

from __future__ import annotations

import asyncio
from itertools import count

from benchmarks.libraries import Blocking
from benchmarks.measure import Sample, Size, Stopwatch
from benchmarks.scenario import Scenario, awaiting, bare, blocking, cpu_and_wall

__all__ = ["SCENARIOS"]


def yields(library: Blocking, size: Size) -> Sample:
    """All threads are alive and yield in turn; starting and ending them is not measured.

    The first thread past its second yield starts the stopwatch: by then, in any round-robin order,
    all are on their way. The last to finish stops it. A kernel thread may go on after its yield
    without another having run, so its figure is a lower bound.
    """
    watch, yield_now = Stopwatch(), library.yield_now
    ready, gate = library.event(), library.event()
    parked, begun, finished = count(1), count(1), count(1)

    def worker() -> None:
        if next(parked) == size.threads:
            ready.set()
        gate.wait()
        yield_now()
        yield_now()
        if next(begun) == 1:
            watch.start()
        for _ in range(size.rounds):
            yield_now()
        if next(finished) == size.threads:
            watch.stop()

    def main() -> None:
        workers = [library.spawn(worker) for _ in range(size.threads)]
        ready.wait()
        gate.set()
        for each in workers:
            library.join(each)

    library.run(main)
    ran = next(finished) - 1
    return watch.sample(ran, ran * size.rounds)


async def yields_async(size: Size) -> Sample:
    """The same with tasks and `asyncio.sleep(0)`, for which tasks have a short cut."""
    watch, sleep = Stopwatch(), asyncio.sleep
    gate = asyncio.Event()
    begun, finished = count(1), count(1)

    async def worker() -> None:
        await gate.wait()
        await sleep(0)
        await sleep(0)
        if next(begun) == 1:
            watch.start()
        for _ in range(size.rounds):
            await sleep(0)
        if next(finished) == size.threads:
            watch.stop()

    tasks = [asyncio.create_task(worker()) for _ in range(size.threads)]
    await sleep(0)
    gate.set()
    for task in tasks:
        await task
    ran = next(finished) - 1
    return watch.sample(ran, ran * size.rounds)


def ring(size: Size) -> Sample:
    """Greenlets in a ring, each of which switches straight to the next.

    They are started one by one from the root, as a scheduler has to start them. When the first
    returns from its last switch, each of the others has made as many.
    """
    from greenlet import getcurrent, greenlet

    watch, root, started = Stopwatch(), getcurrent(), count()

    def runner(index: int) -> None:
        next(started)
        root.switch()
        switch_to_next = greenlets[(index + 1) % size.threads].switch
        for _ in range(size.rounds):
            switch_to_next()
        watch.stop()
        root.switch()

    greenlets = [greenlet(runner) for _ in range(size.threads)]
    for index, each in enumerate(greenlets):
        each.switch(index)
    watch.start()
    greenlets[0].switch()
    ran = next(started)
    return watch.sample(ran, ran * size.rounds)


CONTESTANTS = (
    *blocking(yields, kernel_slower_by=30),
    *awaiting(yields_async),
    *bare(ring),
)

SCENARIOS = tuple(
    Scenario(
        name=f"yield-{threads}",
        title="yield, {threads:,} threads",
        size=Size(threads, rounds),
        quick=Size(threads, max(1, rounds // 10)),
        figures=cpu_and_wall("ns"),
        # Ten thousand kernel threads that all contend for the GIL take minutes to come to an end.
        contestants=tuple(
            each for each in CONTESTANTS if each.library != "kernel" or threads <= 100
        ),
    )
    for threads, rounds in ((2, 100_000), (100, 2_000), (10_000, 25))
)
