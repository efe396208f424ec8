"""Lock: taking one that is free, and ten threads that queue for one."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import AbstractContextManager
from importlib import import_module
from itertools import count
from typing import Any

from benchmarks.libraries import Blocking, call
from benchmarks.measure import Sample, Size, Stopwatch
from benchmarks.scenario import Contestant, Scenario, awaiting, bare, blocking, cpu_and_wall

__all__ = ["SCENARIOS"]


def take(watch: Stopwatch, lock: AbstractContextManager[Any], rounds: int) -> Sample:
    with lock:  # the first time may build what the others use
        pass
    watch.start()
    for _ in range(rounds):
        with lock:
            pass
    watch.stop()
    return watch.sample(1, rounds)


def free(library: Blocking, size: Size) -> Sample:
    """`with lock: pass` in the only thread there is."""
    return library.run(lambda: take(Stopwatch(), library.lock(), size.rounds))


def bounded_semaphore(size: Size) -> Sample:
    """gevent's other lock, which its documentation recommends over a patched `threading.Lock`."""
    lock = import_module("gevent.lock").BoundedSemaphore()
    return call(lambda: take(Stopwatch(), lock, size.rounds))


async def free_async(size: Size) -> Sample:
    watch, lock = Stopwatch(), asyncio.Lock()
    watch.start()
    for _ in range(size.rounds):
        async with lock:
            pass
    watch.stop()
    return watch.sample(1, size.rounds)


def contended(library: Blocking, size: Size) -> Sample:
    """Each thread takes the lock again and again, and yields once while it holds it.

    So whoever wants the lock finds it taken. Measured per section, starting the threads included.
    """
    watch, yield_now, lock, finished = Stopwatch(), library.yield_now, library.lock(), count()

    def worker() -> None:
        for _ in range(size.rounds):
            with lock:
                yield_now()
        next(finished)

    def main() -> None:
        watch.start()
        for each in [library.spawn(worker) for _ in range(size.threads)]:
            library.join(each)
        watch.stop()

    library.run(main)
    ran = next(finished)
    return watch.sample(ran, ran * size.rounds)


async def contended_async(size: Size) -> Sample:
    watch, lock, finished = Stopwatch(), asyncio.Lock(), count()

    async def worker() -> None:
        for _ in range(size.rounds):
            async with lock:
                await asyncio.sleep(0)
        next(finished)

    watch.start()
    for task in [asyncio.create_task(worker()) for _ in range(size.threads)]:
        await task
    watch.stop()
    ran = next(finished)
    return watch.sample(ran, ran * size.rounds)


def contended_hub(size: Size) -> Sample:
    """The least that will do: a queue of ready greenlets, a queue of waiting ones, a hub."""
    from greenlet import getcurrent, greenlet

    watch, hub, finished = Stopwatch(), getcurrent(), count()
    ready, waiting = deque[Any](), deque[Any]()
    held = False

    def worker() -> None:
        nonlocal held
        me = getcurrent()
        for _ in range(size.rounds):
            if held:
                waiting.append(me)
                hub.switch()  # whoever lets go hands the lock over
            held = True
            ready.append(me)
            hub.switch()
            if waiting:
                ready.append(waiting.popleft())
            else:
                held = False
        next(finished)

    watch.start()
    ready.extend(greenlet(worker) for _ in range(size.threads))
    while ready:
        ready.popleft().switch()
    watch.stop()
    ran = next(finished)
    return watch.sample(ran, ran * size.rounds)


SCENARIOS = (
    Scenario(
        name="lock-free",
        title="lock, uncontended",
        size=Size(1, 500_000),
        quick=Size(1, 50_000),
        figures=cpu_and_wall("ns"),
        contestants=(
            *blocking(free, kernel_slower_by=1),
            Contestant("gevent", bounded_semaphore, "BoundedSemaphore"),
            *awaiting(free_async),
        ),
    ),
    Scenario(
        name="lock-contended",
        title="lock, {threads:,} contenders, per section",
        size=Size(10, 5_000),
        quick=Size(10, 500),
        figures=cpu_and_wall("µs"),
        contestants=(
            *blocking(contended),
            *awaiting(contended_async),
            *bare(contended_hub),
        ),
    ),
)
