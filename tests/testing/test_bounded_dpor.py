"""DPOR with a bound on preemptions: what can be had within it is found, what can't is not, and it says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

import pytest
from executions import Box, lost_update, outcomes, together

from greenthreads.testing import explore
from scheduler.strategies import BoundedDPOR, DepthFirst, Portfolio, by_name


def two_writes_and_a_read() -> Hashable:
    x, y = Box(), Box()
    seen: list[int] = []
    together(lambda: (x.write(1), y.write(1)), lambda: seen.append(y.read()))
    return tuple(seen)


def left_blocked() -> Hashable:
    """Three threads; one of them waits for a lock in the middle of what it does."""
    box, lock = Box(), threading.Lock()
    lock.acquire()

    def release() -> None:
        box.read()
        lock.release()

    def wait() -> None:
        box.write(box.read() + 1)
        with lock:
            box.write(10 * box.read())

    together(release, wait, lambda: box.write(box.read() + 2))
    return box.read()


def handed_over() -> Hashable:
    """Events that make each thread wait for the other: to leave who waits costs nothing."""
    there, back = threading.Event(), threading.Event()
    box = Box()

    def serve() -> None:
        there.wait()
        box.write(1)
        back.set()

    def call() -> None:
        box.write(2)
        there.set()
        back.wait(1)

    together(serve, call)
    return box.read()


PROGRAMS = [lost_update, two_writes_and_a_read, left_blocked, handed_over]


@pytest.mark.parametrize("early", [False, True], ids=["due", "early"])
@pytest.mark.parametrize("bound", [0, 1, 2])
@pytest.mark.parametrize("program", PROGRAMS)
def test_what_depth_first_finds_within_the_bound_and_no_more(
    program: Callable[[], Hashable], bound: int, early: bool
) -> None:
    reduced, few = outcomes(program, BoundedDPOR(bound), early=early, bounded=True)
    full, many = outcomes(program, DepthFirst(bound), early=early, bounded=True)
    assert reduced == full
    assert few < many


@pytest.mark.parametrize(("bound", "sums"), [(0, {2}), (1, {1, 2}), (2, {1, 2})])
def test_a_lost_update_takes_one_preemption(bound: int, sums: set[int]) -> None:
    strategy = BoundedDPOR(bound)
    found, executions = outcomes(lost_update, strategy, bounded=True)
    assert found == sums
    # One after the other, in both orders. With preemptions there are several ways to the same.
    assert executions == 2 if bound == 0 else executions > 4
    assert not strategy.exhausted


def test_a_bound_that_keeps_nothing_out_is_none() -> None:
    strategy = BoundedDPOR(10)
    assert outcomes(lost_update, strategy, bounded=True)[0] == {1, 2}
    assert strategy.exhausted


def test_to_begin_a_block_with_another_thread_costs_no_preemption() -> None:
    # Just before the write the read would be a preemption; before the thread's other write, which is independent of
    # it, it is none.
    assert outcomes(two_writes_and_a_read, BoundedDPOR(0), bounded=True) == ({(0,), (1,)}, 2)


class Counter:
    def __init__(self) -> None:
        self.value = 0

    def increment(self) -> None:
        self.value += 1


def increment_twice() -> None:
    counter = Counter()
    together(counter.increment, counter.increment)
    assert counter.value == 2


@pytest.mark.parametrize("strategy", ["dpor", "auto"])
@pytest.mark.parametrize("bound", [1, 2])
def test_a_lost_update_on_an_attribute(strategy: str, bound: int) -> None:
    found = explore(increment_twice, strategy=strategy, preemption_bound=bound)
    assert found.failure is not None
    assert found.failure.preemptions == 1


def test_without_a_preemption_it_is_not_lost() -> None:
    found = explore(increment_twice, strategy="dpor", preemption_bound=0)
    assert found.failure is None
    assert not found.exhausted
    assert found.coverage.startswith(
        f"{found.executions} executions: every schedule without preemptions, up to the order of independent steps, of "
        "the threads' operations on primitives, memory accesses seen in "
    )


def test_it_says_what_it_has_covered() -> None:
    def read() -> None:
        box = Box()
        together(box.read, box.read)

    found = explore(read, strategy="dpor", preemption_bound=1, memory=False)
    assert found.exhausted
    assert found.coverage == (
        "1 execution: every schedule, up to the order of independent steps, of the threads' operations on primitives; "
        "time passed only when nothing else could run"
    )
    strategy = BoundedDPOR(1)
    strategy.begin()
    assert strategy.coverage() == (
        "schedules of at most 1 preemption, reduced by the order of independent steps"
    )
    outcomes(lost_update, strategy := BoundedDPOR(1), bounded=True)
    assert strategy.coverage() == "every schedule of at most 1 preemption, up to the order of independent steps,"


def test_its_name() -> None:
    assert isinstance(by_name("dpor", 0, 1, memory=True), BoundedDPOR)
    auto = by_name("auto", 0, 1, memory=True)
    assert isinstance(auto, Portfolio)
    assert any(isinstance(each, BoundedDPOR) for each in auto._strategies)
    with pytest.raises(ValueError, match="the bound on preemptions must be at least 0, not -1"):
        by_name("dpor", 0, -1)
