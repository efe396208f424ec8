"""The stack ends somewhere in a wait: RecursionError, and the primitive is as if the thread had never come."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

import pytest

from greenthreads import (
    Barrier,
    BrokenBarrierError,
    Condition,
    Event,
    LifoQueue,
    Lock,
    Queue,
    RLock,
    RWLock,
    Semaphore,
    SimpleQueue,
    Thread,
    run_scheduler,
    yield_now,
)
from scheduler import observers


class Case(NamedTuple):
    """A wait that begins while another thread has just begun with `hold`, and whether nothing is left of it."""

    wait: Callable[[], object]
    hold: Callable[[], object]
    whole: Callable[[], bool]
    # Called, with the stack there is, if the wait did not fail.
    give_back: Callable[[], object] = lambda: None


def lock() -> Case:
    it = Lock()
    return Case(it.acquire, lambda: hold(it.acquire, it.release), lambda: is_open(it), it.release)


def lock_in_a_with_statement() -> Case:
    it = Lock()
    return Case(it.__enter__, lambda: hold(it.acquire, it.release), lambda: is_open(it), it.release)


def rlock() -> Case:
    it = RLock()
    return Case(it.acquire, lambda: hold(it.acquire, it.release), lambda: is_open(it), it.release)


def semaphore() -> Case:
    it = Semaphore(1)
    return Case(
        it.acquire, lambda: hold(it.acquire, it.release), lambda: not it._waiters and it.acquire(False), it.release
    )


def reading() -> Case:
    it = RWLock()
    whole = lambda: it.acquire_write(False)  # noqa: E731
    return Case(it.acquire_read, lambda: hold(it.acquire_write, it.release_write), whole, it.release_read)


def writing() -> Case:
    it = RWLock()
    whole = lambda: it.acquire_write(False)  # noqa: E731
    return Case(it.acquire_write, lambda: hold(it.acquire_read, it.release_read), whole, it.release_write)


def condition() -> Case:
    return waiting_at(Condition())


def condition_of_a_lock() -> Case:
    return waiting_at(Condition(Lock()))


def waiting_at(it: Condition) -> Case:
    def wait() -> None:
        with it:
            it.wait()

    def notify() -> None:
        yield_now()
        with it:
            it.notify()
            yield_now()

    return Case(wait, notify, lambda: is_open(it._lock) and not it._waiters)


def condition_in_vain() -> Case:
    it = Condition()

    def wait() -> None:
        with it:
            it.wait(1e-9)

    return Case(wait, yield_now, lambda: is_open(it._lock) and not it._waiters)


def event() -> Case:
    it = Event()
    return Case(lambda: it.wait(10), lambda: (yield_now(), it.set()), lambda: not it._waiters)


def barrier() -> Case:
    it = Barrier(2)

    def wait() -> None:
        with suppress(BrokenBarrierError):
            it.wait()

    return Case(wait, lambda: (yield_now(), it.abort()), lambda: not it.n_waiting)


def getting(it: Any) -> Case:
    return Case(
        it.get, lambda: (yield_now(), it.put("x")), lambda: not it._getters and it.get() == "x", lambda: it.put("x")
    )


def putting() -> Case:
    it = Queue[str](1)
    return Case(
        lambda: it.put("y"), lambda: hold(lambda: it.put("x"), it.get), lambda: not it._putters and it.empty(), it.get
    )


def join() -> Case:
    it = Thread(target=lambda: (yield_now(), yield_now()))
    return Case(it.join, it.start, lambda: not it.is_alive())


def hold(acquire: Callable[[], object], release: Callable[[], object]) -> None:
    acquire()
    yield_now()
    yield_now()
    release()


def is_open(it: Lock | RLock) -> bool:
    return not it._waiters and it.acquire(False)


def depth_left() -> int:
    """How many calls there is room for."""
    try:
        return depth_left() + 1
    except RecursionError:
        return 0


class Hearing(observers.Observer):
    """Hears of switches, and so has need of stack itself, also when the thread has been woken."""

    def switched(self, origin: Any, target: Any) -> None:
        origin.task, target.task  # noqa: B018


@pytest.fixture(params=["", "observed"])
def short_stack(request: pytest.FixtureRequest) -> Iterator[None]:
    """A recursion limit that is reached soon."""
    observer = Hearing()
    if request.param:
        observers.subscribe_everywhere(observer)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(400)
    yield
    sys.setrecursionlimit(limit)
    if request.param:
        observers.unsubscribe_everywhere(observer)


@pytest.mark.parametrize(
    "new",
    [
        lock,
        lock_in_a_with_statement,
        rlock,
        semaphore,
        reading,
        writing,
        condition,
        condition_of_a_lock,
        condition_in_vain,
        event,
        barrier,
        pytest.param(lambda: getting(Queue()), id="get"),
        pytest.param(lambda: getting(SimpleQueue()), id="get simply"),
        pytest.param(lambda: getting(LifoQueue()), id="get from a LifoQueue"),
        putting,
        join,
    ],
)
def test_nothing_is_left_of_the_wait(new: Callable[[], Case], short_stack: None) -> None:
    record: list[str] = []

    def descend(depth: int, wait: Callable[[], object]) -> None:
        if depth:
            descend(depth - 1, wait)
        else:
            wait()

    def count(turns: list[int]) -> None:
        for turn in range(5):
            turns.append(turn)
            yield_now()

    def main(depth: int) -> None:
        case, turns = new(), list[int]()
        threads = [Thread(target=count, args=(turns,)), Thread(target=case.hold)]
        for thread in threads:
            thread.start()
        yield_now()
        try:
            descend(depth, case.wait)
        except RecursionError:
            record.append("failed")
        else:
            record.append("waited")
            case.give_back()
        # Who is left among the waiters would be woken here, where it waits for something else.
        assert not Event().wait(0.0001)
        for thread in threads:
            thread.join()
        assert turns == list(range(5))
        assert case.whole()

    most = run_scheduler(depth_left)
    for depth in range(most - 30, most + 2):
        run_scheduler(main, depth)
    assert record == sorted(record, reverse=True)
    assert set(record) == {"waited", "failed"}
