"""Queue: one item to and fro between two threads, and a stream of items one way."""

from __future__ import annotations

import asyncio
import queue
from functools import partial
from importlib import import_module
from itertools import count
from typing import Any

from benchmarks.libraries import Blocking, gevent, kernel
from benchmarks.measure import Sample, Size, Stopwatch
from benchmarks.scenario import Contestant, Scenario, awaiting, bare, blocking, cpu_and_wall

__all__ = ["SCENARIOS", "ping_pong_between"]


def ping_pong_between(library: Blocking, there: Any, back: Any, size: Size) -> Sample:
    """Round trips of one item over two queues; the other thread sends back what it gets."""
    watch, echoed = Stopwatch(), count()

    def echo() -> None:
        for _ in range(size.rounds):
            back.put(there.get())
        next(echoed)

    def main() -> None:
        other = library.spawn(echo)
        watch.start()
        for number in range(size.rounds):
            there.put(number)
            back.get()
        watch.stop()
        library.join(other)

    library.run(main)
    return watch.sample(1 + next(echoed), size.rounds)


def ping_pong(library: Blocking, size: Size) -> Sample:
    return ping_pong_between(library, library.queue(), library.queue(), size)


def simple_queue(size: Size) -> Sample:
    """Kernel threads with the standard library's queue in C."""
    return ping_pong_between(kernel(), queue.SimpleQueue(), queue.SimpleQueue(), size)


def gevent_simple_queue(size: Size) -> Sample:
    """gevent's queue without a bound, without task counts."""
    simple = import_module("gevent.queue").SimpleQueue
    return ping_pong_between(gevent(), simple(), simple(), size)


async def ping_pong_async(size: Size) -> Sample:
    watch, there, back = Stopwatch(), asyncio.Queue[int](), asyncio.Queue[int]()
    echoed = count()

    async def echo() -> None:
        for _ in range(size.rounds):
            await back.put(await there.get())
        next(echoed)

    other = asyncio.create_task(echo())
    watch.start()
    for number in range(size.rounds):
        await there.put(number)
        await back.get()
    watch.stop()
    await other
    return watch.sample(1 + next(echoed), size.rounds)


def two_switches(size: Size) -> Sample:
    """The least that will do: one greenlet switches to the other, which switches back."""
    from greenlet import getcurrent, greenlet

    watch, root = Stopwatch(), getcurrent()

    def echo(item: int) -> int:
        for _ in range(size.rounds):
            item = root.switch(item)
        return item

    other = greenlet(echo)
    other.switch(0)
    watch.start()
    for number in range(size.rounds):
        other.switch(number)
    watch.stop()
    return watch.sample(1 + int(other.dead), size.rounds)


def stream(bound: int | None, library: Blocking, size: Size) -> Sample:
    """One thread puts, another gets. Without a bound, the first may put everything at once."""
    bounds = () if bound is None else (bound,)
    items = library.queue(*bounds)
    watch, ended = Stopwatch(), count()

    def produce() -> None:
        for number in range(size.rounds):
            items.put(number)
        next(ended)

    def consume() -> None:
        for _ in range(size.rounds):
            items.get()
        next(ended)

    def main() -> None:
        watch.start()
        both = [library.spawn(consume), library.spawn(produce)]
        for each in both:
            library.join(each)
        watch.stop()

    library.run(main)
    return watch.sample(next(ended), size.rounds)


async def stream_async(bound: int | None, size: Size) -> Sample:
    items = asyncio.Queue[int](bound or 0)
    watch, ended = Stopwatch(), count()

    async def produce() -> None:
        for number in range(size.rounds):
            await items.put(number)
        next(ended)

    async def consume() -> None:
        for _ in range(size.rounds):
            await items.get()
        next(ended)

    watch.start()
    for task in [asyncio.create_task(consume()), asyncio.create_task(produce())]:
        await task
    watch.stop()
    return watch.sample(next(ended), size.rounds)


def streams(name: str, title: str, bound: int | None) -> Scenario:
    return Scenario(
        name=name,
        title=title,
        size=Size(2, 100_000),
        quick=Size(2, 10_000),
        figures=cpu_and_wall("µs"),
        contestants=(
            *blocking(partial(stream, bound), kernel_slower_by=5),
            *awaiting(partial(stream_async, bound)),
        ),
    )


SCENARIOS = (
    Scenario(
        name="queue-ping-pong",
        title="queue, round trip between two",
        size=Size(2, 50_000),
        quick=Size(2, 5_000),
        figures=cpu_and_wall("µs"),
        contestants=(
            *blocking(ping_pong, kernel_slower_by=10),
            Contestant("kernel", simple_queue, "SimpleQueue", slower_by=10),
            Contestant("gevent", gevent_simple_queue, "SimpleQueue"),
            *awaiting(ping_pong_async),
            *bare(two_switches),
        ),
    ),
    streams("queue-bounded", "queue of 100, put + get", 100),
    streams("queue-unbounded", "queue without bound, put + get", None),
)
