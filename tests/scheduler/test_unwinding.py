"""The end of `run_scheduler`: daemons are unwound, in the order of their start, by `TaskExit`."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest

from scheduler import Scheduler, TaskExit, VirtualClock, WaitQueue, current_task, run_scheduler, sleep, yield_now


def daemon(fn: Callable[[], object], name: str | None = None) -> Any:
    scheduler = current_task().scheduler
    assert scheduler is not None
    return scheduler.spawn(fn, daemon=True, name=name)


@pytest.fixture(autouse=True)
def _nothing_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(kind: object, error: BaseException, traceback: object) -> None:
        raise AssertionError(f"{error!r} was reported")

    monkeypatch.setattr("sys.excepthook", fail)


WAYS_TO_WAIT = {
    "parked": lambda: WaitQueue().park("for ever"),
    "parked with a deadline": lambda: WaitQueue().park("for long", timeout=1000),
    "asleep": lambda: sleep(1000),
}


@pytest.mark.parametrize("wait", WAYS_TO_WAIT.values(), ids=WAYS_TO_WAIT)
def test_finally_blocks_run_in_the_order_of_the_starts(wait: Callable[[], object]) -> None:
    record: list[str] = []

    def worker(name: str) -> None:
        try:
            wait()
            record.append("never")
        except Exception:
            record.append("never: TaskExit is no Exception")
        finally:
            record.append(name)

    def main() -> str:
        for name in "abc":
            daemon(lambda name=name: worker(name))
        yield_now()
        record.append("main")
        return "result"

    record.append(run_scheduler(main))
    assert record == ["main", "a", "b", "c", "result"]


@pytest.fixture
def loop_after_every_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scheduler looks after every switch whether it may end, where it else lets some pass."""
    monkeypatch.setattr("scheduler.loop._MOST_PASSES", 0)


@pytest.mark.usefixtures("loop_after_every_switch")
def test_one_that_yields_for_ever_and_one_that_never_ran() -> None:
    record: list[str] = []

    def spin() -> None:
        try:
            while True:
                yield_now()
        except TaskExit:
            record.append("spinner")
            raise

    def main() -> None:
        daemon(spin)
        yield_now()
        daemon(lambda: record.append("never"))

    run_scheduler(main)
    assert record == ["spinner"]


def test_also_after_main_has_failed() -> None:
    record: list[str] = []

    def worker() -> None:
        try:
            sleep(1000)
        finally:
            record.append("unwound")

    def main() -> None:
        daemon(worker)
        yield_now()
        raise ValueError("main")

    with pytest.raises(ValueError, match=r"^main$"):
        run_scheduler(main)
    assert record == ["unwound"]


@pytest.mark.usefixtures("loop_after_every_switch")
def test_daemons_live_as_long_as_any_other_thread() -> None:
    record: list[str] = []

    def beat() -> None:
        while True:
            record.append("beat")
            yield_now()

    def other() -> None:
        for _ in range(3):
            yield_now()
        record.append("other ends")

    def main() -> None:
        daemon(beat)
        current_task().scheduler.spawn(other)  # type: ignore[union-attr]

    run_scheduler(main)
    assert record == ["beat", "beat", "beat", "beat", "other ends"]


def test_finally_blocks_may_sleep_park_and_wake_one_another(run_virtually: Callable[..., Any]) -> None:
    queue = WaitQueue()
    record: list[str] = []

    def first() -> None:
        try:
            sleep(1000)
        finally:
            queue.park("second")
            record.append("first")

    def second() -> None:
        try:
            sleep(1000)
        finally:
            sleep(2)
            record.append("second")
            queue.unpark()

    def main() -> None:
        daemon(first)
        daemon(second)
        yield_now()

    run_virtually(main)
    assert record == ["second", "first"]


def test_one_that_waits_in_its_finally_for_what_never_comes_is_thrown_into_again() -> None:
    record: list[str] = []

    def worker() -> None:
        try:
            sleep(1000)
        finally:
            try:
                WaitQueue().park("what never comes")
            finally:
                record.append("unwound")

    def main() -> None:
        daemon(worker)
        yield_now()

    run_scheduler(main)
    assert record == ["unwound"]


def stubborn() -> None:
    while True:
        try:
            sleep(1000)
        except TaskExit:
            pass


def spinning() -> None:
    while True:
        try:
            yield_now()
        except TaskExit:
            pass


def waiting() -> None:
    while True:
        try:
            WaitQueue().park("for ever")
        except TaskExit:
            pass


