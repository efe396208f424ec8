"""The root: out of the ring while nobody waits for a time or a descriptor, and there when it has something to do."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any

import pytest

from scheduler import Scheduler, VirtualClock, WaitQueue, current_task, run_scheduler, sleep, yield_now
from scheduler.poller import READ, wait_for
from scheduler.root import RootTask


def mine() -> Scheduler:
    scheduler = current_task().scheduler
    assert scheduler is not None
    return scheduler


def places_of_the_root() -> int:
    return sum(isinstance(task, RootTask) for task in mine().ready)


def spin(rounds: int = 100) -> None:
    for _ in range(rounds):
        yield_now()


@pytest.fixture
def spinning() -> Callable[[Callable[[], Any]], Any]:
    """Run a main thread beside another one that only yields, after enough rounds for the root to have gone."""

    def run(main: Callable[[], Any]) -> Any:
        def beside() -> Any:
            mine().spawn(lambda: spin(10_000), daemon=True)
            spin()
            return main()

        return run_scheduler(beside)

    return run


def test_nobody_needs_it(spinning: Callable[..., Any]) -> None:
    assert spinning(places_of_the_root) == 0


@pytest.mark.parametrize("posted", ["by the thread", "by a kernel thread"])
def test_a_posted_call_is_made_in_the_same_round(spinning: Callable[..., Any], posted: str) -> None:
    record: list[str] = []

    def main() -> None:
        scheduler = mine()
        for _ in range(3):
            if posted == "by the thread":
                scheduler.post(lambda: record.append("call"))
            else:
                other = threading.Thread(target=scheduler.post, args=(lambda: record.append("call"),))
                other.start()
                other.join()
            yield_now()
            record.append("back")

    spinning(main)
    assert record == ["call", "back"] * 3


def test_calls_posted_from_everywhere_are_all_made() -> None:
    """What comes while the root decides to leave the ring is not lost, and nobody is left to remind it."""
    record: list[int] = []

    def post(scheduler: Scheduler, number: int) -> None:
        for _ in range(300):
            scheduler.post(lambda: record.append(number))

    def main() -> None:
        others = [threading.Thread(target=post, args=(mine(), number)) for number in range(3)]
        for other in others:
            other.start()
        while len(record) < 900:
            yield_now()
        for other in others:
            other.join()
        spin()
        assert places_of_the_root() == 0

    run_scheduler(main)
    assert sorted(record) == [0] * 300 + [1] * 300 + [2] * 300


def test_the_first_timer_calls_it_and_the_last_lets_it_go() -> None:
    clock = VirtualClock()
    record: list[object] = []

    def sleeper() -> None:
        sleep(1.0)
        record.append("woken")

    def main() -> None:
        spin()
        task = mine().spawn(sleeper)
        yield_now()
        record.append(places_of_the_root())
        clock.advance(1.0)
        for _ in range(40):  # The root passes its turn on a few times.
            yield_now()
        record.append((task.done, places_of_the_root()))

    Scheduler(clock=clock).run(main)
    assert record == [1, "woken", (True, 0)]


def test_it_comes_for_the_first_descriptor() -> None:
    a, b = socket.socketpair()
    record: list[object] = []

    def main() -> None:
        spin()
        reader = mine().spawn(lambda: record.append(wait_for(a.fileno(), READ)))
        yield_now()
        b.send(b"x")
        for _ in range(100):
            yield_now()
        record.append(reader.done)

    with a, b:
        run_scheduler(main)
    assert record == [True, True]


def test_it_comes_at_once_when_the_last_thread_that_counts_has_ended() -> None:
    record: list[str] = []

    def beat() -> None:
        while True:
            record.append("beat")
            yield_now()

    def main() -> None:
        mine().spawn(beat, daemon=True)
        spin(40)
        record.append("end")

    run_scheduler(main)
    assert record == ["beat"] * 40 + ["end"]


def test_a_wait_is_as_long_as_it_is_also_when_the_root_has_not_come_for_long() -> None:
    clock, queue = VirtualClock(), WaitQueue()

    def main() -> float:
        spin()
        clock.advance(100.0)
        task = mine().spawn(lambda: queue.park("something"))
        yield_now()
        clock.advance(1.0)
        waited = clock.now() - task.since
        queue.unpark()
        task.join()
        return waited

    assert Scheduler(clock=clock).run(main) == 1.0
