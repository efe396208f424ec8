"""The stopwatch, what it yields, and how much memory a process holds."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import dataclass, field
from time import perf_counter, process_time

__all__ = ["Sample", "Size", "Stopwatch", "peak_bytes", "resident_bytes"]


@dataclass(frozen=True)
class Size:
    """How much to measure: this many threads, each doing its work this many times."""

    threads: int
    rounds: int = 1


@dataclass(frozen=True)
class Sample:
    """What one measurement found.

    `threads` counts the threads that really ran, as they counted themselves. `wall` and `cpu` are
    seconds for all `operations` together; `cpu` covers every kernel thread of the process. `began`
    is the CPU time that the process had used when the stopwatch was first started, from which the
    parent process works out `cpu_to_exit`: all that was used from there until the process was
    gone, its teardown included. `figures` holds what is no time.
    """

    threads: int
    operations: int
    wall: float
    cpu: float
    began: float
    figures: dict[str, float] = field(default_factory=dict)
    cpu_to_exit: float | None = None


class Stopwatch:
    """Wall and CPU time, added up over every stretch from `start()` to `stop()`."""

    def __init__(self) -> None:
        self.wall = 0.0
        self.cpu = 0.0
        self._began: float | None = None
        self._wall_at_start = 0.0
        self._cpu_at_start = 0.0

    def start(self) -> None:
        if self._began is None:
            # What was left behind by imports is collected here rather than in the first stretch.
            gc.collect()
            self._began = process_time()
        self._wall_at_start = perf_counter()
        self._cpu_at_start = process_time()

    def stop(self) -> None:
        self.cpu += process_time() - self._cpu_at_start
        self.wall += perf_counter() - self._wall_at_start

    def sample(self, threads: int, operations: int, **figures: float) -> Sample:
        if self._began is None:
            raise RuntimeError("the stopwatch was never started")
        return Sample(threads, operations, self.wall, self.cpu, self._began, figures)


def resident_bytes() -> int:
    """The memory that this process holds now; where the system does not tell, its peak so far.

    The peak serves as well here: what is measured is how far it rises while threads are started.
    """
    try:
        with open("/proc/self/statm", "rb") as statm:
            return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except FileNotFoundError:
        return peak_bytes()


def peak_bytes() -> int:
    """The most memory that this process has held so far."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
