"""`local`: reading an attribute that each thread has for itself."""

from __future__ import annotations

import threading
from importlib import import_module
from typing import Any

from benchmarks.libraries import Runner, call, eventlet, greenthreads, kernel
from benchmarks.measure import Sample, Size, Stopwatch
from benchmarks.scenario import Contestant, Scenario, cpu_and_wall

__all__ = ["SCENARIOS"]


def read(run: Runner, mine: Any, size: Size) -> Sample:
    """Ten reads a round, so that the loop around them counts for little."""
    watch = Stopwatch()

    def main() -> None:
        mine.value = 1
        watch.start()
        for _ in range(size.rounds):
            _ = mine.value
            _ = mine.value
            _ = mine.value
            _ = mine.value
            _ = mine.value
            _ = mine.value
            _ = mine.value
            _ = mine.value
            _ = mine.value
            _ = mine.value
        watch.stop()

    run(main)
    return watch.sample(1, 10 * size.rounds)


def in_user_thread(size: Size) -> Sample:
    return read(greenthreads().run, import_module("greenthreads").local(), size)


def in_gevent(size: Size) -> Sample:
    """gevent's, which is compiled."""
    return read(call, import_module("gevent.local").local(), size)


def in_eventlet(size: Size) -> Sample:
    eventlet()
    return read(call, import_module("eventlet.corolocal").local(), size)


def in_kernel_thread(size: Size) -> Sample:
    """The yardstick: `threading.local`, in C."""
    return read(kernel().run, threading.local(), size)


SCENARIOS = (
    Scenario(
        name="local-read",
        title="local, read an attribute",
        size=Size(1, 100_000),
        quick=Size(1, 5_000),
        figures=cpu_and_wall("ns"),
        contestants=(
            Contestant("greenthreads", in_user_thread),
            Contestant("gevent", in_gevent),
            Contestant("eventlet", in_eventlet),
            Contestant("kernel", in_kernel_thread),
        ),
    ),
)
