"""A generator that threads share: each step of it is an access, and both orders are tried."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from typing import Any

import pytest
from together import together

from greenthreads.testing import explore


def numbers() -> Generator[int, None, None]:
    number = 0
    while True:
        number += 1
        yield number


def delegating(to: Iterator[int]) -> Iterator[int]:
    yield from to


class Counter:
    def __init__(self) -> None:
        self.value = 0

    def values(self) -> Iterator[int]:
        while True:
            self.value += 1
            yield self.value


def first_of_a_loop(shared: Iterator[int]) -> int:
    for number in shared:
        return number
    raise AssertionError("an endless generator has ended")


def by_an_adapter(shared: Iterator[int]) -> int:
    for _index, number in enumerate(shared):
        return number
    raise AssertionError("an endless generator has ended")


STEPS: dict[str, Callable[[Any], int]] = {
    "next": next,
    "a method": lambda shared: shared.__next__(),
    "send": lambda shared: shared.send(None),
    "a loop": first_of_a_loop,
    "a loop over an adapter": by_an_adapter,
    "zip": lambda shared: next(zip(shared))[0],
    "a container": lambda shared: dict(zip("a", shared, strict=False))["a"],
}


class Slot:
    """What one thread has got; nobody else touches it."""

    value = 0


@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_both_orders_are_tried_and_the_race_is_seen(step: Callable[[Any], int]) -> None:
    def program() -> None:
        shared = numbers()
        mine, theirs = Slot(), Slot()

        def take(slot: Slot) -> None:
            slot.value = step(shared)

        together(lambda: take(mine), lambda: take(theirs))
        assert mine.value < theirs.value

    found = explore(program, strategy="dpor")
    assert found.failure is not None
    assert [str(race).partition(":")[0] for race in found.races] == ["data race on a generator"]


def test_through_what_delegates_to_it() -> None:
    def program() -> None:
        shared = numbers()
        # Kept: one that goes would close what it delegates to.
        one, other = delegating(shared), delegating(shared)
        mine, theirs = Slot(), Slot()

        def take(slot: Slot, steps: Iterator[int]) -> None:
            next(steps)
            slot.value = next(steps)

        together(lambda: take(mine, one), lambda: take(theirs, other))
        assert sorted((mine.value, theirs.value)) == [2, 4]

    failure = explore(program, strategy="dpor").failure
    assert failure is not None


def test_one_that_is_stepped_while_it_runs() -> None:
    def program() -> None:
        shared = Counter().values()
        together(lambda: next(shared), lambda: next(shared))

    failure = explore(program, strategy="dpor").failure
    assert failure is not None
    assert repr(failure.exception) == "ValueError('generator already executing')"


@pytest.mark.parametrize("strategy", ["dfs", "dpor"])
def test_one_that_is_stepped_while_it_does_what_is_nobody_elses_business(strategy: str) -> None:
    def slow() -> Iterator[int]:
        while True:
            time.sleep(0)
            yield 1

    def program() -> None:
        shared = slow()

        def patiently() -> None:
            try:
                next(shared)
            except ValueError:
                pass

        together(patiently, lambda: next(shared))

    failure = explore(program, strategy=strategy).failure
    assert failure is not None
    assert repr(failure.exception) == "ValueError('generator already executing')"


@pytest.mark.parametrize("end", ["close", "throw"])
def test_one_that_is_closed_meanwhile(end: str) -> None:
    def program() -> None:
        shared = numbers()
        next(shared)
        mine = Slot()

        def take() -> None:
            mine.value = next(shared, 0)

        def finish() -> None:
            if end == "close":
                shared.close()
            else:
                try:
                    shared.throw(KeyError)
                except KeyError:
                    pass

        together(take, finish)
        assert mine.value == 2

    assert explore(program, strategy="dpor").failure is not None


def test_one_that_a_thread_has_to_itself_makes_no_difference() -> None:
    def program() -> None:
        def total() -> None:
            assert sum(number for number in (1, 2)) == 3
            steps = numbers()
            assert [next(steps), next(steps)] == [1, 2]
            steps.close()

        together(total, total)

    found = explore(program, strategy="dpor")
    assert found.failure is None
    assert found.exhausted
    assert found.executions == 1
