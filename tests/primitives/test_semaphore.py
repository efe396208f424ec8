"""`Semaphore` and `BoundedSemaphore`: permits are counted, and none is made or lost."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from greenthreads import BoundedSemaphore, Semaphore, Thread, run_scheduler, sleep, yield_now
from greenthreads.carriers import Kind
from scheduler import Scheduler, VirtualClock


@pytest.fixture(params=[Semaphore, BoundedSemaphore])
def make(request: pytest.FixtureRequest) -> Any:
    """Each class in turn."""
    return request.param


def test_as_many_threads_as_there_are_permits_get_in(make: Any, run_virtually: Any) -> None:
    semaphore = make(3)
    inside: list[int] = []
    record: list[list[int]] = []

    def work(number: int) -> None:
        with semaphore:
            inside.append(number)
            sleep(1)
            record.append(sorted(inside))
            inside.remove(number)

    def main() -> None:
        for number in range(7):
            Thread(target=work, args=(number,)).start()

    run_virtually(main)
    assert record == [[0, 1, 2], [1, 2], [2], [3, 4, 5], [4, 5], [5], [6]]
    assert semaphore._value == 3


def test_any_two_threads_share_the_permits(make: Any, pair: Any) -> None:
    semaphore = make(2)
    inside: dict[str, None] = {}
    most = [0]

    def work(name: str) -> None:
        for turn in range(100):
            with semaphore:
                inside[name] = None
                most.append(len(inside))
                if turn % 10 == 0:
                    yield_now()
                inside.pop(name)

    def main() -> None:
        threads = [pair.start(work, name) for name in "ab"]
        work("main")
        for thread in threads:
            thread.join()

    pair.run(main)
    assert max(most) <= 2
    assert (semaphore._value, len(semaphore._waiters)) == (2, 0)


def test_several_permits_at_once_go_to_those_who_have_waited_longest(kind: Kind, until: Any) -> None:
    semaphore, record = Semaphore(0), []

    def work(name: str) -> None:
        semaphore.acquire()
        record.append(name)

    def main() -> None:
        threads = []
        for number, name in enumerate("abcd", 1):
            threads.append(Thread(target=work, args=(name,), kind=kind))
            threads[-1].start()
            until(lambda: len(semaphore._waiters) == number)  # noqa: B023
        semaphore.release(3)
        until(lambda: len(record) == 3)
        assert sorted(record) == ["a", "b", "c"]
        semaphore.release(3)
        for thread in threads:
            thread.join()

    run_scheduler(main)
    assert (sorted(record), semaphore._value) == (["a", "b", "c", "d"], 2)


def test_a_timeout_is_as_long_as_was_asked_for(make: Any) -> None:
    clock = VirtualClock()
    semaphore = make(1)

    def main() -> list[object]:
        return [
            semaphore.acquire(timeout=5), clock.now(), semaphore.acquire(timeout=5), clock.now(),
            semaphore.acquire(False), semaphore.acquire(timeout=0), semaphore.acquire(timeout=-1), clock.now(),
        ]  # fmt: skip

    assert Scheduler(clock=clock).run(main) == [True, 0.0, False, 5.0, False, False, False, 5.0]
    assert len(semaphore._waiters) == 0


MISUSES = {
    "a negative value": lambda cls: cls(-1),
    "a timeout without blocking": lambda cls: cls().acquire(False, 1),
    "a timeout without blocking, None": lambda cls: cls().acquire(False, None),
    "release none": lambda cls: cls().release(0),
    "release less than none": lambda cls: cls().release(-1),
    "release once too often": lambda cls: cls(2).release(),
    "release far too often": lambda cls: (s := cls(2)).acquire() and s.release(2),
    "a value that is no number": lambda cls: cls("x"),
}


@pytest.mark.parametrize("misuse", MISUSES.values(), ids=MISUSES)
def test_errors_are_threading_s(misuse: Any, make: Any, outcome: Any) -> None:
    assert outcome(misuse, make) == outcome(misuse, getattr(threading, make.__name__))


def test_a_bounded_one_that_refuses_has_released_nothing(outcome: Any) -> None:
    semaphore = BoundedSemaphore(3)
    assert [semaphore.acquire() for _ in range(2)] == [True, True]
    assert outcome(semaphore.release, 3) == (ValueError, "Semaphore released too many times")
    assert semaphore._value == 1
    semaphore.release(2)
    assert semaphore._value == 3


def test_a_permit_taken_here_may_be_given_back_there(make: Any, pair: Any) -> None:
    semaphore = make()

    def main() -> None:
        semaphore.acquire()
        pair.start(semaphore.release).join()

    pair.run(main)
    assert semaphore._value == 1


def test_a_great_number_of_permits_costs_nothing_until_they_are_taken() -> None:
    semaphore = Semaphore(10**12)
    for _ in range(3000):
        assert semaphore.acquire(False)
    assert semaphore._value == 10**12 - 3000
    semaphore.release(1000)
    assert semaphore._value == 10**12 - 2000


def test_repr(make: Any) -> None:
    semaphore = make(2)
    bound = "/2" if make is BoundedSemaphore else ""
    assert repr(semaphore) == f"<greenthreads.{make.__name__} at {id(semaphore):#x}: value=2{bound}>"
