"""Crossing: what it costs a user thread to deal with another kernel thread, and be answered.

In that there runs plain code, or another scheduler. Wall time is the headline: both sides sleep
between messages, and the time to wake them is the price. Queues that cross are ours and aiologic's;
for the other peers the shortest way that their documentation offers is written out. eventlet offers
none but its pool, which the offloading scenario measures.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from itertools import count
from typing import Any

from benchmarks.libraries import CROSSING, Blocking, Runner, aiologic, call, eventlet, greenthreads, kernel
from benchmarks.measure import Sample, Size, Stopwatch
from benchmarks.queues import ping_pong_between
from benchmarks.scenario import WALL, Contestant, Scenario, awaiting, cpu_and_wall

__all__ = ["SCENARIOS"]


def user_to_kernel(size: Size) -> Sample:
    """The same `Queue` and the same `Thread` as between two user threads."""
    library = import_module("greenthreads")
    watch, echoed = Stopwatch(), count()
    there, back = library.Queue(), library.Queue()

    def echo() -> None:
        for _ in range(size.rounds):
            back.put(there.get())
        next(echoed)

    def main() -> None:
        other = library.Thread(target=echo, kind="kernel")
        other.start()
        watch.start()
        for number in range(size.rounds):
            there.put(number)
            back.get()
        watch.stop()
        other.join()

    library.run_scheduler(main)
    return watch.sample(1 + next(echoed), size.rounds)


def round_trips(library: Blocking, run_there: Runner, size: Size) -> Sample:
    """Of one item between a user thread here and what `run_there` calls in a kernel thread."""
    watch, echoed = Stopwatch(), count()
    there, back = library.queue(), library.queue()

    def echo() -> None:
        for _ in range(size.rounds):
            back.put(there.get())
        next(echoed)

    def main() -> None:
        watch.start()
        for number in range(size.rounds):
            there.put(number)
            back.get()
        watch.stop()

    other = threading.Thread(target=run_there, args=(echo,))
    other.start()
    library.run(main)
    other.join()
    return watch.sample(1 + next(echoed), size.rounds)


def between_schedulers(library: Blocking, size: Size) -> Sample:
    return round_trips(library, library.run, size)


def lock_of_two(library: Blocking, size: Size) -> Sample:
    """Half of the contenders stand in either scheduler; each yields once while it has the lock."""
    watch, lock, finished = Stopwatch(), library.lock(), count()

    def worker() -> None:
        for _ in range(size.rounds):
            with lock:
                library.yield_now()
        next(finished)

    def half() -> None:
        for each in [library.spawn(worker) for _ in range(size.threads // 2)]:
            library.join(each)

    other = threading.Thread(target=library.run, args=(half,))
    watch.start()
    other.start()
    library.run(half)
    other.join()
    watch.stop()
    ran = next(finished)
    return watch.sample(ran, ran * size.rounds)


def crossing(body: Callable[[Blocking, Size], Sample]) -> tuple[Contestant, ...]:
    """The libraries whose primitives serve any kernel thread, measured by the same `body`."""

    def measured(load: Callable[[], Blocking]) -> Callable[[Size], Sample]:
        return lambda size: body(load(), size)

    return tuple(Contestant(name, measured(load)) for name, load in CROSSING.items())


def aiologic_to_kernel(size: Size) -> Sample:
    return round_trips(aiologic(), call, size)


def echo_to(reply: Callable[[int], object], size: Size) -> tuple[Any, threading.Thread]:
    """A kernel thread that hands each item of a queue to `reply`; the queue and the thread."""
    there = queue.SimpleQueue[int]()

    def echo() -> None:
        for _ in range(size.rounds):
            reply(there.get())

    thread = threading.Thread(target=echo)
    thread.start()
    return there, thread


def gevent_to_kernel(size: Size) -> Sample:
    """The hub's async watcher, the one thing that may be touched from another kernel thread."""
    hub = import_module("gevent").get_hub()
    watch, inbox = Stopwatch(), deque[int]()
    back = import_module("gevent.queue").SimpleQueue()
    watcher = hub.loop.async_()

    def deliver() -> None:
        while inbox:
            back.put(inbox.popleft())

    def reply(item: int) -> None:
        inbox.append(item)
        watcher.send()

    watcher.start(deliver)
    there, thread = echo_to(reply, size)
    watch.start()
    for number in range(size.rounds):
        there.put(number)
        back.get()
    watch.stop()
    watcher.close()
    thread.join()
    return watch.sample(2, size.rounds)


