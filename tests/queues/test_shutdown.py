"""`Queue.shutdown`, on every Python: who puts, who gets, who waits for either, and who joins."""

from __future__ import annotations

import queue as standard
from typing import Any

import pytest

from greenthreads import LifoQueue, PriorityQueue, Queue, ShutDown, Thread, run_scheduler, yield_now
from greenthreads.carriers import Kind


@pytest.fixture(params=[Queue, LifoQueue, PriorityQueue])
def make(request: pytest.FixtureRequest) -> Any:
    """Each class in turn."""
    return request.param


def test_what_is_in_can_be_got_and_nothing_can_be_put(make: Any, outcome: Any) -> None:
    queue = make()
    queue.put(1)
    queue.put(1)
    queue.shutdown()
    record = [
        outcome(queue.put, 2), outcome(queue.put_nowait, 2), outcome(queue.get), outcome(queue.get_nowait),
        outcome(queue.get), outcome(queue.get_nowait), outcome(queue.get, timeout=5), queue.is_shutdown,
    ]  # fmt: skip
    shut = (ShutDown, "")
    assert record == [shut, shut, ("returned", 1), ("returned", 1), shut, shut, shut, True]


def test_immediately_it_empties_the_queue_and_counts_its_items_as_dealt_with(make: Any, outcome: Any) -> None:
    queue = make()
    queue.put(1)
    queue.put(1)
    queue.get()
    queue.shutdown(immediate=True)
    assert (outcome(queue.get), queue.unfinished_tasks, queue.qsize()) == ((ShutDown, ""), 1, 0)
    queue.task_done()
    queue.join()


def test_it_wakes_all_who_wait_to_get(make: Any, kind: Kind, until: Any) -> None:
    queue, record = make(), []

    def get() -> None:
        try:
            queue.get()
        except ShutDown:
            record.append("shut down")

    def main() -> None:
        threads = [Thread(target=get, kind=kind) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: len(queue._getters) == 3)
        queue.shutdown()
        for thread in threads:
            thread.join()

    run_scheduler(main)
    assert record == ["shut down"] * 3


@pytest.mark.parametrize("immediate", [False, True])
def test_it_wakes_all_who_wait_to_put_and_their_items_are_not_in(
    make: Any, kind: Kind, immediate: bool, until: Any
) -> None:
    queue, record = make(1), []

    def put() -> None:
        try:
            queue.put(2)
        except ShutDown:
            record.append("shut down")

    def main() -> None:
        queue.put(1)
        threads = [Thread(target=put, kind=kind) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: len(queue._putters) == 3)
        queue.shutdown(immediate)
        for thread in threads:
            thread.join()
        record.append(queue.qsize())

    run_scheduler(main)
    assert record == ["shut down"] * 3 + [0 if immediate else 1]


def test_who_joins_goes_on_when_the_rest_is_dealt_with(make: Any, pair: Any, until: Any) -> None:
    queue, record = make(), []

    def join() -> None:
        queue.join()
        record.append("joined")

    def main() -> None:
        queue.put(1)
        thread = pair.start(join)
        until(lambda: len(queue._joiners) == 1)
        queue.shutdown()
        record.append(queue.get())
        queue.task_done()
        thread.join()

    pair.run(main)
    assert record == [1, "joined"]


def test_immediately_it_wakes_who_joins(make: Any, pair: Any, until: Any) -> None:
    queue, record = make(), []

    def main() -> None:
        queue.put(1)
        thread = pair.start(lambda: record.append(queue.join()))
        until(lambda: len(queue._joiners) == 1)
        queue.shutdown(immediate=True)
        thread.join()

    pair.run(main)
    assert record == [None]


def test_a_second_time_it_may_be_immediate(make: Any, outcome: Any) -> None:
    queue = make()
    queue.put(1)
    queue.shutdown()
    queue.shutdown(immediate=True)
    assert (queue.qsize(), outcome(queue.get)) == (0, (ShutDown, ""))


def test_consumers_that_run_until_it_is_shut_down(pair: Any) -> None:
    queue: Queue[int] = Queue(2)
    got: list[int] = []

    def consume() -> None:
        try:
            while True:
                got.append(queue.get())
        except ShutDown:
            pass

    def main() -> None:
        threads = [pair.start(consume) for _ in range(2)]
        for number in range(50):
            queue.put(number)
            if number % 5 == 0:
                yield_now()
        queue.shutdown()
        for thread in threads:
            thread.join()

    pair.run(main)
    assert sorted(got) == list(range(50))


@pytest.mark.skipif(not hasattr(standard, "ShutDown"), reason="the standard module has it since Python 3.13")
@pytest.mark.parametrize("immediate", [False, True])
def test_step_by_step_as_the_standard_queue(immediate: bool, outcome: Any) -> None:
    def program(queue: Any) -> list[object]:
        queue.put(1)
        queue.put(2)
        record = [outcome(queue.shutdown, immediate)]
        record += [outcome(queue.put, 3), outcome(queue.get), outcome(queue.get), outcome(queue.get)]
        record += [outcome(queue.task_done), outcome(queue.task_done), outcome(queue.join), queue.qsize()]
        return [*record, queue.is_shutdown, queue.unfinished_tasks]

    assert program(Queue()) == program(standard.Queue())
