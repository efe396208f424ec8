"""Parking and waking through a `WaitQueue`: user threads, kernel threads, and both in one queue."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from spawning import spawn

from scheduler import Scheduler, State, VirtualClock, WaitQueue, current_task, run_scheduler, sleep, yield_now


def test_park_returns_true_when_unparked_and_shows_the_reason_meanwhile() -> None:
    queue = WaitQueue()
    record: list[object] = []

    def main() -> None:
        task = spawn(lambda: record.append(queue.park("a reason")))
        yield_now()
        record.append((task.state, task.wait, len(queue)))
        woken = queue.unpark()
        record.append((woken == [task], task.state, len(queue)))
        task.join()
        record.append((task.state, task.wait))

    run_scheduler(main)
    assert record == [(State.PARKED, "a reason", 1), (True, State.READY, 0), True, (State.DONE, None)]


def test_park_returns_false_at_its_deadline_and_leaves_the_queue(run_virtually: Callable[..., Any]) -> None:
    queue = WaitQueue()

    def main() -> tuple[object, ...]:
        before = current_task().now()
        answer = queue.park("a reason", timeout=5)
        return answer, current_task().now() - before, len(queue), queue.unpark()

    assert run_virtually(main) == (False, 5.0, 0, [])


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_deadline_that_has_passed_lets_others_run_once(timeout: float) -> None:
    queue = WaitQueue()
    record: list[object] = []

    def main() -> None:
        spawn(lambda: record.append("other"))
        record.append(queue.park("a reason", timeout))

    run_scheduler(main)
    assert record == ["other", False]


def test_a_wakeup_before_the_deadline_takes_the_deadline_away(run_virtually: Callable[..., Any]) -> None:
    queue = WaitQueue()
    record: list[object] = []

    def waiter() -> None:
        record.append(queue.park("a reason", timeout=5))
        record.append(len(current_task().scheduler.timers))  # type: ignore[union-attr]
        sleep(100)
        record.append(current_task().now())

    def main() -> None:
        task = spawn(waiter)
        sleep(1)
        queue.unpark()
        task.join()

    run_virtually(main)
    assert record == [True, 0, 101.0]


def test_unpark_wakes_as_many_as_asked_oldest_first_and_tells_whom() -> None:
    queue = WaitQueue()

    def main() -> list[list[str]]:
        for name in "abcd":
            spawn(lambda: queue.park("a reason"), name=name)
        yield_now()
        return [[task.name for task in queue.unpark(count)] for count in (0, 1, 2, 5, 1)]

    assert run_scheduler(main) == [[], ["a"], ["b", "c"], ["d"], []]


def test_those_who_time_out_are_passed_over(run_virtually: Callable[..., Any]) -> None:
    queue = WaitQueue()
    record: list[object] = []

    def waiter(name: str, timeout: float | None) -> None:
        record.append((name, queue.park("a reason", timeout)))

    def main() -> None:
        for name, timeout in [("a", 1), ("b", None), ("c", 1), ("d", 3)]:
            spawn(lambda name=name, timeout=timeout: waiter(name, timeout))
        sleep(2)
        queue.unpark()
        queue.unpark()

    run_virtually(main)
    assert record == [("a", False), ("c", False), ("b", True), ("d", True)]


def test_a_wakeup_from_a_kernel_thread_ends_the_sleep_of_the_scheduler(until: Any) -> None:
    queue = WaitQueue()
    record: list[object] = []

    def main() -> None:
        scheduler = current_task().scheduler
        assert scheduler is not None
        kernel = threading.Thread(target=wake, args=(scheduler,))
        kernel.start()
        record.extend(queue.park("a kernel thread") for _ in range(20))
        kernel.join()

    def wake(scheduler: Scheduler) -> None:
        for _ in range(20):
            until(lambda: len(queue) and scheduler.asleep)
            queue.unpark()

    run_scheduler(main)
    assert record == 20 * [True]


def test_a_wakeup_from_a_kernel_thread_ends_a_sleep_that_has_a_deadline(until: Any) -> None:
    queue = WaitQueue()

    def main() -> bool:
        scheduler = current_task().scheduler
        assert scheduler is not None
        kernel = threading.Thread(target=lambda: (until(lambda: scheduler.asleep), queue.unpark()))
        kernel.start()
        answer = queue.park("a kernel thread", timeout=1000)
        kernel.join()
        return answer

    assert run_scheduler(main) is True


def test_a_kernel_thread_parks_too(until: Any) -> None:
    queue = WaitQueue()
    record: list[object] = []
    kernel = threading.Thread(target=lambda: record.append(queue.park("main")))
    kernel.start()
    until(lambda: len(queue))
    record.append([type(task).__name__ for task in queue.unpark()])
    kernel.join()
    assert sorted(map(str, record)) == ["True", "['KernelTask']"]


def test_a_kernel_thread_s_deadline_is_in_real_time_whatever_the_scheduler_s_clock(until: Any) -> None:
    queue = WaitQueue()
    record: list[object] = []

    def main() -> None:
        kernel = threading.Thread(target=lambda: record.append(queue.park("nobody", timeout=0.01)))
        kernel.start()
        sleep(1000)
        kernel.join()

    Scheduler(clock=VirtualClock()).run(main)
    assert record == [False]


def test_both_kinds_stand_in_one_queue_in_the_order_in_which_they_came(until: Any) -> None:
    queue = WaitQueue()
    record: list[str] = []
    kernels = []

    def waiter(name: str) -> None:
        queue.park("a turn")
        record.append(name)

    def main() -> None:
        for name in ("user 1", "kernel 1", "user 2", "kernel 2", "kernel 3", "user 3"):
            expected = len(queue) + 1
            if name.startswith("user"):
                spawn(lambda name=name: waiter(name))
            else:
                kernels.append(threading.Thread(target=waiter, args=(name,)))
                kernels[-1].start()
            until(lambda: len(queue) == expected)  # noqa: B023
        for expected in range(1, 7):
            queue.unpark()
            until(lambda: len(record) == expected)  # noqa: B023
        for kernel in kernels:
            kernel.join()

    run_scheduler(main)
    assert record == ["user 1", "kernel 1", "user 2", "kernel 2", "kernel 3", "user 3"]


def test_no_wakeup_is_lost_between_kernel_threads() -> None:
    """A ball that two kernel threads and two schedulers pass round: one lost wakeup and it never comes back."""
    rounds = 500
    players = 4
    boxes = [WaitQueue() for _ in range(players)]
    ball = [0]
    record: list[int] = []

    def play(number: int) -> None:
        for _ in range(rounds):
            me = current_task()
            boxes[number].waiters[me] = None
            # Look again after standing in the queue, as every primitive does.
            if ball[0] % players != number or boxes[number].waiters.pop(me, 1) is not None:
                me.park(boxes[number].waiters, "the ball")
            record.append(number)
            ball[0] += 1
            boxes[ball[0] % players].unpark()

    kernels = [
        threading.Thread(target=play if number % 2 else run_scheduler, args=(number,) if number % 2 else (play, number))
        for number in range(players)
    ]
    for kernel in kernels:
        kernel.start()
    for kernel in kernels:
        kernel.join()
    assert record == rounds * list(range(players))


def test_the_main_thread_of_the_process_is_a_task_too() -> None:
    task = current_task()
    assert (task.name, task.ident, task.host) == ("MainThread", threading.get_ident(), task)
    assert run_scheduler(lambda: current_task().host) is task
    assert current_task() is task
