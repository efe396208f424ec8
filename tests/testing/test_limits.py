"""Time limits (`greenthreads.timeout`) and interrupts under control: where they may strike, and where not."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

import pytest
from executions import outcomes, together
from plain import explore, replay

import greenthreads
from scheduler.strategies import DPOR, BoundedDPOR, DepthFirst
from scheduler.strategy import Strategy


def limited(record: list[object], seconds: float, body: Callable[[], object]) -> None:
    try:
        with greenthreads.timeout(seconds):
            record.append(body())
    except TimeoutError:
        record.append("too late")


def a_wait() -> Hashable:
    event = threading.Event()
    record: list[object] = []
    together(lambda: limited(record, 1, event.wait), event.set)
    return tuple(record)


def a_timed_wait_with_less_patience() -> Hashable:
    event = threading.Event()
    record: list[object] = []
    together(lambda: limited(record, 5, lambda: event.wait(1)), event.set)
    return tuple(record)


def a_timed_wait_with_more_patience() -> Hashable:
    """The wait can't end in vain: the limit comes first."""
    event = threading.Event()
    record: list[object] = []
    together(lambda: limited(record, 1, lambda: event.wait(5)), event.set)
    return tuple(record)


def a_lock() -> Hashable:
    lock = threading.Lock()
    record: list[object] = []

    def hold() -> None:
        with lock:
            greenthreads.yield_now()

    together(lambda: limited(record, 1, lambda: lock.acquire() and lock.release()), hold)
    return tuple(record)


def nested() -> Hashable:
    event = threading.Event()
    record: list[object] = []
    together(lambda: limited(record, 2, lambda: limited(record, 1, event.wait)), event.set)
    return tuple(record)


@pytest.mark.parametrize("strategy", [DepthFirst, DPOR])
@pytest.mark.parametrize(
    ("program", "expected"),
    [
        (a_wait, {(True,), ("too late",)}),
        (a_timed_wait_with_less_patience, {(True,), (False,)}),
        (a_timed_wait_with_more_patience, {(True,), ("too late",)}),
        (a_lock, {(None,), ("too late",)}),
        (nested, {(True, None), ("too late", None)}),
    ],
)
def test_a_limit_may_strike_early_where_its_thread_waits(
    program: Callable[[], Hashable], expected: set[Hashable], strategy: type[Strategy]
) -> None:
    assert outcomes(program, strategy(), early=True)[0] == expected
    assert outcomes(program, strategy())[0] < expected


def test_it_is_found_and_replayed() -> None:
    def test() -> None:
        assert a_wait() == (True,)

    assert explore(test).failure is None
    failure = explore(test, timeouts="early").failure
    assert failure is not None
    for _ in range(3):
        with pytest.raises(AssertionError):
            replay(test, failure.trace)


@pytest.mark.parametrize("strategy", ["dfs", "dpor", "random"])
def test_a_loop_of_limits_hangs_no_search(strategy: str) -> None:
    def test() -> None:
        event = threading.Event()

        def wait() -> None:
            while not event.is_set():
                try:
                    with greenthreads.timeout(1):
                        event.wait()
                except TimeoutError:
                    pass

        together(wait, event.set)

    found = explore(test, strategy=strategy, timeouts="early", max_executions=300, max_steps=300)
    assert found.failure is None, found.failure.report()


@pytest.mark.parametrize("timeouts", ["due", "early"])
def test_threads_that_wait_for_one_another_within_a_limit_are_no_deadlock(timeouts: str) -> None:
    def test() -> None:
        one, other = threading.RLock(), threading.RLock()
        record: list[object] = []

        def both(first: threading.RLock, second: threading.RLock) -> None:
            with first:
                greenthreads.yield_now()
                limited(record, 1, lambda: second.acquire() and second.release())

        together(lambda: both(one, other), lambda: both(other, one))
        assert len(record) == 2

    found = explore(test, strategy="dfs", timeouts=timeouts)
    assert found.failure is None, found.failure.report()


def test_which_of_two_that_are_due_together_ends_a_wait_is_not_claimed_to_be_seen() -> None:
    def test() -> None:
        record: list[object] = []
        together(lambda: limited(record, 1, lambda: threading.Event().wait(1)), lambda: None)

    for timeouts in ("due", "early"):
        found = explore(test, strategy="dpor", timeouts=timeouts)
        assert found.failure is None
        assert not found.exhausted
        assert "of a wait and its limit that were due together the one set first has ended it" in found.coverage


@pytest.mark.parametrize("strategy", [DepthFirst, DPOR])
@pytest.mark.parametrize("wait", ["lock", "event", "queue", "yield"])
def test_an_interrupt_that_comes_before_a_wait_ends_it(wait: str, strategy: type[Strategy]) -> None:
    def program() -> Hashable:
        lock = threading.Lock()
        event, has_begun = threading.Event(), threading.Event()
        items: greenthreads.Queue[int] = greenthreads.Queue()
        record: list[object] = []
        lock.acquire()

        def work() -> None:
            try:
                has_begun.set()
                if wait == "lock":
                    lock.acquire()
                elif wait == "event":
                    event.wait()
                elif wait == "queue":
                    items.get()
                else:
                    greenthreads.yield_now()
                record.append("done")
            except greenthreads.ThreadInterrupted:
                record.append("interrupted")

        thread = greenthreads.Thread(target=work)
        thread.start()
        has_begun.wait()
        thread.interrupt()
        thread.join()
        return tuple(record)

    found = outcomes(program, strategy())[0]
    assert found == ({("interrupted",), ("done",)} if wait == "yield" else {("interrupted",)})


def an_interrupt_and_what_is_waited_for() -> Hashable:
    lock = threading.Lock()
    record: list[object] = []
    lock.acquire()

    def work() -> None:
        try:
            lock.acquire()
            record.append("got it")
            greenthreads.sleep(1)
            record.append("slept")
        except greenthreads.ThreadInterrupted:
            record.append("interrupted")

    thread = greenthreads.Thread(target=work)
    thread.start()
    greenthreads.yield_now()
    other = threading.Thread(target=thread.interrupt)
    other.start()
    lock.release()
    thread.join()
    return tuple(record)


def two_interrupts() -> Hashable:
    """The second one comes while the first has not been raised, or it comes later."""
    record: list[object] = []

    class Second(BaseException):
        pass

    def work() -> None:
        for _ in range(2):
            try:
                greenthreads.sleep(1)
                record.append("slept")
            except BaseException as error:
                record.append(type(error).__name__)

    thread = greenthreads.Thread(target=work)
    thread.start()
    greenthreads.yield_now()
    together(thread.interrupt, lambda: thread.interrupt(Second))
    thread.join()
    return tuple(record)


@pytest.mark.parametrize("program", [an_interrupt_and_what_is_waited_for, two_interrupts])
def test_a_reduction_sees_what_interrupts_do_in_any_order(program: Callable[[], Hashable]) -> None:
    everything, _ = outcomes(program, DepthFirst())
    assert outcomes(program, DPOR())[0] == everything
    assert len(everything) > 2
    assert outcomes(program, BoundedDPOR(9), bounded=True)[0] == everything
