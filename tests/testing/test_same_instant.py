"""What is due at the same instant may come in any order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

import pytest
from executions import Box, outcomes, together
from plain import explore, replay

import greenthreads
from scheduler.strategies import DPOR, DepthFirst
from scheduler.strategy import Strategy


def sleepers() -> Hashable:
    last = Box()

    def sleep(number: int) -> None:
        time.sleep(1)
        last.write(number)

    together(lambda: sleep(1), lambda: sleep(2))
    return last.read()


def set_later(event: threading.Event) -> None:
    time.sleep(1)
    event.set()


def a_wait_and_what_it_waits_for() -> Hashable:
    event = threading.Event()
    record: list[bool] = []
    together(lambda: record.append(event.wait(1)), lambda: set_later(event))
    return tuple(record)


def in_time(event: threading.Event, record: list[str]) -> None:
    try:
        with greenthreads.timeout(1):
            event.wait()
        record.append("in time")
    except TimeoutError:
        record.append("too late")


def a_limit_and_what_is_waited_for() -> Hashable:
    event = threading.Event()
    record: list[str] = []
    together(lambda: in_time(event, record), lambda: set_later(event))
    return tuple(record)


def a_limit_that_is_over_and_a_second_wait() -> Hashable:
    """The limit is due, but its thread has got what it waited for, and waits again."""
    first, second = threading.Event(), threading.Event()
    record: list[str] = []

    def wait() -> None:
        try:
            with greenthreads.timeout(1):
                first.wait()
                record.append("first")
                second.wait()
        except TimeoutError:
            record.append("too late")

    together(wait, lambda: set_later(first))
    return tuple(record)


def two_limits() -> Hashable:
    last = Box()

    def wait(number: int) -> None:
        try:
            with greenthreads.timeout(1), greenthreads.timeout(1):
                threading.Event().wait()
        except TimeoutError:
            last.write(number)

    together(lambda: wait(1), lambda: wait(2))
    return last.read()


def a_limit_that_strikes_once() -> Hashable:
    """It is not due again where the block is being left."""
    record: list[str] = []

    def wait() -> None:
        try:
            with greenthreads.timeout(1):
                try:
                    threading.Event().wait()
                finally:
                    record.append(str(threading.Event().wait(5)))
        except TimeoutError:
            record.append("too late")

    together(wait, lambda: time.sleep(1))
    return tuple(record)


@pytest.mark.parametrize("strategy", [DepthFirst, DPOR])
@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (sleepers, {1, 2}),
        (a_wait_and_what_it_waits_for, {(False,), (True,)}),
        (a_limit_and_what_is_waited_for, {("in time",), ("too late",)}),
        (a_limit_that_is_over_and_a_second_wait, {("first", "too late"), ("too late",)}),
        (two_limits, {1, 2}),
        (a_limit_that_strikes_once, {("False", "too late")}),
    ],
)
def test_each_order_is_tried(
    program: Callable[[], Hashable], expected: set[Hashable], strategy: type[Strategy]
) -> None:
    assert outcomes(program, strategy())[0] == expected


def test_the_order_is_in_the_trace() -> None:
    def too_late() -> None:
        assert a_limit_and_what_is_waited_for() == ("in time",)

    def just_in_time() -> None:
        assert a_limit_and_what_is_waited_for() == ("too late",)

    for test in (too_late, just_in_time):
        failure = explore(test, strategy="dfs").failure
        assert failure is not None
        for _ in range(5):
            with pytest.raises(AssertionError):
                replay(test, failure.trace)