async def asyncio_to_kernel(size: Size) -> Sample:
    """`call_soon_threadsafe`."""
    watch, back, loop = Stopwatch(), asyncio.Queue[int](), asyncio.get_running_loop()
    there, thread = echo_to(lambda item: loop.call_soon_threadsafe(back.put_nowait, item), size)
    watch.start()
    for number in range(size.rounds):
        there.put(number)
        await back.get()
    watch.stop()
    thread.join()
    return watch.sample(2, size.rounds)


def kernel_to_kernel(size: Size) -> Sample:
    """The yardstick: two kernel threads with the standard queue."""
    return ping_pong_between(kernel(), queue.Queue(), queue.Queue(), size)


def kernel_to_kernel_simple(size: Size) -> Sample:
    """The yardstick's lower bound: the standard library's queue in C."""
    return ping_pong_between(kernel(), queue.SimpleQueue(), queue.SimpleQueue(), size)


def offloading(
    run: Runner, offload: Callable[[Callable[[], object]], object], size: Size
) -> Sample:
    """One empty call at a time in a pool of kernel threads, which has been used before."""
    watch, ran = Stopwatch(), count()

    def target() -> int:
        return next(ran)

    def main() -> None:
        offload(target)
        watch.start()
        for _ in range(size.rounds):
            offload(target)
        watch.stop()

    run(main)
    return watch.sample(1, min(next(ran), size.rounds))


def offload_from_user(size: Size) -> Sample:
    library = import_module("greenthreads")
    return offloading(greenthreads().run, library.run_in_kernel_thread, size)


def offload_from_gevent(size: Size) -> Sample:
    return offloading(call, import_module("gevent").get_hub().threadpool.apply, size)


def offload_from_eventlet(size: Size) -> Sample:
    eventlet()
    return offloading(call, import_module("eventlet.tpool").execute, size)


def offload_from_kernel(size: Size) -> Sample:
    with ThreadPoolExecutor(1) as pool:
        return offloading(call, lambda target: pool.submit(target).result(), size)


async def offload_from_asyncio(size: Size) -> Sample:
    watch, ran, loop = Stopwatch(), count(), asyncio.get_running_loop()

    def target() -> int:
        return next(ran)

    with ThreadPoolExecutor(1) as pool:
        await loop.run_in_executor(pool, target)
        watch.start()
        for _ in range(size.rounds):
            await loop.run_in_executor(pool, target)
        watch.stop()
    return watch.sample(1, min(next(ran), size.rounds))


SCENARIOS = (
    Scenario(
        name="queue-user-kernel",
        title="queue, round trip user to kernel",
        size=Size(2, 5_000),
        quick=Size(2, 500),
        figures=cpu_and_wall("µs", headline=WALL),
        contestants=(
            Contestant("greenthreads", user_to_kernel),
            Contestant("gevent", gevent_to_kernel),
            Contestant("aiologic", aiologic_to_kernel),
            *awaiting(asyncio_to_kernel),
            Contestant("kernel", kernel_to_kernel),
            Contestant("kernel", kernel_to_kernel_simple, "SimpleQueue"),
        ),
    ),
    Scenario(
        name="queue-two-schedulers",
        title="queue, round trip of two schedulers",
        size=Size(2, 5_000),
        quick=Size(2, 500),
        figures=cpu_and_wall("µs", headline=WALL),
        contestants=(
            *crossing(between_schedulers),
            Contestant("kernel", kernel_to_kernel),
        ),
    ),
    Scenario(
        name="lock-two-schedulers",
        title="lock, {threads:,} contenders in two schedulers",
        size=Size(10, 2_000),
        quick=Size(10, 200),
        figures=cpu_and_wall("µs"),
        contestants=(
            *crossing(lock_of_two),
            Contestant("kernel", lambda size: lock_of_two(kernel(), size), slower_by=4),
        ),
    ),
    Scenario(
        name="offload",
        title="an empty call in a kernel thread",
        size=Size(1, 5_000),
        quick=Size(1, 500),
        figures=cpu_and_wall("µs", headline=WALL),
        contestants=(
            Contestant("greenthreads", offload_from_user),
            Contestant("gevent", offload_from_gevent),
            Contestant("eventlet", offload_from_eventlet),
            *awaiting(offload_from_asyncio),
            Contestant("kernel", offload_from_kernel),
        ),
    ),
)
