"""`Deadlock`: what it says, who gets it, and when the scheduler waits instead."""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import greenthreads
from greenthreads import Deadlock, Event, Lock, Queue, SimpleQueue, Thread, run_in_kernel_thread
from scheduler import Scheduler, WaitQueue, current_task, run_scheduler, sleep, yield_now


def here(offset: int = 0) -> int:
    """The line that calls this, and so many further."""
    frame = sys._getframe(1)
    return frame.f_lineno + offset


def test_two_locks_taken_in_opposite_orders() -> None:
    first, second = Lock(), Lock()
    lines: dict[str, int] = {}

    def one() -> None:
        with first:
            yield_now()
            lines["one"] = here(1)
            second.acquire()

    def two() -> None:
        with second:
            yield_now()
            lines["two"] = here(1)
            with first:
                pass

    def main() -> None:
        threads = [Thread(target=one, name="one"), Thread(target=two, name="two")]
        for thread in threads:
            thread.start()
        lines["main"] = here(1)
        threads[0].join()

    with pytest.raises(Deadlock) as raised:
        run_scheduler(main)
    assert raised.value.threads == (
        ("MainThread", "the end of 'one'", None, __file__, lines["main"], "main"),
        ("one", "Lock L1", "'two'", __file__, lines["one"], "one"),
        ("two", "Lock L2", "'one'", __file__, lines["two"], "two"),
    )
    assert str(raised.value).splitlines() == [
        "3 threads wait and nothing can wake any of them",
        f"  'MainThread'  waits for the end of 'one'        {__file__}:{lines['main']} in main",
        f"  'one'         waits for Lock L1, held by 'two'  {__file__}:{lines['one']} in one",
        f"  'two'         waits for Lock L2, held by 'one'  {__file__}:{lines['two']} in two",
    ]
    # It is raised where main waits.
    assert raised.traceback[-1].path != __file__
    assert [entry.lineno + 1 for entry in raised.traceback if entry.name == "main"] == [lines["main"]]


def test_the_only_thread() -> None:
    lines: list[int] = []

    def main() -> None:
        lines.append(here(1))
        Event().wait()

    with pytest.raises(Deadlock) as raised:
        run_scheduler(main)
    assert str(raised.value) == (
        "the only thread waits and nothing can wake it\n"
        f"  'MainThread'  waits for Event E1  {__file__}:{lines[0]} in main"
    )


def test_every_primitive_says_what_is_wanted_and_equal_ones_share_a_number() -> None:
    queue: Queue[int] = Queue(1)
    empty: Queue[int] = Queue()
    simple: SimpleQueue[int] = SimpleQueue()
    event, other_event = Event(), Event()
    queue.put(1)

    def main() -> None:
        for name, target, args in [
            ("p", queue.put, (2,)),
            ("g", empty.get, ()),
            ("h", empty.get, ()),
            ("j", queue.join, ()),
            ("s", simple.get, ()),
            ("e", event.wait, ()),
            ("f", other_event.wait, ()),
        ]:
            Thread(target=target, args=args, name=name).start()  # type: ignore[arg-type]
        event.wait()

    with pytest.raises(Deadlock) as raised:
        run_scheduler(main)
    assert [(row.thread, row.what, row.holder) for row in raised.value.threads] == [
        ("MainThread", "Event E1", None),
        ("p", "Queue Q1 (to put)", None),
        ("g", "Queue Q2 (to get)", None),
        ("h", "Queue Q2 (to get)", None),
        ("j", "Queue Q1 (to join)", None),
        ("s", "SimpleQueue S1 (to get)", None),
        ("e", "Event E1", None),
        ("f", "Event E2", None),
    ]


def test_a_reason_in_words_and_a_thread_without_a_name() -> None:
    def main() -> None:
        scheduler = current_task().scheduler
        assert scheduler is not None
        task = scheduler.spawn(lambda: WaitQueue().park("better days"))
        record.append(f"task {task.number}")
        task.join()

    record: list[str] = []
    with pytest.raises(Deadlock) as raised:
        run_scheduler(main)
    assert [(row.thread, row.what) for row in raised.value.threads] == [
        ("MainThread", f"the end of '{record[0]}'"),
        (record[0], "better days"),
    ]


