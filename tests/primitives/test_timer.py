"""`Timer`: a thread of either kind that waits, then calls, unless it was cancelled."""

from __future__ import annotations

from typing import Any

from greenthreads import Thread, Timer, run_scheduler, sleep
from scheduler import Scheduler, VirtualClock


def test_it_calls_after_its_interval_with_its_arguments() -> None:
    clock = VirtualClock()
    record: list[object] = []

    def call(*args: object, **kwargs: object) -> None:
        record.append((clock.now(), args, kwargs))

    def main() -> None:
        Timer(20, call, (1, 2), {"a": 3}).start()
        Timer(10, call).start()

    Scheduler(clock=clock).run(main)
    assert record == [(10.0, (), {}), (20.0, (1, 2), {"a": 3})]


def test_cancelled_in_time_it_does_not_call_and_ends(run_virtually: Any) -> None:
    record: list[object] = []

    def main() -> None:
        timer = Timer(10, record.append, ["called"])
        timer.start()
        sleep(9)
        timer.cancel()
        timer.join()
        record.append((timer.is_alive(), timer.finished.is_set()))

    run_virtually(main)
    assert record == [(False, True)]


def test_cancelled_before_its_start_it_does_not_call(run_virtually: Any) -> None:
    record: list[object] = []

    def main() -> None:
        timer = Timer(10, record.append, ["called"])
        timer.cancel()
        timer.start()

    run_virtually(main)
    assert record == []


def test_cancelled_too_late_it_has_called(run_virtually: Any) -> None:
    record: list[object] = []

    def main() -> None:
        timer = Timer(10, record.append, ["called"])
        timer.start()
        sleep(11)
        timer.cancel()
        timer.cancel()

    run_virtually(main)
    assert record == ["called"]


def test_as_a_kernel_thread_and_cancelled_from_one() -> None:
    record: list[object] = []

    def main() -> None:
        soon = Timer(0, record.append, ["called"], kind="kernel")
        soon.start()
        soon.join()
        for timer in (Timer(1000, record.append, ["too late"]), Timer(1000, record.append, ["too"], kind="kernel")):
            timer.start()
            Thread(target=timer.cancel, kind="kernel").start()
            timer.join()
            record.append((timer.kind, isinstance(timer, Thread)))

    run_scheduler(main)
    assert record == ["called", ("user", True), ("kernel", True)]


def test_arguments_are_not_shared_between_timers() -> None:
    first, second = Timer(0, print), Timer(0, print)
    assert (first.args, first.kwargs) == ([], {})
    assert first.args is not second.args
    assert first.kwargs is not second.kwargs
