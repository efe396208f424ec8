"""Spawn: what a thread costs that is started, does nothing, ends and is joined.

Here each library is written out in full, because an adapter's wrapper would be a noticeable part of
so short a path. The target is a function in Python everywhere: a thread that runs nothing but C
never maps a stack for Python's frames, which is most of what a fresh greenlet costs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from importlib import import_module
from itertools import count
from typing import Any

from benchmarks.libraries import Runner, call, eventlet, gevent
from benchmarks.measure import Sample, Size, Stopwatch
from benchmarks.scenario import Contestant, Scenario, awaiting, bare, cpu_and_wall

__all__ = ["SCENARIOS"]


class Target:
    """Makes the function that the threads run, and counts how many did."""

    def __init__(self) -> None:
        self._ran = count()

    def function(self) -> Callable[[], None]:
        ran = self._ran

        def nothing() -> None:
            next(ran)

        return nothing

    def threads(self, size: Size) -> int:
        """How many ran in each batch, the first of which was not timed."""
        return next(self._ran) // (size.rounds + 1)


def measured(run: Runner, batch: Callable[[int], None], ran: Target, size: Size) -> Sample:
    """Time `size.rounds` batches of `size.threads`, after one that is not timed."""
    watch = Stopwatch()

    def main() -> None:
        batch(size.threads)
        watch.start()
        for _ in range(size.rounds):
            batch(size.threads)
        watch.stop()

    run(main)
    return watch.sample(ran.threads(size), size.threads * size.rounds)


def threads(thread_class: Callable[..., Any], run: Runner, size: Size) -> Sample:
    """`Thread(target=...)`, `start()`, `join()`: this project's threads and the standard ones."""
    ran = Target()
    target = ran.function()

    def batch(number: int) -> None:
        started = [thread_class(target=target) for _ in range(number)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()

    def one_by_one(number: int) -> None:
        thread = thread_class(target=target)
        thread.start()
        thread.join()

    return measured(run, batch if size.threads > 1 else one_by_one, ran, size)


def user_threads(size: Size) -> Sample:
    library = import_module("greenthreads")
    return threads(library.Thread, library.run_scheduler, size)


def kernel_kind(size: Size) -> Sample:
    """This project's adapter for kernel threads, started and joined by a user thread."""
    library = import_module("greenthreads")

    def kernel_thread(target: Callable[[], Any]) -> Any:
        return library.Thread(target=target, kind="kernel")

    return threads(kernel_thread, library.run_scheduler, size)


def kernel_threads(size: Size) -> Sample:
    return threads(import_module("threading").Thread, call, size)


def with_gevent(size: Size) -> Sample:
    """`gevent.spawn(...)`, then `join()` on each."""
    library = gevent()
    ran, spawn = Target(), library.spawn
    target = ran.function()

    def batch(number: int) -> None:
        for greenlet in [spawn(target) for _ in range(number)]:
            greenlet.join()

    return measured(call, batch, ran, size)


def with_eventlet(size: Size) -> Sample:
    """`eventlet.spawn(...)`, then `wait()` on each."""
    library = eventlet()
    ran, spawn = Target(), library.spawn
    target = ran.function()

    def batch(number: int) -> None:
        for greenthread in [spawn(target) for _ in range(number)]:
            greenthread.wait()

    return measured(call, batch, ran, size)


async def tasks(size: Size) -> Sample:
    """`asyncio.create_task(...)`, then `await` each."""
    watch, ran = Stopwatch(), count()

    async def nothing() -> None:
        next(ran)

    async def batch() -> None:
        for task in [asyncio.create_task(nothing()) for _ in range(size.threads)]:
            await task

    await batch()
    watch.start()
    for _ in range(size.rounds):
        await batch()
    watch.stop()
    return watch.sample(next(ran) // (size.rounds + 1), size.threads * size.rounds)


def greenlets(size: Size) -> Sample:
    """A new greenlet each time, switched into, and dead when it returns."""
    from greenlet import greenlet

    ran = Target()
    target = ran.function()

    def batch(number: int) -> None:
        for each in [greenlet(target) for _ in range(number)]:
            each.switch()

    return measured(call, batch, ran, size)


CONTESTANTS = (
    Contestant("greenthreads", user_threads),
    Contestant("greenthreads", kernel_kind, "kind='kernel'", slower_by=20),
    Contestant("gevent", with_gevent),
    Contestant("eventlet", with_eventlet),
    Contestant("kernel", kernel_threads, slower_by=20),
    *awaiting(tasks),
    *bare(greenlets),
)

SCENARIOS = (
    Scenario(
        name="spawn",
        title="spawn + join, one by one",
        size=Size(1, 20_000),
        quick=Size(1, 2_000),
        figures=cpu_and_wall("µs"),
        contestants=CONTESTANTS,
    ),
    Scenario(
        name="spawn-batch",
        title="spawn + join, batches of {threads:,}",
        size=Size(1_000, 20),
        quick=Size(1_000, 2),
        figures=cpu_and_wall("µs"),
        contestants=CONTESTANTS,
    ),
)
