"""Strategies of exploration, each on a page: which thread takes the next step, and what to try next.

Two kinds. Those that sample draw each execution anew: `random_walk`, `pct`, `pos`, `surw`. Those that enumerate know
what they have seen, and when they have seen everything: `depth_first` and, in a small way, `round_robin`. `portfolio`
spends a budget among several; `replay` follows decisions that were made before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.strategies.depth_first import DepthFirst
from scheduler.strategies.dpor import DPOR
from scheduler.strategies.pct import PCT
from scheduler.strategies.portfolio import Portfolio
from scheduler.strategies.pos import POS
from scheduler.strategies.random_walk import RandomWalk
from scheduler.strategies.replay import Replay
from scheduler.strategies.round_robin import RoundRobin
from scheduler.strategies.surw import SURW

if TYPE_CHECKING:
    from collections.abc import Callable

    from scheduler.strategy import Strategy

__all__ = [
    "BY_NAME",
    "DPOR",
    "PCT",
    "POS",
    "SURW",
    "DepthFirst",
    "Portfolio",
    "RandomWalk",
    "Replay",
    "RoundRobin",
    "by_name",
]


def _auto(seed: int, bound: int | None) -> Strategy:
    samplers: list[Strategy] = [PCT(2, seed), POS(seed), PCT(3, seed), SURW(seed), RandomWalk(seed)]
    return Portfolio([RoundRobin(), DepthFirst(bound), *samplers])


# What makes a strategy, from a seed and a bound on preemptions, by the names that users give.
BY_NAME: dict[str, Callable[[int, int | None], Strategy]] = {
    "auto": _auto,
    "dfs": lambda seed, bound: DepthFirst(bound),
    "dpor": lambda seed, bound: DPOR(),
    "pct": lambda seed, bound: PCT(3, seed),
    "pos": lambda seed, bound: POS(seed),
    "random": lambda seed, bound: RandomWalk(seed),
    "round_robin": lambda seed, bound: RoundRobin(),
    "surw": lambda seed, bound: SURW(seed),
}


def by_name(name: str, seed: int, bound: int | None = None) -> Strategy:
    """The strategy of that name; ValueError that lists the names if there is none."""
    if name not in BY_NAME:
        raise ValueError(f"there is no strategy {name!r}; there are {', '.join(map(repr, BY_NAME))}")
    return BY_NAME[name](seed, bound)
