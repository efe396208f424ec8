"""`exhausted` is said only where it is so: what was taken for a loop that polls may have been none."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from together import together

from greenthreads.testing import explore

ASSUMED = "a thread that was taken to poll in vain was not let on"
SEEN = "where a thread that polls in vain lets others run"


def attempts_in_vain(attempts: Callable[[threading.Semaphore], object]) -> Callable[[], None]:
    """A deadlock if the other thread takes the permit that is there after three attempts in vain, and only then."""

    def program() -> None:
        semaphore = threading.Semaphore(0)

        def give() -> None:
            attempts(semaphore)
            semaphore.release()

        def take() -> None:
            semaphore.acquire(blocking=False)
            semaphore.acquire()
            semaphore.release()

        together(give, take)

    return program


def one_after_the_other(semaphore: threading.Semaphore) -> None:
    semaphore.acquire(blocking=False)
    semaphore.acquire(blocking=False)
    semaphore.acquire(blocking=False)


def in_a_for_loop(semaphore: threading.Semaphore) -> None:
    for blocking in (False, False, False):
        semaphore.acquire(blocking)


def in_calls_of_a_for_loop(semaphore: threading.Semaphore) -> None:
    def attempt() -> None:
        semaphore.acquire(blocking=False)

    for call in (attempt, attempt, attempt):
        call()


def in_a_comprehension(semaphore: threading.Semaphore) -> None:
    [semaphore.acquire(blocking) for blocking in (False, False, False)]


def in_a_while_loop_with_a_count(semaphore: threading.Semaphore) -> None:
    count = 0
    while count < 3:
        semaphore.acquire(blocking=False)
        count += 1


def in_a_while_loop_with_a_list(semaphore: threading.Semaphore) -> None:
    got: list[bool] = []
    while len(got) < 3:
        got.append(semaphore.acquire(blocking=False))


def in_a_while_loop_with_an_iterator(semaphore: threading.Semaphore) -> None:
    blocking = iter((False, False, False))
    while next(blocking, None) is not None:
        semaphore.acquire(blocking=False)


def in_while_loops_of_a_for_loop(semaphore: threading.Semaphore) -> None:
    for _again in (False, False, False):
        while not semaphore.acquire(blocking=False):
            break


@pytest.mark.parametrize("memory", [True, False], ids=["memory", "operations"])
@pytest.mark.parametrize("strategy", ["dfs", "dpor", "auto"])
@pytest.mark.parametrize(
    "attempts",
    [
        one_after_the_other,
        in_a_for_loop,
        in_calls_of_a_for_loop,
        in_a_comprehension,
        in_a_while_loop_with_a_count,
        in_while_loops_of_a_for_loop,
    ],
)
def test_what_is_no_polling_is_explored(
    attempts: Callable[[threading.Semaphore], object], strategy: str, memory: bool
) -> None:
    found = explore(attempts_in_vain(attempts), strategy=strategy, memory=memory)
    assert found.failure is not None
    assert found.failure.kind == "deadlock"


@pytest.mark.parametrize("strategy", ["dfs", "dpor"])
@pytest.mark.parametrize("attempts", [in_a_while_loop_with_a_list, in_a_while_loop_with_an_iterator])
def test_what_changes_inside_of_an_object_is_no_polling_where_memory_is_seen(
    attempts: Callable[[threading.Semaphore], object], strategy: str
) -> None:
    found = explore(attempts_in_vain(attempts), strategy=strategy)
    assert found.failure is not None
    assert found.failure.kind == "deadlock"


def in_c(semaphore: threading.Semaphore) -> None:
    list(map(semaphore.acquire, (False, False, False)))


def in_a_recursion(semaphore: threading.Semaphore) -> None:
    calls = iter((True, True, True))

    def attempt() -> None:
        semaphore.acquire(blocking=False)

    def attempt_all() -> None:
        for _call in calls:
            attempt()
            break

    attempt_all()
    attempt_all()
    attempt_all()


@pytest.mark.parametrize("strategy", ["dfs", "dpor", "auto"])
@pytest.mark.parametrize("memory", [True, False], ids=["memory", "operations"])
@pytest.mark.parametrize("attempts", [in_c, in_a_recursion])
def test_where_it_is_not_known_nothing_is_claimed(
    attempts: Callable[[threading.Semaphore], object], strategy: str, memory: bool
) -> None:
    found = explore(attempts_in_vain(attempts), strategy=strategy, memory=memory)
    if found.failure is None:
        assert not found.exhausted
        assert ASSUMED in found.coverage


def spinning(wait: Callable[[threading.Event, list[int]], object]) -> Callable[[], None]:
    def program() -> None:
        event = threading.Event()
        done: list[int] = []

        def work() -> None:
            done.append(1)
            event.set()

        together(lambda: wait(event, done), work)
        assert done == [1]

    return program


def on_an_event(event: threading.Event, done: list[int]) -> None:
    while not event.is_set():
        pass


def on_memory(event: threading.Event, done: list[int]) -> None:
    while len(done) < 1:
        time.sleep(0)


def on_two_things(event: threading.Event, done: list[int]) -> None:
    while not (done and event.is_set()):
        time.sleep(0)


def by_a_function(event: threading.Event, done: list[int]) -> None:
    def is_over() -> bool:
        return event.is_set()

    while not is_over():
        pass


def with_a_loop_inside(event: threading.Event, done: list[int]) -> None:
    while True:
        for each in (event, event):
            if each.is_set():
                return


@pytest.mark.parametrize("strategy", ["dpor", "auto"])
@pytest.mark.parametrize("wait", [on_an_event, on_memory, on_two_things, by_a_function, with_a_loop_inside])
def test_a_loop_whose_rounds_are_the_same_can_be_exhausted(
    wait: Callable[[threading.Event, list[int]], object], strategy: str
) -> None:
    found = explore(spinning(wait), strategy=strategy)
    assert found.failure is None
    assert found.exhausted
    assert SEEN in found.coverage
    assert ASSUMED not in found.coverage


def test_a_full_search_can_be_exhausted_as_well() -> None:
    def main() -> None:
        event = threading.Event()
        thread = threading.Thread(target=event.set)
        thread.start()
        while not event.is_set():
            pass
        thread.join()

    found = explore(main, strategy="dfs")
    assert found.failure is None
    assert found.exhausted
    assert SEEN in found.coverage


def test_a_loop_in_a_generator_shows_nothing_of_who_iterates() -> None:
    """Its rounds are all the same; those of the `for` loop are not."""

    def attempts(semaphore: threading.Semaphore) -> None:
        def attempt() -> Iterator[bool]:
            while True:
                yield semaphore.acquire(blocking=False)

        for _attempt, _again in zip(attempt(), (False, False, False)):  # noqa: B905
            pass

    for strategy in ("dfs", "dpor"):
        found = explore(attempts_in_vain(attempts), strategy=strategy)
        assert found.failure is not None


@pytest.mark.parametrize("strategy", ["dfs", "dpor"])
def test_what_a_loop_remembers_where_nobody_sees_it_is_an_assumption(strategy: str) -> None:
    found = explore(spinning(on_an_event), strategy=strategy, memory=False)
    assert found.failure is None
    assert not found.exhausted
    assert ASSUMED in found.coverage
