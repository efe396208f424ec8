"""The standard `sched.scheduler` with `greenthreads.time`: it takes its clock and its sleep from outside."""

from __future__ import annotations

import sched
import time as standard
from typing import Any

import pytest

from greenthreads import Thread, run_scheduler, time
from scheduler import Scheduler, VirtualClock


def test_events_happen_in_order_while_other_threads_run() -> None:
    clock = VirtualClock()
    record: list[tuple[object, float]] = []

    def say(what: object) -> None:
        record.append((what, clock.now()))

    def main() -> None:
        events = sched.scheduler(time.monotonic, time.sleep)
        events.enter(10, 1, say, ("ten",))
        events.enter(5, 2, say, ("five, later",))
        events.enter(5, 1, say, ("five",))
        cancelled = events.enter(7, 1, say, ("never",))
        Thread(target=lambda: (time.sleep(6), say("thread"), events.cancel(cancelled))).start()
        events.run()

    Scheduler(clock=clock).run(main)
    assert record == [("five", 5.0), ("five, later", 5.0), ("thread", 6.0), ("ten", 10.0)]


def test_the_clock_is_the_scheduler_s_in_a_user_thread_and_the_system_s_in_a_kernel_thread() -> None:
    clock = VirtualClock(start=1000.0)

    def main() -> list[object]:
        record: list[object] = [time.monotonic(), time.monotonic_ns()]
        time.sleep(2.5)
        record.append(time.monotonic())
        before = standard.monotonic()
        thread = Thread(target=lambda: record.append(before <= time.monotonic() <= before + 1000), kind="kernel")
        thread.start()
        thread.join()
        return record

    assert Scheduler(clock=clock).run(main) == [1000.0, 1000 * 10**9, 1002.5, True]


OURS = ("sleep", "monotonic", "monotonic_ns", "pthread_getcpuclockid")


@pytest.mark.parametrize("name", [name for name in dir(standard) if not name.startswith("_")])
def test_all_else_is_the_standard_module_s(name: str) -> None:
    ours: Any = getattr(time, name)
    assert (ours is getattr(standard, name)) is (name not in OURS)


def test_the_functions_of_its_own_take_what_the_standard_ones_take(outcome: Any) -> None:
    for call in (lambda m: m.sleep(-1), lambda m: m.sleep("x"), lambda m: m.monotonic(1), lambda m: m.sleep(0)):
        assert run_scheduler(outcome, call, time)[0] == outcome(call, standard)[0]
