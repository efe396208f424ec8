"""How small a failing schedule gets: whoever has found it, it shrinks to the fewest preemptions that it takes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from plain import explore
from together import together


def lost_update() -> None:
    counter = 0
    lock = threading.Lock()

    def increment() -> None:
        nonlocal counter
        for _ in range(3):
            with lock:
                value = counter
            with lock:
                counter = value + 1

    together(increment, increment)
    assert counter == 6


def lock_order() -> None:
    one, other, *beside = (threading.Lock() for _ in range(5))

    def work(first: Any, second: Any) -> None:
        for lock in beside:
            with lock:
                pass
        with first, second:
            pass

    together(lambda: work(one, other), lambda: work(other, one), lambda: work(one, other))


def if_for_while() -> None:
    items: list[int] = []
    condition = threading.Condition()

    def get() -> None:
        with condition:
            if not items:
                condition.wait()
            items.pop()

    def put() -> None:
        with condition:
            items.append(1)
            condition.notify()

    together(get, get, put, put)


def philosophers() -> None:
    forks = [threading.Lock() for _ in range(4)]

    def dine(left: Any, right: Any) -> None:
        for _ in range(2):
            with left, right:
                pass

    together(*[lambda n=n: dine(forks[n], forks[(n + 1) % 4]) for n in range(4)])


def missed_event() -> None:
    event = threading.Event()

    def wait() -> None:
        event.clear()
        event.wait()

    together(wait, event.set)


# The fewest preemptions that the bug takes, by hand: one of the philosophers is interrupted with a fork in hand; if
# the others then come in the order against the ring, each finds its second fork taken and is left without a preemption.
# The fewest switches from thread to thread that go with that.
@pytest.mark.parametrize(
    ("program", "preemptions", "switches"),
    [(lost_update, 1, 4), (lock_order, 1, 3), (if_for_while, 0, 4), (philosophers, 1, 4), (missed_event, 0, 2)],
)
@pytest.mark.parametrize("strategy", ["random", "pct", "pos", "surw", "auto"])
def test_the_schedule_is_as_small_as_it_can_be(
    program: Callable[[], None], preemptions: int, switches: int, strategy: str
) -> None:
    found = explore(program, strategy=strategy, seed=1, max_seconds=30)
    assert found.failure is not None
    assert found.failure.preemptions == preemptions
    assert found.failure.trace.count("/") <= switches


def test_what_is_shrunk_fails_in_the_same_way() -> None:
    def main() -> None:
        lock = threading.Lock()
        order: list[int] = []

        def work(number: int) -> None:
            with lock:
                order.append(number)

        together(*[lambda n=n: work(n) for n in range(3)])
        # The second of these is the smaller failure: it must not take the place of the first.
        if order == [2, 1, 0]:
            raise KeyError(order)
        if order != [0, 1, 2]:
            raise ValueError(order)

    whole = explore(main, strategy="random", seed=3, shrinking=False)
    shrunk = explore(main, strategy="random", seed=3)
    assert whole.failure is not None
    assert shrunk.failure is not None
    assert type(whole.failure.exception) is type(shrunk.failure.exception)
    assert shrunk.failure.preemptions <= whole.failure.preemptions
