"""Who runs when: round robin, first come first woken, deadlines in order. Every order is asserted whole."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from typing import Any

import pytest
from spawning import spawn

from scheduler import Scheduler, VirtualClock, WaitQueue, current_task, run_scheduler, sleep, yield_now


def test_threads_take_turns_in_the_order_of_their_start() -> None:
    record: list[str] = []

    def worker(name: str) -> None:
        for turn in range(3):
            record.append(f"{name}{turn}")
            yield_now()

    def main() -> None:
        for name in "abc":
            spawn(lambda name=name: worker(name))
        worker("main")

    run_scheduler(main)
    assert record == [
        "main0", "a0", "b0", "c0",
        "main1", "a1", "b1", "c1",
        "main2", "a2", "b2", "c2",
    ]  # fmt: skip


def test_a_new_thread_stands_at_the_end_of_the_round() -> None:
    record: list[str] = []

    def main() -> None:
        spawn(first)
        spawn(lambda: record.append("second"))
        yield_now()
        record.append("main again")

    def first() -> None:
        record.append("first")
        spawn(lambda: record.append("third"))
        yield_now()
        record.append("first again")

    run_scheduler(main)
    assert record == ["first", "second", "main again", "third", "first again"]


@pytest.mark.parametrize("threads", [2, 3, 50, 99, 100, 101, 250])
def test_rounds_stay_in_order_for_long_and_for_any_number_of_threads(threads: int) -> None:
    """The loop takes its own turns in between; they must not show."""
    record: list[int] = []
    rounds = 40

    def worker(number: int) -> None:
        for _ in range(rounds):
            record.append(number)
            yield_now()

    def main() -> None:
        for number in range(1, threads):
            spawn(lambda number=number: worker(number))
        worker(0)

    run_scheduler(main)
    assert record == rounds * list(range(threads))


def test_a_thread_alone_yields_to_itself() -> None:
    record: list[int] = []

    def main() -> None:
        for number in range(500):
            yield_now()
            record.append(number)

    run_scheduler(main)
    assert record == list(range(500))


def test_sleepers_wake_in_the_order_of_their_deadlines(run_virtually: Callable[..., Any]) -> None:
    record: list[tuple[str, float]] = []

    def sleeper(name: str, seconds: float) -> None:
        sleep(seconds)
        record.append((name, current_task().now()))

    def main() -> None:
        for name, seconds in [("c", 3), ("a", 1), ("d", 3600), ("b", 2.5)]:
            spawn(lambda name=name, seconds=seconds: sleeper(name, seconds))

    run_virtually(main)
    assert record == [("a", 1.0), ("b", 2.5), ("c", 3.0), ("d", 3600.0)]


def test_equal_deadlines_fire_in_the_order_in_which_they_were_set(run_virtually: Callable[..., Any]) -> None:
    record: list[int] = []

    def sleeper(number: int) -> None:
        sleep(1)
        record.append(number)

    def main() -> None:
        for number in range(200):
            spawn(lambda number=number: sleeper(number))

    run_virtually(main)
    assert record == list(range(200))


def test_a_sleep_counts_from_where_the_clock_stands(run_virtually: Callable[..., Any]) -> None:
    record: list[tuple[str, float]] = []

    def beats(name: str, period: float, count: int) -> None:
        for _ in range(count):
            sleep(period)
            record.append((name, current_task().now()))

    def main() -> None:
        spawn(lambda: beats("two", 2, 3))
        spawn(lambda: beats("three", 3, 2))

    run_virtually(main)
    assert record == [("two", 2.0), ("three", 3.0), ("two", 4.0), ("three", 6.0), ("two", 6.0)]


def test_sleep_0_yields_and_is_no_faster_than_others() -> None:
    record: list[str] = []

    def main() -> None:
        spawn(lambda: record.append("other"))
        sleep(0)
        record.append("main")

    run_scheduler(main)
    assert record == ["other", "main"]


def test_waiters_wake_first_come_first_served() -> None:
    queue = WaitQueue()
    record: list[int] = []

    def waiter(number: int) -> None:
        queue.park("turn")
        record.append(number)

    def main() -> None:
        for number in range(10):
            spawn(lambda number=number: waiter(number))
        yield_now()
        queue.unpark(3)
        yield_now()
        record.append(-1)
        queue.unpark(100)

    run_scheduler(main)
    assert record == [0, 1, 2, -1, 3, 4, 5, 6, 7, 8, 9]


def test_threads_that_only_yield_do_not_starve_a_deadline() -> None:
    clock = VirtualClock()
    record: list[str] = []

    def main() -> None:
        spawn(sleeper)
        yield_now()
        clock.advance(1)
        turns = 0
        while not record:
            yield_now()
            turns += 1
            assert turns < 1000

    def sleeper() -> None:
        sleep(1)
        record.append("woke")

    Scheduler(clock=clock).run(main)
    assert record == ["woke"]


@pytest.mark.parametrize("yielding", [1, 2, 300])
def test_threads_that_only_yield_do_not_starve_a_posted_call(yielding: int) -> None:
    record: list[str] = []

    def main() -> None:
        scheduler = current_task().scheduler
        assert scheduler is not None
        kernel = threading.Thread(target=scheduler.post, args=(lambda: record.append("called"),))
        kernel.start()
        kernel.join()
        for _ in range(yielding):
            spawn(spin)
        spin()

    def spin() -> None:
        turns = 0
        while not record:
            yield_now()
            turns += 1
            assert turns < 1000

    run_scheduler(main)
    assert record == ["called"]


def test_posted_calls_run_in_order_and_may_post_again() -> None:
    record: list[object] = []

    def main() -> None:
        scheduler = current_task().scheduler
        assert scheduler is not None
        again = 5

        def call() -> None:
            nonlocal again
            record.append(again)
            again -= 1
            if again:
                scheduler.post(call)

        scheduler.post(lambda: record.append("first"))
        scheduler.post(call)
        scheduler.post(lambda: record.append("third"))
        while again:
            yield_now()

    run_scheduler(main)
    assert record == ["first", 5, "third", 4, 3, 2, 1]


def test_a_call_that_posts_itself_for_ever_does_not_starve_the_threads() -> None:
    record: list[int] = []

    def main() -> None:
        scheduler = current_task().scheduler
        assert scheduler is not None

        def call() -> None:
            if len(record) < 10:
                scheduler.post(call)

        call()
        for number in range(10):
            sleep(0)
            record.append(number)

    run_scheduler(main)
    assert record == list(range(10))


def test_the_same_program_runs_in_the_same_order_every_time(run_virtually: Callable[..., Any]) -> None:
    def one_run() -> list[tuple[int, int]]:
        chance = random.Random(7)
        record: list[tuple[int, int]] = []
        queue = WaitQueue()

        def worker(number: int) -> None:
            for step in range(20):
                record.append((number, step))
                dice = chance.randrange(5)
                if dice == 0:
                    queue.park("luck", timeout=chance.choice([1, 1, 2]))
                elif dice == 1:
                    queue.unpark(chance.randrange(3))
                elif dice == 2:
                    sleep(chance.choice([0, 1, 1, 3]))
                else:
                    yield_now()

        def main() -> None:
            for number in range(30):
                spawn(lambda: worker(number))  # noqa: B023

        run_virtually(main)
        return record

    first = one_run()
    assert len(first) == 600
    assert one_run() == first
