"""Iterators that threads share."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from greenthreads import (
    Event,
    Thread,
    concurrent_tee,
    run_scheduler,
    serialize_iterator,
    synchronized_iterator,
    yield_now,
)
from greenthreads.carriers import Kind
from greenthreads.testing import explore


def in_threads(kind: Kind, number: int, body: Any) -> None:
    """Run `body` in `number` threads of a kind, and wait for their end."""

    def main() -> None:
        threads = [Thread(target=body, kind=kind) for _ in range(number)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run_scheduler(main)


def slow_count(end: int) -> Iterator[int]:
    """Counts, and lets other threads run in the middle of each step."""
    for number in range(end):
        yield_now()
        yield number


def test_each_item_goes_to_one_thread(kind: Kind) -> None:
    shared = serialize_iterator(slow_count(60))
    taken: list[int] = []

    in_threads(kind, 3, lambda: taken.extend(shared))

    assert sorted(taken) == list(range(60))


def test_without_it_the_second_thread_is_refused() -> None:
    shared, errors = slow_count(3), []

    def consume() -> None:
        try:
            list(shared)
        except ValueError as error:
            errors.append(str(error))

    in_threads("user", 2, consume)
    assert errors == ["generator already executing"]


def test_waiting_threads_take_turns() -> None:
    shared, record = serialize_iterator(slow_count(6)), []

    def main() -> None:
        def consume(name: str) -> None:
            record.extend((name, item) for item in shared)

        threads = [Thread(target=consume, args=(name,)) for name in "ab"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    run_scheduler(main)
    assert record == [("a", 0), ("b", 1), ("a", 2), ("b", 3), ("a", 4), ("b", 5)]


def test_the_methods_of_a_generator_are_passed_on() -> None:
    def echo() -> Iterator[object]:
        got: object = None
        while True:
            try:
                got = yield got
            except KeyError as error:
                got = error.args

    shared = serialize_iterator(echo())
    assert next(shared) is None
    assert shared.send("sent") == "sent"
    assert shared.throw(KeyError("thrown")) == ("thrown",)
    assert shared.close() is None
    with pytest.raises(StopIteration):
        next(shared)


@pytest.mark.parametrize("method", ["send", "throw", "close"])
def test_what_is_no_generator_has_no_such_method(method: str) -> None:
    shared = serialize_iterator([1, 2])
    with pytest.raises(AttributeError, match=f"'list_iterator' object has no attribute '{method}'"):
        getattr(shared, method)(*([] if method == "close" else [None]))
    assert list(shared) == [1, 2]


def test_an_error_in_the_iterator_leaves_it_free() -> None:
    def fails() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    shared = serialize_iterator(fails())
    assert next(shared) == 1
    with pytest.raises(KeyError, match="broken"):
        next(shared)
    assert list(shared) == []


def test_a_decorated_generator_function_makes_shared_iterators() -> None:
    @synchronized_iterator
    def letters(number: int, *, upper: bool = False) -> Iterator[str]:
        """Letters."""
        yield from ("ABC" if upper else "abc")[:number]

    assert isinstance(letters(2), serialize_iterator)
    assert (list(letters(2)), list(letters(3, upper=True))) == (["a", "b"], ["A", "B", "C"])
    assert (letters.__name__, letters.__doc__) == ("letters", "Letters.")
    counter = synchronized_iterator(itertools.count)(5)
    assert (next(counter), next(counter)) == (5, 6)


def test_each_branch_of_a_tee_has_every_item(kind: Kind) -> None:
    branches = list(concurrent_tee(slow_count(30), 3))
    found: list[list[int]] = []

    in_threads(kind, 3, lambda: found.append(list(branches.pop())))

    assert found == [list(range(30))] * 3


def test_a_tee_of_a_branch_goes_on_from_where_it_is() -> None:
    first, second = concurrent_tee(iter("abcd"))
    assert next(first) == "a"
    third, fourth = concurrent_tee(first)
    assert ["".join(each) for each in (first, second, third, fourth)] == ["bcd", "abcd", "bcd", "bcd"]


def test_a_tee_keeps_what_a_branch_has_not_had_and_no_more() -> None:
    class Item:
        pass

    items = [Item() for _ in range(3)]
    seen = [weakref.ref(item) for item in items]
    fast, slow = concurrent_tee(items.pop() for _ in range(3))
    for _ in range(3):
        next(fast)
    assert [ref() is None for ref in reversed(seen)] == [False, False, False]
    next(slow)
    assert [ref() is None for ref in reversed(seen)] == [True, False, False]


def test_a_tee_gives_no_branch_or_refuses() -> None:
    assert concurrent_tee([1], 0) == ()
    with pytest.raises(ValueError, match="n must be a non-negative integer"):
        concurrent_tee([1], -1)
    with pytest.raises(TypeError, match="'int' object is not iterable"):
        concurrent_tee(1)  # type: ignore[arg-type]


def test_an_interrupted_waiter_leaves_the_iterator_to_the_others() -> None:
    gate = Event()

    def gated() -> Iterator[int]:
        gate.wait()
        yield from range(2)

    shared, record = serialize_iterator(gated()), []

    def main() -> None:
        holder, waiter = Thread(target=lambda: record.append(next(shared))), Thread(target=take)
        holder.start()
        waiter.start()
        yield_now()
        waiter.interrupt(KeyError("enough"))
        gate.set()
        holder.join()
        waiter.join()
        record.append(next(shared))

    def take() -> None:
        try:
            next(shared)
        except KeyError:
            record.append("interrupted")

    run_scheduler(main)
    assert record == ["interrupted", 0, 1]


def shares(make: Any) -> None:
    iterator, taken = make(slow_count(2)), []
    threads = [Thread(target=lambda: taken.extend(iterator)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == [0, 1]


def test_no_schedule_breaks_it() -> None:
    found = explore(lambda: shares(serialize_iterator), strategy="dfs", memory=False)
    assert (found.failure, found.exhausted) == (None, True)


def test_a_schedule_breaks_a_bare_generator() -> None:
    failure = explore(lambda: shares(lambda generator: generator), strategy="dfs", memory=False).failure
    assert failure is not None
    assert str(failure.exception) == "generator already executing"
