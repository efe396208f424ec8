"""Strategies of exploration, each on a page: which thread takes the next step, and what to try next.

Two kinds. Those that sample draw each execution anew: `random_walk`, `pct`, `pos`, `surw`. Those that enumerate know
what they have seen, and when they have seen everything: `depth_first`, `dpor` and `bounded_dpor` (which look back at
what has `happened`) and, in a small way, `round_robin`. `portfolio` spends a budget among several; `replay` follows
decisions that were made before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduler.strategies.bounded_dpor import BoundedDPOR
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
    "BoundedDPOR",
    "DepthFirst",
    "Portfolio",
    "RandomWalk",
    "Replay",
    "RoundRobin",
    "beside",
    "by_name",
]


def _dpor(bound: int | None) -> Strategy:
    return DPOR() if bound is None else BoundedDPOR(bound)


def _auto(seed: int, bound: int | None, memory: bool) -> Strategy:
    # To reduce is sound only where all that threads share is seen.
    main: Strategy = _dpor(bound) if memory else DepthFirst(bound)
    return Portfolio([RoundRobin(), main, *_samplers(seed)])


def _samplers(seed: int) -> list[Strategy]:
    return [PCT(2, seed), POS(seed), PCT(3, seed), SURW(seed), RandomWalk(seed)]


# What makes a strategy, from a seed, a bound on preemptions, and whether memory is watched, by the names users give.
BY_NAME: dict[str, Callable[[int, int | None, bool], Strategy]] = {
    "auto": _auto,
    "dfs": lambda seed, bound, memory: DepthFirst(bound),
    "dpor": lambda seed, bound, memory: _dpor(bound),
    "pct": lambda seed, bound, memory: PCT(3, seed),
    "pos": lambda seed, bound, memory: POS(seed),
    "random": lambda seed, bound, memory: RandomWalk(seed),
    "round_robin": lambda seed, bound, memory: RoundRobin(),
    "surw": lambda seed, bound, memory: SURW(seed),
}


_BOUNDED = ("auto", "dfs", "dpor")
_DRAWN = ("pct", "pos", "random", "surw")


def by_name(name: str, seed: int, bound: int | None = None, memory: bool = False) -> Strategy:
    """The strategy of that name; ValueError that lists the names if there is none."""
    if name not in BY_NAME:
        raise ValueError(f"there is no strategy {name!r}; there are {', '.join(map(repr, BY_NAME))}")
    if bound is not None and name not in _BOUNDED:
        raise ValueError(f"{name!r} knows no bound on preemptions; {', '.join(map(repr, _BOUNDED))} do")
    return BY_NAME[name](seed, bound, memory)


def beside(name: str, seed: int, number: int) -> Strategy:
    """For the process of that number, from 1 on, of several that search beside the first: a strategy that draws.

    The same as the first one has, with another seed. Beside "auto", which enumerates too, each takes another one
    of those that "auto" draws by. ValueError for a strategy that goes on from what it has seen, and can't be divided.
    """
    if name == "auto":
        samplers = _samplers(seed + number)
        return samplers[(number - 1) % len(samplers)]
    if name not in _DRAWN:
        able = ", ".join(map(repr, ("auto", *_DRAWN)))
        raise ValueError(f"{name!r} goes on from what it has seen, and can't be divided among processes; {able} can")
    return BY_NAME[name](seed + number, None, False)
