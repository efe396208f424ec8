"""`timeout`: a limit for all that a thread of either kind does in a block."""

from __future__ import annotations

from typing import Any

import pytest

from greenthreads import Event, Lock, Queue, Thread, ThreadInterrupted, run_scheduler, sleep, timeout, yield_now
from greenthreads.carriers import Kind
from scheduler import Scheduler, VirtualClock


def in_thread(kind: Kind, body: Any) -> list[object]:
    """What a function returns, or raises, in a thread of its own."""
    record: list[object] = []

    def guarded() -> None:
        try:
            record.append(body())
        except BaseException as error:
            record.append(repr(error))

    def main() -> None:
        thread = Thread(target=guarded, kind=kind)
        thread.start()
        thread.join()

    run_scheduler(main)
    return record


WAITS: dict[str, Any] = {
    "event": lambda: Event().wait(),
    "event with a longer timeout": lambda: Event().wait(1000),
    "queue": lambda: Queue().get(),
    "sleep": lambda: sleep(1000),
    "nested locks": lambda: (lock := Lock()).acquire() and lock.acquire(),
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS)
def test_a_wait_is_cut_short(wait: Any, kind: Kind) -> None:
    def body() -> None:
        with timeout(0.01):
            wait()

    assert in_thread(kind, body) == ["TimeoutError('timed out after 0.01 seconds')"]


def test_in_time_nothing_happens(kind: Kind) -> None:
    def body() -> list[bool]:
        with timeout(1000) as limit:
            yield_now()
        with timeout(None) as none:
            yield_now()
        return [limit.expired, none.expired]

    assert in_thread(kind, body) == [[False, False]]


def test_many_blocks_one_after_the_other_leave_nothing(kind: Kind) -> None:
    def body() -> int:
        for _ in range(50):
            with timeout(1000):
                pass
        return 50

    assert in_thread(kind, body) == [50]


def test_a_limit_is_exact_on_the_scheduler_s_clock() -> None:
    clock = VirtualClock()
    record: list[object] = []

    def main() -> None:
        try:
            with timeout(5) as limit:
                sleep(3)
                sleep(3)
        except TimeoutError:
            record.append((clock.now(), limit.expired))
        with timeout(5) as limit:
            sleep(4)
        sleep(10)
        record.append((clock.now(), limit.expired))

    scheduler = Scheduler(clock=clock)
    scheduler.run(main)
    assert record == [(5.0, True), (19.0, False)]
    assert len(scheduler.timers) == 0


@pytest.mark.parametrize(("outer", "inner", "left"), [(3, 5, "outer"), (5, 3, "inner"), (4, 4, "outer")])
def test_of_nested_blocks_each_has_its_own_limit(outer: float, inner: float, left: str, run_virtually: Any) -> None:
    def main() -> str:
        try:
            with timeout(outer):
                try:
                    with timeout(inner):
                        sleep(10)
                except TimeoutError:
                    return "inner"
        except TimeoutError:
            return "outer"
        return "neither"

    assert run_virtually(main) == left


def test_nested_blocks_in_a_kernel_thread() -> None:
    def body() -> str:
        with timeout(1000):
            try:
                with timeout(0.01):
                    Event().wait()
            except TimeoutError:
                return "inner"
        return "neither"

    assert in_thread("kernel", body) == ["inner"]


def test_handlers_in_the_block_let_it_pass_and_cleanup_runs(kind: Kind) -> None:
    record: list[str] = []

    def body() -> None:
        with timeout(0.01):
            try:
                Event().wait()
            except Exception:
                record.append("caught")
            finally:
                record.append("cleaned up")

    assert in_thread(kind, body) == ["TimeoutError('timed out after 0.01 seconds')"]
    assert record == ["cleaned up"]


def test_a_computation_in_a_kernel_thread_is_cut_short() -> None:
    def body() -> None:
        with timeout(0.01):
            while True:
                pass

    assert in_thread("kernel", body) == ["TimeoutError('timed out after 0.01 seconds')"]


def test_one_that_comes_as_the_block_ends_is_not_raised_after_it() -> None:
    """The time is up while the thread is ready to leave: it has been in time."""
    clock = VirtualClock()
    scheduler = Scheduler(clock=clock)
    record: list[object] = []

    def main() -> None:
        with timeout(5) as limit:
            clock.advance(5)
            scheduler.timers.fire(clock.now())
        record.append(limit.expired)
        sleep(1)
        record.append("undisturbed")

    scheduler.run(main)
    assert record == [False, "undisturbed"]


def test_the_lock_that_was_handed_over_as_time_was_up_is_released_by_its_block() -> None:
    clock = VirtualClock()
    scheduler = Scheduler(clock=clock)
    lock = Lock()
    record: list[str] = []

    def work() -> None:
        try:
            with timeout(5):
                with lock:
                    record.append("has it")
                    yield_now()
                    record.append("not reached")
        except TimeoutError:
            record.append("time is up")

    def main() -> None:
        with lock:
            thread = Thread(target=work)
            thread.start()
            yield_now()
        # It owns the lock now, and has not run; its time is up.
        clock.advance(5)
        scheduler.timers.fire(clock.now())
        thread.join()

    scheduler.run(main)
    assert record == ["has it", "time is up"]
    assert not lock.locked()


def test_an_exception_of_the_block_s_own_is_raised_as_it_is(kind: Kind) -> None:
    def body() -> None:
        with timeout(1000):
            raise KeyError("its own")

    assert in_thread(kind, body) == ["KeyError('its own')"]


def test_an_interrupt_in_the_block_is_no_timeout(kind: Kind, until: Any, waits: Any) -> None:
    record: list[object] = []

    def work() -> None:
        try:
            with timeout(1000):
                Event().wait()
        except ThreadInterrupted:
            record.append("interrupted")

    def main() -> None:
        thread = Thread(target=work, kind=kind)
        thread.start()
        until(lambda: waits(thread))
        thread.interrupt()
        thread.join()

    run_scheduler(main)
    assert record == ["interrupted"]


def test_around_a_whole_scheduler(outcome: Any) -> None:
    """The kernel thread's limit is then the main user thread's."""

    def main() -> None:
        Thread(target=yield_now).start()
        Event().wait()

    def body() -> None:
        with timeout(0.2):
            run_scheduler(main)

    assert outcome(body) == (TimeoutError, "timed out after 0.2 seconds")


def test_a_timeout_serves_one_block(outcome: Any) -> None:
    limit = timeout(1000)
    with limit:
        pass
    assert outcome(limit.__enter__) == (RuntimeError, "a timeout serves one block: make another")


@pytest.mark.parametrize(("seconds", "error"), [(float("nan"), ValueError), ("1", TypeError), ([], TypeError)])
def test_what_is_no_number_of_seconds_is_refused(seconds: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        timeout(seconds)


def test_an_infinite_limit_is_none(kind: Kind) -> None:
    record: list[object] = []

    def work() -> None:
        with timeout(float("inf")):
            sleep(0.001)
        record.append("in time")

    def main() -> None:
        thread = Thread(target=work, kind=kind)
        thread.start()
        thread.join()

    run_scheduler(main)
    assert record == ["in time"]
