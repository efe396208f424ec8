"""What a long execution costs: as much as it has steps, not their square."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable

import pytest
from executions import Box, together

from greenthreads.testing._session import Session
from scheduler import control
from scheduler.strategies import DPOR, BoundedDPOR, DepthFirst
from scheduler.strategy import Strategy

ENUMERATING: list[Callable[[], Strategy]] = [DepthFirst, DPOR, lambda: BoundedDPOR(1)]


def kept_after(make: Callable[[], Strategy], writes: int) -> int:
    """The bytes that a strategy keeps after an execution in which each of two threads writes so often."""

    def program() -> None:
        box = Box()

        def write() -> None:
            for number in range(writes):
                box.write(number)

        together(write, write)

    with Session(program) as session:
        control.access = session.scheduler.memory_steps.access
        try:
            session.run(Strategy())  # What is made once.
            strategy = make()
            strategy.begin()
            tracemalloc.start()
            assert session.run(strategy) is None
            assert len(session.scheduler.trace) > 2 * writes
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()
            control.access = None


@pytest.mark.parametrize("make", ENUMERATING, ids=["dfs", "dpor", "dpor within a bound"])
def test_what_is_kept_grows_with_the_steps(make: Callable[[], Strategy]) -> None:
    assert kept_after(make, 800) < 3 * kept_after(make, 400)
