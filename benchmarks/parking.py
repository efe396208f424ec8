"""Park: the memory that a waiting thread holds, and a million of them."""

from __future__ import annotations

import asyncio
import gc
from itertools import count

from benchmarks.libraries import Blocking
from benchmarks.measure import Sample, Size, Stopwatch, peak_bytes, resident_bytes
from benchmarks.scenario import Figure, Scenario, awaiting, bare, blocking

__all__ = ["MILLION", "SCENARIOS"]


def parked(library: Blocking, size: Size) -> Sample:
    """Resident memory before the threads are started and when all wait for one event.

    The objects through which the program holds the threads are part of it. For kernel threads it
    does not include what the kernel holds for each, which is about 16 kB more.
    """
    watch, arrived = Stopwatch(), count(1)
    ready, gate = library.event(), library.event()
    held: list[int] = []

    def worker() -> None:
        if next(arrived) == size.threads:
            ready.set()
        gate.wait()

    def main() -> None:
        gc.collect()
        before = resident_bytes()
        watch.start()
        workers = [library.spawn(worker) for _ in range(size.threads)]
        ready.wait()
        watch.stop()
        held.append(resident_bytes() - before)
        gate.set()
        for each in workers:
            library.join(each)

    library.run(main)
    ran = next(arrived) - 1
    return watch.sample(ran, ran, resident=held[0])


async def parked_async(size: Size) -> Sample:
    """The same with tasks that wait for an `asyncio.Event`."""
    watch, arrived = Stopwatch(), count(1)
    ready, gate = asyncio.Event(), asyncio.Event()

    async def worker() -> None:
        if next(arrived) == size.threads:
            ready.set()
        await gate.wait()

    gc.collect()
    before = resident_bytes()
    watch.start()
    tasks = [asyncio.create_task(worker()) for _ in range(size.threads)]
    await ready.wait()
    watch.stop()
    held = resident_bytes() - before
    gate.set()
    for task in tasks:
        await task
    ran = next(arrived) - 1
    return watch.sample(ran, ran, resident=held)


def parked_greenlets(size: Size) -> Sample:
    """Greenlets in a list, each switched into once and straight back out."""
    from greenlet import getcurrent, greenlet

    watch, root, arrived = Stopwatch(), getcurrent(), count()

    def worker() -> None:
        next(arrived)
        root.switch()

    gc.collect()
    before = resident_bytes()
    watch.start()
    greenlets = [greenlet(worker) for _ in range(size.threads)]
    for each in greenlets:
        each.switch()
    watch.stop()
    held = resident_bytes() - before
    for each in greenlets:
        each.switch()
    ran = next(arrived)
    return watch.sample(ran, ran, resident=held)


def phases(library: Blocking, size: Size) -> Sample:
    """Start all and let them park; wake all until they have parked again; let all end.

    The end lasts until `run` has returned, so that the scheduler's own teardown belongs to it.
    """
    start, wake, end = Stopwatch(), Stopwatch(), Stopwatch()
    arrived, passed = count(1), count(1)
    ready, gate, again, last = (library.event() for _ in range(4))

    def worker() -> None:
        if next(arrived) == size.threads:
            ready.set()
        gate.wait()
        if next(passed) == size.threads:
            again.set()
        last.wait()

    def main() -> None:
        start.start()
        workers = [library.spawn(worker) for _ in range(size.threads)]
        ready.wait()
        start.stop()
        wake.start()
        gate.set()
        again.wait()
        wake.stop()
        end.start()
        last.set()
        for each in workers:
            library.join(each)

    library.run(main)
    end.stop()
    return phased(start, wake, end, next(passed) - 1)


def phased(start: Stopwatch, wake: Stopwatch, end: Stopwatch, ran: int) -> Sample:
    return start.sample(
        ran,
        ran,
        start=start.wall,
        wake=wake.wall,
        end=end.wall,
        cpu=start.cpu + wake.cpu + end.cpu,
        peak=peak_bytes(),
    )


def greenlet_phases(size: Size) -> Sample:
    """The floor under the phases: one switch to each greenlet per phase; the last one ends it."""
    from greenlet import getcurrent, greenlet

    watches = start, wake, end = Stopwatch(), Stopwatch(), Stopwatch()
    root, arrived = getcurrent(), count()

    def worker() -> None:
        next(arrived)
        root.switch()
        root.switch()

    start.start()
    greenlets = [greenlet(worker) for _ in range(size.threads)]
    for watch in watches:
        if watch is not start:
            watch.start()
        for each in greenlets:
            each.switch()
        watch.stop()
    return phased(start, wake, end, next(arrived))


RESIDENT = Figure("resident", "bytes", lambda sample: sample.figures["resident"] / sample.threads)

SCENARIOS = (
    Scenario(
        name="memory",
        title="memory of a parked thread, {threads:,} of them",
        size=Size(100_000),
        quick=Size(10_000),
        figures=(RESIDENT,),
        contestants=(
            *blocking(parked, kernel_threads=1_000),
            *awaiting(parked_async),
            *bare(parked_greenlets),
        ),
    ),
)


def per_thread(phase: str) -> Figure:
    return Figure(
        phase, f"µs wall, {phase}", lambda sample: sample.figures[phase] / sample.threads * 1e6
    )


PHASES = (
    per_thread("start"),
    per_thread("wake"),
    per_thread("end"),
    Figure("cpu", "µs CPU, all", lambda sample: sample.figures["cpu"] / sample.threads * 1e6),
    Figure("peak", "GiB, peak", lambda sample: sample.figures["peak"] / 2**30),
)

MILLION = tuple(
    Scenario(
        name=f"million-{threads // 1_000}k",
        title="{threads:,} parked threads, each",
        size=Size(threads),
        quick=Size(threads // 25),
        figures=PHASES,
        contestants=(
            *blocking(phases, but=("gevent", "eventlet", "kernel")),
            *bare(greenlet_phases),
        ),
        on_request=True,
    )
    for threads in (250_000, 500_000, 1_000_000)
)