def test_a_lock_held_by_a_thread_that_has_ended() -> None:
    lock = Lock()

    def main() -> None:
        thread = Thread(target=lock.acquire, name="careless")
        thread.start()
        thread.join()
        lock.acquire()

    with pytest.raises(Deadlock) as raised:
        run_scheduler(main)
    assert [row.holder for row in raised.value.threads] == ["'careless', which has ended"]


def test_a_lock_that_a_thread_takes_twice() -> None:
    lock = Lock()

    def main() -> None:
        with lock, lock:
            pass

    with pytest.raises(Deadlock) as raised:
        run_scheduler(main)
    assert [row[:3] for row in raised.value.threads] == [("MainThread", "Lock L1", "'MainThread'")]
    assert lock.locked() is False


def test_main_may_catch_it_and_mend() -> None:
    lock, event = Lock(), Event()
    record: list[str] = []

    def worker() -> None:
        event.wait()
        record.append("worker goes on")

    def main() -> str:
        thread = Thread(target=worker)
        thread.start()
        try:
            thread.join()
        except Deadlock as error:
            record.append(f"{len(error.threads)} wait")
        event.set()
        thread.join()
        with lock:
            return "mended"

    record.append(run_scheduler(main))
    assert record == ["2 wait", "worker goes on", "mended"]


def test_it_may_strike_again() -> None:
    record: list[int] = []

    def main() -> None:
        for count in range(3):
            try:
                Event().wait()
            except Deadlock as error:
                record.append(len(error.threads) + count)

    run_scheduler(main)
    assert record == [1, 2, 3]


def test_after_main_has_ended_it_comes_out_of_run_scheduler_and_the_others_are_unwound() -> None:
    record: list[str] = []

    def worker(name: str) -> None:
        try:
            Event().wait()
        finally:
            record.append(name)

    def main() -> str:
        for name in "ab":
            Thread(target=worker, args=(name,), name=name).start()
        return "result"

    with pytest.raises(Deadlock) as raised:
        run_scheduler(main)
    assert [row.thread for row in raised.value.threads] == ["a", "b"]
    assert record == ["a", "b"]


def test_daemons_alone_are_no_deadlock() -> None:
    record: list[str] = []

    def worker() -> None:
        try:
            Event().wait()
        finally:
            record.append("unwound")

    def main() -> str:
        Thread(target=worker, daemon=True).start()
        yield_now()
        return "result"

    assert run_scheduler(main) == "result"
    assert record == ["unwound"]


def test_threads_that_wait_with_a_deadline_are_no_deadlock(run_virtually: Callable[..., Any]) -> None:
    event = Event()

    def main() -> bool:
        Thread(target=lambda: (sleep(5), event.set())).start()
        return event.wait() and event.wait(10)

    assert run_virtually(main) is True


def test_a_kernel_thread_may_still_wake_somebody(until: Any) -> None:
    event = Event()

    def main() -> bool:
        scheduler: Any = current_task().scheduler
        kernel = threading.Thread(target=lambda: (until(lambda: scheduler.asleep), event.set()))
        kernel.start()
        answer = event.wait()
        kernel.join()
        return answer

    assert run_scheduler(main) is True


def test_a_call_in_a_kernel_thread_may_still_wake_somebody(until: Any) -> None:
    def main() -> str:
        scheduler: Any = current_task().scheduler
        event = Event()
        Thread(target=run_in_kernel_thread, args=(lambda: (until(lambda: scheduler.asleep), event.set()),)).start()
        event.wait()
        return "woken"

    assert run_scheduler(main) == "woken"


def test_once_the_last_kernel_thread_has_ended_nobody_can(until: Any) -> None:
    def main() -> None:
        scheduler: Any = current_task().scheduler
        threading.Thread(target=until, args=(lambda: scheduler.asleep,)).start()
        Event().wait()

    with pytest.raises(Deadlock):
        run_scheduler(main)


def test_idle_pooled_kernel_threads_wake_nobody() -> None:
    def main() -> None:
        assert run_in_kernel_thread(lambda: 1) == 1
        Event().wait()

    with pytest.raises(Deadlock):
        run_scheduler(main)


