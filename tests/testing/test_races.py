"""Data races and lock orders: what is reported though nothing failed, and what is not."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

import pytest
from together import together

from greenthreads.testing import explore, replay


class Box:
    def __init__(self) -> None:
        self.value = 0
        self.ready = False


def unguarded_write() -> None:
    box = Box()

    def write() -> None:
        box.value = 1

    together(write, write)
    assert box.value == 1


def test_a_race_is_reported_that_fails_nothing() -> None:
    found = explore(unguarded_write)
    assert found.failure is None
    assert found.exhausted
    (race,) = found.races
    assert race.what == "Box.value"
    assert str(race).splitlines() == [
        "data race on Box.value: write and write, with nothing to put them in order",
        "  thread 1 Thread-1 (write) writes it, holding no lock",
        "    test_races.py:26 in write: box.value = 1",
        "  thread 2 Thread-2 (write) writes it, holding no lock",
        "    test_races.py:26 in write: box.value = 1",
    ]


def test_it_can_be_a_failure() -> None:
    found = explore(unguarded_write, races="fail")
    assert found.failure is not None
    assert found.failure.kind == "data race"
    with pytest.raises(AssertionError, match=r"data race on Box\.value"):
        replay(unguarded_write, found.failure.trace, races="fail")


def test_or_be_nobody_s_business() -> None:
    assert explore(unguarded_write, races="off").races == []


def test_a_comment_declares_it_benign() -> None:
    def main() -> None:
        box = Box()

        def write() -> None:
            box.value = 1  # benign race: all write the same

        together(write, write)

    assert explore(main).races == []


def by_lock(box: Box) -> tuple[Callable[[], object], ...]:
    lock = threading.Lock()

    def add() -> None:
        with lock:
            box.value += 1

    return add, add


def by_event(box: Box) -> tuple[Callable[[], object], ...]:
    event = threading.Event()

    def give() -> None:
        box.value = 1
        event.set()

    def take() -> None:
        event.wait()
        assert box.value == 1

    return give, take


def by_queue(box: Box) -> tuple[Callable[[], object], ...]:
    items: queue.Queue[Box] = queue.Queue()

    def give() -> None:
        box.value = 1
        items.put(box)

    def take() -> None:
        assert items.get().value == 1

    return give, take


def by_condition(box: Box) -> tuple[Callable[[], object], ...]:
    condition = threading.Condition()

    def give() -> None:
        with condition:
            box.ready = True
            box.value = 1
            condition.notify()

    def take() -> None:
        with condition:
            while not box.ready:
                condition.wait()
            assert box.value == 1

    return give, take


def by_semaphore(box: Box) -> tuple[Callable[[], object], ...]:
    permit = threading.Semaphore(0)

    def give() -> None:
        box.value = 1
        permit.release()

    def take() -> None:
        permit.acquire()
        assert box.value == 1

    return give, take


@pytest.mark.parametrize("order", [by_lock, by_event, by_queue, by_condition, by_semaphore])
def test_what_is_in_order_is_no_race(order: Any) -> None:
    def main() -> None:
        box = Box()
        together(*order(box))
        # Starting and joining put in order, too.
        box.value += 1

    found = explore(main)
    assert found.failure is None
    assert found.races == []
    assert found.exhausted


def test_a_flag_is_no_lock() -> None:
    def main() -> None:
        box = Box()

        def give() -> None:
            box.value = 1
            box.ready = True

        def take() -> None:
            if box.ready:
                assert box.value == 1

        together(give, take)

    found = explore(main)
    assert found.failure is None
    assert sorted(race.what for race in found.races) == ["Box.ready", "Box.value"]


def test_locks_in_both_orders_are_named_though_no_execution_was_stuck() -> None:
    def main() -> None:
        a, b = threading.Lock(), threading.Lock()

        def one() -> None:
            with a, b:
                pass

        def other() -> None:
            with b, a:
                pass

        first = threading.Thread(target=one)
        first.start()
        first.join()
        other()

    found = explore(main)
    assert found.failure is None
    (order,) = found.lock_orders
    assert str(order).splitlines()[0] == "two locks are taken in both orders, which may deadlock"
    assert "takes the one while it holds the other, holding Lock" in str(order)


def test_a_lock_around_both_keeps_them_apart() -> None:
    def main() -> None:
        a, b, gate = threading.Lock(), threading.Lock(), threading.Lock()

        def one() -> None:
            with gate, a, b:
                pass

        def other() -> None:
            with gate, b, a:
                pass

        together(one, other)

    found = explore(main)
    assert found.failure is None
    assert found.lock_orders == []
