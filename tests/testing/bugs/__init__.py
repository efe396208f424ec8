"""Programs with a bug, each with its repaired twin: what the harness must find, and what it must leave alone.

A program is one function, `program(repaired)`, so that the repair stands beside the bug. It is ordinary code on
`threading`. Most programs are explored with operations on primitives for choice points, and nothing else: there, a race
on plain memory has a `pause()` where a switch does the harm. The families `fields` and `containers` are about plain
memory, and have none.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from together import together

from greenthreads.testing import explore

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OPERATIONS_ONLY", "PAIRS", "Pair", "guard", "load", "pair", "pause", "together"]

# Choice points at operations on primitives only: accesses to memory are for programs that say so in their options.
OPERATIONS_ONLY = {name: False for name in ("memory",) if name in inspect.signature(explore).parameters}

FAMILIES = ("waking", "signals", "locking", "sharing", "queues", "workers", "closing", "fields", "containers")


class Pair(NamedTuple):
    """A bug and its repair. `options` are for `explore`."""

    name: str
    family: str
    program: Callable[[bool], None]
    # The kind of failure that the bug leads to.
    kind: str
    # Whether all of the repaired program can be seen without a reduction, where choice points are as in `options`;
    # and whether there is too much of it even for `dpor`, with accesses to memory for choice points.
    small: bool
    large: bool
    options: dict[str, Any]


PAIRS: list[Pair] = []


def pair(
    kind: str, small: bool = False, large: bool = False, **options: Any
) -> Callable[[Callable[[bool], None]], Callable[[bool], None]]:
    """Enter a program into the table."""

    def enter(program: Callable[[bool], None]) -> Callable[[bool], None]:
        family = program.__module__.rpartition(".")[2]
        PAIRS.append(Pair(program.__name__, family, program, kind, small, large, {**OPERATIONS_ONLY, **options}))
        return program

    return enter


def load() -> list[Pair]:
    """All of them, family by family."""
    for family in FAMILIES:
        importlib.import_module(f"bugs.{family}")
    return PAIRS


def guard(repaired: bool, lock: Any = None) -> Any:
    """For a `with`: a lock where it is repaired, and nothing where it was forgotten."""
    return (lock or threading.Lock()) if repaired else contextlib.nullcontext()


def pause() -> None:
    """Where another thread may come in between."""
    time.sleep(0)
