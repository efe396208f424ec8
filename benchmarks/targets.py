"""What the project promises of its speed, each as a ratio within one run."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import median

from benchmarks.catalogue import SCENARIOS
from benchmarks.libraries import LIBRARIES

__all__ = ["TARGETS", "Outcome", "Reading", "Target", "judge"]

OURS = "greenthreads"


@dataclass(frozen=True)
class Reading:
    """Which figure, of which contestant, in which scenario."""

    scenario: str
    contestant: str
    figure: str


# The figures that a run has found: one for each round, in the order of the rounds.
Lookup = Callable[[Reading], list[float]]


@dataclass(frozen=True)
class Target:
    """`left` divided by `right` (or by 1) must not exceed the limit.

    `at_least` turns the sense round, for promises of the form "three times faster than".
    """

    what: str
    left: Reading
    right: Reading | None
    limit: float
    wording: str
    at_least: bool = False


@dataclass(frozen=True)
class Outcome:
    """`ratio` is that of the medians; `low` and `high` are the least and greatest of any round."""

    target: Target
    ratio: float
    low: float
    high: float

    @property
    def reached(self) -> bool:
        limit = self.target.limit
        return self.ratio >= limit if self.target.at_least else self.ratio <= limit

    @property
    def verdict(self) -> str:
        """The median decides; rounds that disagree with it are not hidden."""
        limit = self.target.limit
        verdict = "reached" if self.reached else "MISSED"
        return f"{verdict}, not in every round" if self.low < limit < self.high else verdict


def judge(target: Target, figures: Lookup) -> Outcome | None:
    """None if one of the two was not measured."""
    left = figures(target.left)
    right = [1.0] * len(left) if target.right is None else figures(target.right)
    if not left or not right:
        return None
    ratios = [over / under for over, under in zip(left, right)]  # noqa: B905 - a round may fail
    return Outcome(target, median(left) / median(right), min(ratios), max(ratios))


def headline(scenario: str) -> str:
    return SCENARIOS[scenario].figures[0].name


def at_most(factor: float, other: str, scenario: str, figure: str = "") -> Target:
    """Ours is at most `factor` times the other's."""
    name, title = figure or headline(scenario), LIBRARIES[other].title
    return Target(
        scenario,
        Reading(scenario, OURS, name),
        Reading(scenario, other, name),
        factor,
        f"at most {factor:g} times {title}" if factor != 1 else f"at most that of {title}",
    )


def faster(factor: float, other: str, scenario: str) -> Target:
    """The other's is at least `factor` times ours."""
    name, title = headline(scenario), LIBRARIES[other].title
    return Target(
        scenario,
        Reading(scenario, other, name),
        Reading(scenario, OURS, name),
        factor,
        f"{factor:g} times faster than {title}" if factor != 1 else f"ahead of {title}",
        at_least=True,
    )


def within(limit: float, scenario: str, figure: str) -> Target:
    """Ours is at most `limit`, in the unit of the figure."""
    unit = SCENARIOS[scenario].figure(figure).unit
    return Target(
        scenario, Reading(scenario, OURS, figure), None, limit, f"at most {limit:g} {unit}"
    )


def no_steeper(limit: float, small: str, large: str, figure: str) -> Target:
    """Four times the threads cost at most `limit` times as much each: quadratic would be 4."""
    return Target(
        large,
        Reading(large, OURS, figure),
        Reading(small, OURS, figure),
        limit,
        f"{figure}: each at most {limit:g} times that at a quarter",
    )


def ahead(scenarios: Iterable[str]) -> Iterable[Target]:
    for scenario in scenarios:
        yield faster(1, "uvloop", scenario)
        yield faster(3, "gevent", scenario)


TARGETS = (
    at_most(2.2, "bare", "yield-100"),
    at_most(2.2, "bare", "yield-10000"),
    faster(3, "gevent", "yield-100"),
    faster(3, "gevent", "yield-10000"),
    faster(1, "uvloop", "yield-100"),
    faster(7, "gevent", "spawn"),
    faster(25, "kernel", "spawn"),
    faster(7, "gevent", "spawn-batch"),
    faster(25, "kernel", "spawn-batch"),
    at_most(1.2, "bare", "memory"),
    *ahead(("event", "queue-ping-pong", "lock-contended")),
    at_most(1, "gevent", "lock-free"),
    at_most(1, "kernel", "queue-user-kernel"),
    at_most(3, "kernel", "local-read"),
    *(faster(1.3, "gevent", f"echo-{connections}") for connections in (10, 100, 2000)),
    *(faster(1, "uvloop", f"echo-{connections}") for connections in (10, 100)),
    faster(1, "gevent", "echo-tls"),
    within(10_000, "idle-10k", "bytes"),
    at_most(1, "asyncio", "sleep-100k"),
    at_most(1, "asyncio", "sleep-100k", "p99"),
    # One millisecond is the resolution of epoll's timeout, another what it takes to be scheduled.
    within(2, "sleep-1k", "p99"),
    within(24, "million-1000k", "peak"),
    no_steeper(2, "million-250k", "million-1000k", "start"),
    no_steeper(2, "million-250k", "million-1000k", "wake"),
    no_steeper(2, "million-250k", "million-1000k", "end"),
)
