"""A scenario: one measurement, who takes part in it, and which figures are read from it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.libraries import AWAITING, BLOCKING, Awaiting, Blocking
from benchmarks.measure import Sample, Size

__all__ = [
    "CPU",
    "WALL",
    "Contestant",
    "Figure",
    "Scenario",
    "awaiting",
    "bare",
    "blocking",
    "cpu_and_wall",
]

Measure = Callable[[Size], Sample]
CPU, WALL = "cpu", "wall"


@dataclass(frozen=True)
class Figure:
    """A number read from a sample: less is better, always."""

    name: str
    unit: str
    read: Callable[[Sample], float]


@dataclass(frozen=True)
class Contestant:
    """A library, or a variant of it, with the function that measures it.

    `slower_by` divides the rounds where a library would take too long; `most_threads` bounds their
    number where it cannot have so many. The time per operation stays comparable either way, and
    the report says where fewer threads ran.
    """

    library: str
    measure: Measure
    variant: str = ""
    slower_by: int = 1
    most_threads: int | None = None

    @property
    def name(self) -> str:
        return f"{self.library}:{self.variant}" if self.variant else self.library

    def sized(self, size: Size) -> Size:
        threads = min(size.threads, self.most_threads or size.threads)
        return Size(threads, max(1, size.rounds // self.slower_by))


@dataclass(frozen=True)
class Scenario:
    """A measurement: `title` is filled in with the number of threads.

    The first of `figures` is the headline. `on_request` leaves it out of a plain run.
    """

    name: str
    title: str
    size: Size
    quick: Size
    figures: tuple[Figure, ...]
    contestants: tuple[Contestant, ...]
    on_request: bool = False

    def titled(self, *, quick: bool) -> str:
        return self.title.format(threads=(self.quick if quick else self.size).threads)

    def figure(self, name: str) -> Figure:
        return next(figure for figure in self.figures if figure.name == name)

    def contestant(self, name: str) -> Contestant:
        return next(each for each in self.contestants if each.name == name)


SECONDS: Mapping[str, float] = {"s": 1.0, "ms": 1e3, "µs": 1e6, "ns": 1e9}


def cpu_and_wall(unit: str, *, headline: str = CPU) -> tuple[Figure, Figure]:
    """CPU and wall time per operation."""
    scale = SECONDS[unit]
    cpu = Figure(CPU, f"{unit} CPU", lambda sample: sample.cpu / sample.operations * scale)
    wall = Figure(WALL, f"{unit} wall", lambda sample: sample.wall / sample.operations * scale)
    return (cpu, wall) if headline == CPU else (wall, cpu)


def blocking(
    body: Callable[[Blocking, Size], Sample],
    *,
    kernel_slower_by: int = 20,
    kernel_threads: int | None = None,
    but: tuple[str, ...] = (),
) -> tuple[Contestant, ...]:
    """Every library whose threads block, measured by the same `body`, `but` for those named."""

    def measured(load: Callable[[], Blocking]) -> Measure:
        return lambda size: body(load(), size)

    return tuple(
        Contestant(name, measured(load), "", kernel_slower_by, kernel_threads)
        if name == "kernel"
        else Contestant(name, measured(load))
        for name, load in BLOCKING.items()
        if name not in but
    )


def awaiting(body: Callable[[Size], Coroutine[Any, Any, Sample]]) -> tuple[Contestant, ...]:
    """Both event loops, measured by the same coroutine function."""

    def measured(load: Callable[[], Awaiting]) -> Measure:
        return lambda size: load().run(body(size))

    return tuple(Contestant(name, measured(load)) for name, load in AWAITING.items())


def bare(body: Measure) -> tuple[Contestant, ...]:
    """greenlet itself, with no scheduler: the floor under everything that is built on it."""
    return (Contestant("bare", body),)