@pytest.mark.parametrize("worker", [stubborn, spinning, waiting])
def test_those_who_refuse_to_end_are_abandoned_with_a_warning(worker: Callable[[], object]) -> None:
    scheduler = Scheduler(clock=VirtualClock())

    def main() -> str:
        daemon(worker, "Bartleby")
        daemon(lambda: sleep(1000), "Yes-man")
        daemon(worker, "Oblomov")
        yield_now()
        return "result"

    with pytest.warns(RuntimeWarning) as caught:
        assert scheduler.run(main) == "result"
    assert [str(warning.message) for warning in caught] == [
        "threads that refuse to end are abandoned: 'Bartleby', 'Oblomov'"
    ]
    # The kernel thread is free for the next.
    assert run_scheduler(lambda: "next") == "next"


def test_a_daemon_that_lets_the_first_throw_pass_ends_at_the_second() -> None:
    record: list[str] = []

    def worker() -> None:
        try:
            WaitQueue().park("for ever")
        except TaskExit:
            record.append("not yet")
        try:
            WaitQueue().park("for ever")
        finally:
            record.append("now")

    def main() -> None:
        daemon(worker)
        yield_now()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_scheduler(main)
    assert record == ["not yet", "now"]


def test_no_thread_starts_during_the_unwinding() -> None:
    record: list[str] = []

    def worker() -> None:
        try:
            sleep(1000)
        finally:
            try:
                daemon(lambda: record.append("never"))
            except RuntimeError as error:
                record.append(str(error))

    def main() -> None:
        daemon(worker)
        yield_now()

    run_scheduler(main)
    assert record == ["can't start new thread: its scheduler is ending"]


def test_an_exception_in_a_finally_is_reported_and_the_others_are_unwound(monkeypatch: pytest.MonkeyPatch) -> None:
    record: list[object] = []
    monkeypatch.setattr("sys.excepthook", lambda kind, error, traceback: record.append(str(error)))

    def worker(name: str) -> None:
        try:
            sleep(1000)
        finally:
            raise ValueError(name)

    def main() -> None:
        for name in "ab":
            daemon(lambda name=name: worker(name))
        yield_now()

    run_scheduler(main)
    assert record == ["a", "b"]


def test_a_kernel_thread_that_comes_late_finds_the_scheduler_closed_and_nothing_is_left(until: Any) -> None:
    scheduler = Scheduler()
    record: list[str] = []
    go = threading.Event()

    def late() -> None:
        go.wait()
        try:
            scheduler.spawn(lambda: record.append("never"))
        except RuntimeError as error:
            record.append(str(error))

    def worker() -> None:
        try:
            sleep(1000)
        finally:
            go.set()
            kernel.join()
            record.append("unwound")

    def main() -> None:
        kernel.start()
        daemon(worker)
        yield_now()

    kernel = threading.Thread(target=late)
    scheduler.run(main)
    assert record == ["can't start new thread: its scheduler is ending", "unwound"]
    assert scheduler.tasks == {}


@pytest.mark.usefixtures("loop_after_every_switch")
def test_a_pending_interrupt_gives_way_to_the_end() -> None:
    record: list[str] = []

    def worker() -> None:
        try:
            while True:
                yield_now()
        except BaseException as error:
            record.append(type(error).__name__)
            raise

    def main() -> None:
        task = daemon(worker)
        yield_now()
        task.interrupt(ValueError("pending"))

    run_scheduler(main)
    assert record == ["TaskExit"]


def test_a_failing_call_meanwhile_comes_out_after_all_are_unwound(run_virtually: Callable[..., Any]) -> None:
    record: list[str] = []

    def fail() -> None:
        raise ValueError("posted")

    def worker(name: str) -> None:
        try:
            sleep(1000)
        finally:
            current_task().scheduler.post(fail)  # type: ignore[union-attr]
            sleep(1)
            record.append(name)

    def main() -> None:
        for name in "ab":
            daemon(lambda name=name: worker(name))
        yield_now()
        raise KeyError("main")

    with pytest.raises(ValueError, match=r"^posted$") as raised:
        run_virtually(main)
    assert (record, repr(raised.value.__context__)) == (["a", "b"], "KeyError('main')")


def test_a_kernel_thread_may_wake_one_that_is_being_unwound(until: Any) -> None:
    """At once, not when the deadline of another has passed."""
    queue = WaitQueue()
    scheduler = Scheduler()
    record: list[str] = []

    def waiter() -> None:
        try:
            sleep(1000)
        finally:
            kernel.start()
            queue.park("the kernel thread")
            record.append("woken")
            other.interrupt(TaskExit())

    def sleeper() -> None:
        try:
            sleep(1000)
        finally:
            sleep(1000)

    def main() -> None:
        nonlocal other
        daemon(waiter)
        other = daemon(sleeper)
        yield_now()

    other: Any = None
    kernel = threading.Thread(target=lambda: (until(lambda: scheduler.asleep and len(queue)), queue.unpark()))
    scheduler.run(main)
    kernel.join()
    assert record == ["woken"]