def test_a_kernel_thread_that_was_started_and_has_not_run_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    def frames() -> dict[int, Any]:
        found = real_frames()
        if not looks:
            found.pop(kernel.ident)  # type: ignore[arg-type]
        looks.append(1)
        return found

    def main() -> bool:
        kernel.start()
        return event.wait()

    event = Event()
    kernel = threading.Thread(target=lambda: (seen.wait(), event.set()))
    seen = threading.Event()
    real_frames = sys._current_frames
    looks: list[int] = []
    monkeypatch.setattr(sys, "_current_frames", frames)
    real_look = Scheduler._sleep

    def sleep_and_go(self: Scheduler, timeout: float | None) -> bool:
        if len(looks) > 1:
            seen.set()
        return real_look(self, timeout)

    monkeypatch.setattr(Scheduler, "_sleep", sleep_and_go)
    assert run_scheduler(main) is True
    kernel.join()


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="there are no such signals on Windows")
def test_a_signal_handler_may_still_wake_somebody(until: Any) -> None:
    event = Event()
    before = signal.signal(signal.SIGUSR1, lambda number, frame: event.set())
    try:

        def main() -> bool:
            scheduler: Any = current_task().scheduler
            killer = threading.Thread(
                target=lambda: (until(lambda: scheduler.asleep), os.kill(os.getpid(), signal.SIGUSR1))
            )
            killer.start()
            try:
                return event.wait()
            finally:
                killer.join()

        assert run_scheduler(main) is True
    finally:
        signal.signal(signal.SIGUSR1, before)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no interval timers on Windows")
def test_a_signal_handler_alone_may_wake_somebody() -> None:
    event = Event()
    before = signal.signal(signal.SIGALRM, lambda number, frame: event.set())
    try:

        def main() -> bool:
            signal.setitimer(signal.ITIMER_REAL, 0.01)
            return event.wait()

        assert run_scheduler(main) is True
    finally:
        signal.signal(signal.SIGALRM, before)


def test_signals_that_are_ignored_or_left_to_the_system_wake_nobody() -> None:
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with pytest.raises(Deadlock):
            run_scheduler(lambda: Event().wait())
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_scheduler_off_the_main_kernel_thread_waits_for_that_one(until: Any) -> None:
    event = Event()
    scheduler = Scheduler()
    kernel = threading.Thread(target=scheduler.run, args=(event.wait,))
    kernel.start()
    until(lambda: scheduler.asleep)
    assert kernel.is_alive()
    event.set()
    kernel.join()


def test_the_report_points_at_the_user_s_line_not_at_the_library_s() -> None:
    """Also where a library function lies between."""

    def helper(event: Event) -> None:
        with contextlib.ExitStack() as stack:
            stack.callback(lambda: None)
            event.wait()

    line = inspect.getsourcelines(helper)[1] + 3

    def main() -> None:
        helper(Event())

    with pytest.raises(Deadlock) as raised:
        run_scheduler(main)
    row = raised.value.threads[0]
    assert (row.file, row.line, row.function) == (__file__, line, "helper")


def test_a_thread_whose_target_is_the_library_s_own_is_reported_too() -> None:
    event = Event()

    def main() -> None:
        for name in "abc":
            Thread(target=event.wait, name=name).start()
        Thread(target=event.wait, args=(None,), name="with arguments").start()

    with pytest.raises(Deadlock) as raised:
        run_scheduler(main)
    # The last to park switched to the root, the others to one another: that is not what anybody asks.
    assert {(row.what, os.path.basename(row.file), row.function) for row in raised.value.threads} == {
        ("Event E1", "_event.py", "wait")
    }
    assert [row.thread for row in raised.value.threads] == ["a", "b", "c", "with arguments"]


def test_a_crowd_is_listed_in_the_order_of_its_start() -> None:
    event = Event()

    def main() -> None:
        for number in range(500):
            Thread(target=event.wait, name=f"worker {number}").start()
        event.wait()

    with pytest.raises(Deadlock) as raised:
        run_scheduler(main)
    assert [row.thread for row in raised.value.threads] == [
        "MainThread",
        *(f"worker {number}" for number in range(500)),
    ]


def test_it_is_a_runtime_error_and_public() -> None:
    assert issubclass(Deadlock, RuntimeError)
    assert greenthreads.Deadlock is Deadlock
